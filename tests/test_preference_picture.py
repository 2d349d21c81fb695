"""The picture beside preference_stats_*.json: its numbers, and which panels it has."""

import pytest

from evaluation.preference_figures import preference_charts
from preferences.stats import form_quantiles, margin_counts, write_statistics
from utils.completions import render_completion
from utils.jsonl import read_json

SHARE = {"n": 40, "mean": 0.6, "ci95": [0.5, 0.7]}


def pair(margin, chosen, rejected):
    sides = {"chosen": chosen, "rejected": rejected}
    messages = {side: [{"role": "assistant", "content": text}] for side, text in sides.items()}
    return {**messages, "margin": margin, "evidence_chunks": [{"title": "a", "text": "b"}]}


ROWS = [
    pair(0.25, render_completion("Warsaw", [0], 0.9), "prose"),
    pair(0.7, render_completion("Warsaw", [0], 0.5), "more prose"),
    pair(1.0, render_completion("Warsaw", [0], 0.7), ""),
]
STATS = {"n_pairs": 3, "by_kind": {"other answer": 2, "over unparsable": 1}, "mean_margin": 0.65}


def charts_of(stats):
    added = {"margins": margin_counts(ROWS), "form": form_quantiles(ROWS)}
    return {chart.title: chart for chart in preference_charts({**stats, **added})}


def test_margins_are_counted_in_tenths():
    assert margin_counts(ROWS) == [0, 0, 1, 0, 0, 0, 0, 1, 0, 1]
    # Of these, 0.3 * 10 and 0.6 * 10 are whole, and 0.29 is in the tenth below.
    assert margin_counts([pair(m, "a", "b") for m in (0, 0.1, 0.29, 0.3, 0.6)])[:7] == [1, 1, 1, 1, 0, 0, 1]


def test_form_is_told_by_quantiles_of_each_side():
    form = form_quantiles(ROWS)
    assert form["rejected"]["length"][::5] == [0.0, 5.0, 10.0]
    assert form["chosen"]["confidence"][::5] == [0.5, 0.7, 0.9]
    # Prose states no confidence.
    assert form["rejected"]["confidence"] is None


def test_pairs_of_the_verifier_have_no_panel_of_a_judge():
    charts = charts_of({**STATS, "judge": None, "style_only": None})
    assert list(charts) == ["Pairs by kind", "Margins", "Length of the completions", "Stated confidence"]
    assert charts["Pairs by kind"].lines[0].points == [(0.0, 2.0), (1.0, 1.0)]
    assert [line.name for line in charts["Length of the completions"].lines] == ["chosen", "rejected"]
    assert [line.name for line in charts["Stated confidence"].lines] == ["chosen"]


def test_judge_and_style_are_shown_with_intervals_beside_chance():
    names = ("verifier_agreement", "longer_wins", "longer_wins_verifier", "p_label_a")
    judge = dict.fromkeys(names, SHARE) | {"longer_wins": {"n": 0, "mean": None, "ci95": None}}
    style = {"accuracy": 0.6, "roc_auc": 0.55, "accuracy_ci95": [0.5, 0.7]}
    charts = charts_of({**STATS, "judge": judge, "style_only": style})
    (line,) = charts["Judge model"].lines
    # Nothing was compared of different lengths, so that place is empty.
    assert line.points == [(0.0, 0.6), (2.0, 0.6), (3.0, 0.6)] and line.bars == [[0.5, 0.7]] * 3
    (line,) = charts["What style alone tells"].lines
    assert line.points == [(0.0, 0.6), (1.0, 0.55)] and line.bars == [[0.5, 0.7], None]
    assert all(charts[title].guide == (0.5, "chance") for title in ("Judge model", "What style alone tells"))


@pytest.mark.parametrize("judge", [None, dict.fromkeys(["verifier_agreement", "longer_wins"], SHARE)])
def test_the_picture_is_beside_the_statistics(judge, tmp_path):
    judge = judge and {**judge, "longer_wins_verifier": SHARE, "p_label_a": SHARE}
    path = tmp_path / "preference_stats_a-b.json"
    write_statistics(path, {**STATS, "judge": judge, "style_only": None}, ROWS)
    assert read_json(path)["margins"] == margin_counts(ROWS)
    assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
