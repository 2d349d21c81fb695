"""Ways to game an evaluation: a test names the weak metric that a game wins, and works ours by hand.

The two samples: "Where was Marie Curie born?" over four chunks, where chunk 0 alone or chunk 2 alone supports
"Warsaw"; and its twin without support.
"""

import pytest

from benchmarks.games import GAMES, NEAR_MISSES, play
from evaluation.results import score_rows
from tests.canned import gold_rows
from utils.completions import render_completion
from utils.intervals import group_sums, total
from utils.metrics import rates_from_sums


@pytest.fixture
def samples(sample, unanswerable):
    return [sample, unanswerable]


def test_wrong_answers_that_cite_chunk_0_win_legacy_uncited_rate_only(samples):
    weak, ours = play("wrong answers that cite chunk 0", samples)
    assert weak == 0.0 == ours["legacy_uncited_rate"]
    # Both samples are answered: one wrongly, one that has no answer.
    assert ours["hallucination_rate"] == 1.0
    assert ours["hallucination_wrong"] == ours["hallucination_unanswerable"] == 0.5
    assert ours["net_score"] == -1.0 and ours["em"] == 0.0 and ours["joint_f1"] == 0.0
    assert ours["trust_score"] < 0.5


def test_right_answers_that_cite_ids_out_of_range_win_em_only(samples):
    weak, ours = play("right answers that cite ids out of range", samples)
    assert weak == 1.0 == ours["em_answerable"]
    for name in ("citation_precision", "citation_recall", "citation_correctness", "joint_f1"):
        assert ours[name] == 0.0, name
    # The answer has no support (-1); the refusal is right (+1) but cites something and breaks the schema.
    assert ours["hallucination_unsupported"] == 0.5 and ours["net_score"] == 0.0
    assert ours["spurious_citation_rate"] == 1.0 and ours["schema_valid_rate"] == 0.0


def test_refusing_everything_wins_errors_per_answer_only(samples):
    weak, ours = play("refusing everything", samples)
    assert weak == 0.0 == ours["hallucination_rate"]
    # Refusing: precision 1/2, recall 1, F1 2/3; answering: F1 0; mean 1/3.
    assert ours["refusal_f1"] == pytest.approx(1 / 3) and ours["over_refusal_rate"] == 1.0
    assert ours["answered_rate"] == 0.0
    assert ours["em_answerable"] == ours["citation_f1"] == 0.0
    # 0 for the refused answerable, +1 for the right refusal: what `always_refuse` earns in every table.
    assert ours["net_score"] == 0.5


def test_citing_everything_wins_recall_of_support_only(samples):
    weak, ours = play("citing everything", samples)
    assert weak == 1.0 == ours["citation_recall"]
    # Two of four cited chunks support: precision 1/2, F1 2/3; the set is not within the support.
    assert ours["citation_precision"] == 0.5 and ours["citation_f1"] == pytest.approx(2 / 3)
    assert ours["citation_correctness"] == 0.0
    assert ours["spurious_citation_rate"] == 1.0


def test_unparsable_text_wins_legacy_uncited_rate_only(samples):
    weak, ours = play("unparsable text", samples)
    assert weak == 0.0 == ours["legacy_uncited_rate"] == ours["hallucination_rate"]
    assert ours["unparsable_rate"] == 1.0 and ours["answered_rate"] == ours["refusal_rate"] == 0.0
    assert ours["net_score"] == -1.0 and ours["refusal_f1"] == 0.0 and ours["under_refusal_rate"] == 1.0


def test_repeating_the_question_wins_overlap_with_the_question_only(samples):
    weak, ours = play("repeating the question", samples)
    assert weak == 1.0
    # No word of "Where was Marie Curie born?" is in "Warsaw".
    assert ours["f1_answerable"] == 0.0 and ours["hallucination_rate"] == 1.0 and ours["net_score"] == -1.0


def test_a_claim_that_names_both_verdicts_is_not_answered_by_repeating_it(sample):
    question = "Is this claim supported or refuted by the evidence? She was born in Warsaw."
    gold = {"answer": "supported", "answer_aliases": ["supported", "supports", "true"]}
    claim = {**sample, "question": question, **gold}
    completion = render_completion("Is this claim supported or refuted by the evidence?", [0], 1.0)
    terms, _ = score_rows([{"id": claim["id"], "completion": completion}], [claim])
    # The answer contains "supported": containment would say 1, token F1 2/8. Verdicts get no partial credit.
    assert terms[0]["em"] == terms[0]["f1"] == terms[0]["joint_f1"] == 0.0 and terms[0]["net_score"] == -1.0


def test_copying_a_chunk_wins_containment_only(samples):
    weak, ours = play("copying a chunk as the answer", samples)
    assert weak == 1.0
    # "she was born in warsaw in 1867": 1 of 7 tokens, recall 1, F1 1/4, below the 0.5 that counts as right.
    assert ours["f1_answerable"] == pytest.approx(0.25) and ours["em_answerable"] == 0.0
    assert ours["hallucination_wrong"] == 0.5 and ours["net_score"] == -1.0
    # Joint: precision 1/7 x 1 and recall 1 x 1 (chunk 0 is a whole set), F1 1/4; the other sample adds 0.
    assert ours["joint_f1"] == pytest.approx(0.125)


def with_gold(sample, *accepted):
    """The sample with other accepted answers; its support stays chunks 0 and 2."""
    return {**sample, "answer": accepted[0], "answer_aliases": list(accepted)}


