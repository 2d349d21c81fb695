"""Controls of a reward: evidence of other groups, and probes made of what was chosen."""

import numpy as np

from preferences.contrasts import CONTRASTS
from preferences.reward_controls import probe_report, probe_rows, with_shuffled_evidence
from utils.completions import parse_completion, render_completion
from utils.text import REFUSAL

RIGHT = {"format": 1, "refusal": 1, "answer": 1, "support": 1, "precision": 1}


def pair(i, text, **checks):
    chunks = [
        {"title": f"Mill {i}", "text": f"It was built in 19{i:02} by Anna Berg for the town of Lund."},
        {"title": "Other", "text": "Carl Holm sold it in 1850."},
    ]
    return {
        "id": f"p{i}",
        "group": f"g{i // 2}",
        "question": "Who built the mill?",
        "evidence_chunks": chunks,
        "prompt": [{"role": "user", "content": f"prompt {i // 2}"}],
        "chosen": [{"role": "assistant", "content": text}],
        "judge": {"checks_chosen": RIGHT | checks},
    }


def test_evidence_is_taken_from_another_group():
    pairs = [pair(i, "x") for i in range(6)]
    shuffled = with_shuffled_evidence(pairs, [0, 1, 4])
    titles = [row["evidence_chunks"][0]["title"] for row in shuffled]
    # Pairs 0 and 1 share a group, so both get the evidence of pair 4, which gets that of pair 0.
    assert titles == ["Mill 4", "Mill 4", "Mill 0"]
    assert with_shuffled_evidence(pairs, [0]) == [pairs[0]]


def test_probes_are_made_of_the_chosen_completion():
    refusal = render_completion(REFUSAL, [], 0.0)
    pairs = [pair(0, render_completion("Anna Berg", [0], 0.9)), pair(2, refusal), pair(4, "prose")]
    rows = probe_rows(pairs, [0, 1, 2], 42)
    of_answer = {row["probe"]: row for row in rows if row["id"] == "p0"}
    assert set(of_answer) <= {None, "unparsable", *CONTRASTS}
    assert {"wrong answer", "citation out of range", "copied chunk", "refused", "unparsable"} <= set(
        of_answer
    )
    wrong = parse_completion(of_answer["wrong answer"]["completion"], 2)
    assert "Anna" not in wrong.answer and wrong.citations == [0]
    assert {row["probe"] for row in rows if row["id"] == "p2"} == {None, "answered", "unparsable"}
    # What cannot be parsed tells no truth to make probes of.
    assert not [row for row in rows if row["id"] == "p4"]


def test_a_chunk_that_may_support_the_answer_too_makes_no_probe():
    row = pair(0, render_completion("Anna Berg", [0], 0.9))
    assert {"wrong citation", "extra citation"} <= {probe["probe"] for probe in probe_rows([row], [0], 42)}
    row["evidence_chunks"][1]["text"] += " Anna Berg bought it back."
    assert not {"wrong citation", "extra citation"} & {probe["probe"] for probe in probe_rows([row], [0], 42)}


def test_another_accepted_answer_makes_no_wrong_one():
    row = pair(0, render_completion("Anna Berg", [0], 0.9))
    made = {probe["probe"]: probe["completion"] for probe in probe_rows([row], [0], 42)}
    answer = parse_completion(made["wrong answer"], 2).answer
    rich = {**row, "answer_aliases": ["Anna Berg", answer]}
    again = {probe["probe"]: probe["completion"] for probe in probe_rows([rich], [0], 42)}
    assert "wrong answer" not in again or parse_completion(again["wrong answer"], 2).answer != answer


def test_probes_are_made_of_what_is_right_alone():
    mistakes = [
        pair(0, render_completion("Carl Holm", [1], 0.9), answer=0),
        pair(2, render_completion("Anna Berg", [1], 0.9), support=0),
        pair(4, render_completion("Anna Berg", [0, 1], 0.9), precision=0),
        # The refusal of a question that has an answer.
        pair(6, render_completion(REFUSAL, [], 0.0), answer=0, support=0),
        # Of another tool.
        {**pair(8, render_completion("Anna Berg", [0], 0.9)), "judge": {}},
    ]
    assert probe_rows(mistakes, list(range(len(mistakes))), 42) == []


def test_probes_differ_from_the_clean_completion_in_what_they_name():
    for confidence in (1.0, 0.3):
        clean = render_completion("Anna Berg", [0], confidence)
        rows = probe_rows([pair(0, clean)], [0], 42)
        texts = {row["probe"]: row["completion"] for row in rows}
        assert texts.pop(None) == clean and clean not in texts.values()
        assert ("over-confident" in texts) == (confidence < 1)
        kept = {"wrong answer", "no citation", "extra citation", "padded", "copied chunk"} & set(texts)
        assert len(kept) == 5
        assert {parse_completion(texts[name], 2).confidence for name in kept} == {confidence}


def test_shares_count_what_is_below_the_clean_completion():
    rows = []
    for group, probe in (("a", None), ("a", "padded"), ("a", "refused"), ("b", None), ("b", "padded")):
        rows.append({"group": group, "probe": probe})
    report = probe_report(rows, {"reward": np.array([1.0, 0.0, 2.0, 1.0, 1.0])}, 42)
    assert report["reward"]["padded"] == {"n": 2, "below": 0.5, "ci95": None}
    assert report["reward"]["all"]["below"] == 1 / 3 and report["reward"]["refused"]["below"] == 0.0
