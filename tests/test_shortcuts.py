"""Shortcuts: what the surface of samples gives away, and the rules that answer from it."""

import pytest

from evaluation.baselines import baseline_predictions
from evaluation.overlap import overlap_rule
from evaluation.thresholds import refuse_below, thresholds_by_source
from evidence.surface import asks_verdict, nearest_chunk, says_everything, surface_of
from utils.text import REFUSAL

PREFIX = "Is this claim supported or refuted by the evidence?"


def claim_sample(claim: str, chunks: list[tuple[str, str]]) -> dict:
    """A FEVER sample without any gold: what a rule may see."""
    return {
        "id": "fever:1",
        "source": "fever",
        "question": f"{PREFIX} {claim}",
        "evidence_chunks": [{"title": title, "text": text} for title, text in chunks],
        "metadata": {"claim": claim},
    }


WARSAW = ("Marie Curie", "Marie Curie was born in Warsaw in 1867.")
PARIS = ("Paris", "Paris is a city on the Seine.")


def hide_gold(sample: dict) -> dict:
    """The sample with another gold, which no rule may notice."""
    metadata = {key: value for key, value in sample["metadata"].items() if key == "claim"}
    n_chunks = len(sample["evidence_chunks"])
    gold = {"answer": "nonsense", "answer_aliases": ["nonsense"], "answerable": True, "group": "g"}
    ids = {"support_sets": [[0]], "support_spans": [0], "hard_negatives": list(range(1, n_chunks))}
    return {**sample, **gold, **ids, "metadata": metadata}


# --- the surface and the overlap rule


@pytest.mark.parametrize(
    ("claim", "answer"),
    [
        ("Marie Curie was born in Warsaw.", "supported"),
        # A number, a name and a negation that the chunk does not say.
        ("Marie Curie was born in 1868.", "refuted"),
        ("Marie Curie was born in Berlin.", "refuted"),
        ("Marie Curie was not born in Warsaw.", "refuted"),
    ],
)
def test_the_overlap_rule_cites_the_nearest_chunk_and_refutes_what_it_does_not_say(claim, answer):
    found, citations, confidence = overlap_rule(claim_sample(claim, [PARIS, WARSAW]))
    assert (found, citations) == (answer, [1]) and confidence > 0


def test_the_overlap_rule_refuses_a_claim_that_names_no_title():
    assert overlap_rule(claim_sample("Pierre taught physics.", [PARIS, WARSAW])) == (REFUSAL, [], 0.0)


def test_the_overlap_rule_answers_questions_from_the_chunk_whose_title_they_name(sample, unanswerable):
    # Chunks 0 and 2 say "Marie Curie" and born or birthplace; the title of chunk 0 is named.
    answer, citations, _ = overlap_rule(sample)
    assert answer != REFUSAL and citations == [0]
    assert overlap_rule(unanswerable) == (REFUSAL, [], 0.0)
    asked = {**sample, "question": "Was Marie Curie born in Warsaw?"}
    assert overlap_rule(asked)[0] == "yes"
    assert overlap_rule({**sample, "question": "Was Marie Curie born in Berlin?"})[0] == "no"


def test_a_choice_and_an_open_question_ask_for_no_verdict(sample):
    assert not asks_verdict(sample)
    assert not asks_verdict({**sample, "question": "Is Curie a physicist or a chemist?"})
    assert asks_verdict({**sample, "question": "Is Curie a physicist?"})


def test_a_title_is_named_without_its_parenthesis_and_as_whole_words():
    claim = "Ugly is a film of 2013."
    chunks = [("Ugly (film)", "A film."), ("Ugly Betty", "A series."), ("Ug", "A word."), ("The", "A word.")]
    surface = surface_of(claim_sample(claim, chunks))
    assert [chunk.is_named for chunk in surface.chunks] == [1, 0, 0, 0]
    assert nearest_chunk(surface) == 0 and not says_everything(surface.chunks[0])


# --- thresholds


def test_a_source_in_which_a_rule_loses_against_refusing_is_refused(sample):
    def always_wrong(sample):
        return "wrong", [0], 0.5

    right = {**sample, "source": "good", "answer": "wrong", "answer_aliases": ["wrong"]}
    thresholds = thresholds_by_source(always_wrong, [sample, right])
    rule = refuse_below(always_wrong, thresholds)
    assert rule(sample)[0] == REFUSAL and rule(right)[0] == "wrong"


# --- no rule sees the gold


def test_predictions_of_rules_do_not_depend_on_the_gold_of_the_test_file(samples):
    test, val = samples[:40], samples[40:80]
    assert baseline_predictions(test, val) == baseline_predictions([hide_gold(s) for s in test], val)