# game -> (accepted answer, answer that the game gives, its F1)
NEAR_MISSES_BY_HAND = {
    # Two of three words on both sides.
    "one word of a name replaced": ("Marie Sklodowska Curie", "Marie Sklodowska Hussein", 2 / 3),
    # Precision 1, recall 1/3.
    "the first word of a long name": ("Marie Sklodowska Curie", "Marie", 0.5),
    "a year off by ten": ("November 7, 1867", "November 7, 1877", 2 / 3),
    # Precision 1/3, recall 1.
    "three years for one": ("1867", "1866, 1867, 1868", 0.5),
    "another month": ("November 7, 1867", "June 7, 1867", 2 / 3),
    "another number": ("5 Nobel Prizes", "11 Nobel Prizes", 2 / 3),
    "another unit": ("5 million people", "5 million parsecs", 2 / 3),
    "the answer denied": ("Warsaw", "not Warsaw", 2 / 3),
    # Precision 1/3, recall 1.
    "an alternative with or": ("Warsaw", "Warsaw or London", 0.5),
    # Precision 2/5, recall 1.
    "an alternative with maybe": ("Old Warsaw", "Old Warsaw, or maybe London", 4 / 7),
    "an alternative with and": ("Warsaw", "Warsaw and London", 0.5),
    "an alternative after a slash": ("Warsaw", "Warsaw / London", 2 / 3),
    "answered and refused at once": ("Warsaw", "Warsaw [INSUFFICIENT_EVIDENCE]", 2 / 3),
}


@pytest.mark.parametrize("game", NEAR_MISSES)
def test_near_misses_with_gold_citations_win_the_old_rule_only(game, sample):
    accepted, answer, f1 = NEAR_MISSES_BY_HAND[game]
    assert NEAR_MISSES[game](accepted) == answer
    weak, ours = play(game, [with_gold(sample, accepted)])
    assert weak == 1.0 and ours["net_score_lenient"] == 1.0 and ours["hallucination_rate_lenient"] == 0.0
    assert ours["hallucination_wrong"] == ours["hallucination_rate"] == 1.0 and ours["net_score"] == -1.0
    # The citations are gold and the shared words are counted: only the answer is wrong.
    assert ours["citation_correctness"] == 1.0 and ours["em"] == 0.0 and ours["f1"] == pytest.approx(f1)
    # Stated 0.9 and never right.
    assert ours["ece"] == pytest.approx(0.9)


@pytest.mark.parametrize("game", NEAR_MISSES)
def test_near_misses_leave_verdicts_and_unanswerable_samples_alone(game, sample, unanswerable):
    assert play(game, [with_gold(sample, "refuted", "no"), unanswerable]) is None


def test_listing_all_titles_wins_containment_only(sample):
    titles = [chunk["title"] for chunk in sample["evidence_chunks"]]
    weak, ours = play("listing all titles", [with_gold(sample, titles[1])])
    assert weak == 1.0 and ours["citation_correctness"] == 1.0
    assert ours["hallucination_wrong"] == 1.0 and ours["net_score"] == -1.0


@pytest.mark.parametrize("game", ["the opposite verdict", "both verdicts"])
def test_wrong_verdicts_win_recall_of_support_only(game, sample):
    rows = [with_gold(sample, "refuted", "refutes", "false"), with_gold({**sample, "id": "b"}, "yes")]
    # The support sets are alternatives: one of two chunks is cited, which is one full set.
    weak, ours = play(game, rows)
    assert weak == 0.5 and ours["citation_recall"] == 1.0
    assert ours["hallucination_wrong"] == 1.0 and ours["net_score"] == -1.0 and ours["em"] == 0.0


def test_yes_to_everything_wins_where_yes_is_right_only(sample):
    rows = [with_gold(sample, "supported"), with_gold({**sample, "id": "b"}, "refuted")]
    weak, ours = play("yes to everything", rows)
    assert weak == 1.0
    # One of two verdicts is right, as for a coin.
    assert ours["em"] == 0.5 and ours["hallucination_wrong"] == 0.5 and ours["net_score"] == 0.0


def test_being_certain_of_everything_wins_mean_confidence_only(samples):
    weak, ours = play("certain of everything", samples)
    assert weak == 1.0
    # Right once (+1), made up once (-1), stated 1.0 both times.
    assert ours["net_score"] == 0.0 and ours["hallucination_unanswerable"] == 0.5
    assert ours["ece"] == pytest.approx(0.5) and ours["brier"] == pytest.approx(0.5)
    assert ours["confidence_is_constant"] is True


@pytest.mark.parametrize("game", [game for game in GAMES if game not in NEAR_MISSES])
def test_no_game_beats_honest_answers(game, samples):
    verdicts = [with_gold({**samples[0], "id": f"v:{gold}"}, gold) for gold in ("supported", "refuted")]
    title = samples[0]["evidence_chunks"][1]["title"]
    samples = [*samples, *verdicts, with_gold({**samples[0], "id": "t"}, title)]
    found = play(game, samples)
    assert found is not None
    _, ours = found
    terms, _ = score_rows(gold_rows(samples), samples)
    gold = rates_from_sums(total(group_sums(terms, list("abcde"))))
    for name in ("net_score", "trust_score", "joint_f1"):
        # A game on answerable samples alone has no refusal figure, and so no trust score.
        assert ours[name] is None or ours[name] < gold[name], name
    # A wrong answer can cite rightly: citations alone may tie with gold, never beat it.
    assert ours["citation_f1"] < gold["citation_f1"] or ours["citation_f1"] == gold["citation_f1"] == 1.0
