"""A row that breaks a rule is named by the rule and the value found."""

import pytest

from utils.pair_rules import preference_problem
from utils.rules import sample_problem


@pytest.mark.parametrize(
    "change, word",
    [
        ({"support_spans": [0, 7]}, "chunks 0-3"),
        ({"support_spans": [0]}, "union"),
        ({"hard_negatives": [1]}, "hard_negatives"),
        ({"answer_aliases": ["Paris"]}, "must start with"),
        ({"answerable": False}, "unanswerable"),
        # JSON has true and false; a string would count as true.
        ({"answerable": "yes"}, "must be bool"),
        ({"id": "nq:1"}, "source"),
        ({"evidence_chunks": []}, "empty"),
        ({"question": " "}, "question is empty"),
        # An empty set would be cited in full by every answer.
        ({"support_sets": [[]]}, "support_sets"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(sample, change, word):
    assert word in sample_problem({**sample, **change})


def test_whole_samples_have_no_problem(sample, unanswerable):
    assert sample_problem(sample) is None and sample_problem(unanswerable) is None


def test_a_pair_of_equal_texts_is_no_preference(sample):
    # The pair differs in nothing else from a valid one, as the last line shows.
    message = [{"role": "assistant", "content": "x"}]
    row = {
        "id": "a",
        "sample_id": "b",
        "source": "popqa",
        "group": "g",
        "question": "q",
        "answerable": True,
        "evidence_chunks": sample["evidence_chunks"],
        "prompt": message,
        "chosen": message,
        "rejected": message,
        "margin": 0.5,
        "score_chosen": 1,
        "score_rejected": 0.5,
        "chosen_model": "sft",
        "rejected_model": "base",
        "decided_by": "verifier",
        "judge": {},
    }
    assert "same text" in preference_problem(row)
    reply = {"role": "assistant", "content": "y"}
    assert preference_problem({**row, "rejected": [reply]}) is None
    whole = {**row, "rejected": [reply]}
    assert "judge.checks_chosen must be dict" in preference_problem({**whole, "judge": {"checks_chosen": 1}})
    assert "found user, assistant" in preference_problem(
        {**row, "rejected": [{**reply, "role": "user"}, reply]}
    )
    turned = preference_problem({**whole, "score_chosen": 0.25})
    assert turned == "score_chosen 0.25 is below score_rejected 0.5: the sides are turned"
    assert "rejected[0].content is empty" in preference_problem(
        {**row, "rejected": [{**reply, "content": " "}]}
    )
