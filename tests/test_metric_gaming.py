"""Seven ways to game an evaluation: a test names the weak metric that a game wins, and works ours by hand.

The two samples: "Where was Marie Curie born?" over four chunks, where chunk 0 alone or chunk 2 alone supports
"Warsaw"; and its twin without support.
"""

import pytest

from benchmarks.games import GAMES, play
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


@pytest.mark.parametrize("game", GAMES)
def test_no_game_beats_honest_answers(game, samples):
    _, ours = play(game, samples)
    terms, _ = score_rows(gold_rows(samples), samples)
    gold = rates_from_sums(total(group_sums(terms, ["a", "b"])))
    for name in ("net_score", "trust_score", "joint_f1"):
        assert ours[name] < gold[name], name
    # A wrong answer can cite rightly: citations alone may tie with gold, never beat it.
    assert ours["citation_f1"] < gold["citation_f1"] or ours["citation_f1"] == gold["citation_f1"] == 1.0
