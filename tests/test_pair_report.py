"""Figures of scored pairs by hand: kinds that weigh alike, leads, calibration, correlation with margins."""

import numpy as np
import pytest

from preferences.pair_report import (
    macro_leads,
    margin_correlation,
    preference_calibration,
    preference_reliability,
    wins,
)


def test_kinds_weigh_alike_and_leads_are_paired():
    kinds = ["x"] * 90 + ["y"] * 30
    groups = [f"g{i % 40}" for i in range(120)]
    right = np.ones(120)
    # Half of the rare kind is wrong: accuracy 0.875, over kinds 0.75.
    other = np.r_[np.ones(90), np.tile([0.0, 1.0], 15)]
    found = macro_leads({"reward": right, "style": other}, "reward", kinds, groups, 42)
    assert found["reward"]["macro_accuracy"] == 1.0 and found["style"]["macro_accuracy"] == 0.75
    assert found["style"]["lead"] == 0.25
    low, high = found["style"]["lead_ci95"]
    assert 0 < low < 0.25 < high < 0.5
    few = macro_leads({"reward": right[:5], "style": other[:5]}, "reward", kinds[:5], groups[:5], 42)
    assert few["style"]["lead_ci95"] is None


def test_ties_win_half():
    assert wins(np.array([1.0, 0.5, 0.0]), np.array([0.0, 0.5, 1.0])).tolist() == [1.0, 0.5, 0.0]


def test_a_sure_score_that_is_often_wrong_is_badly_calibrated():
    sure = np.full(100, 20.0)
    chosen = np.where(np.arange(100) < 60, sure, 0.0)
    rejected = np.where(np.arange(100) < 60, 0.0, sure)
    bins = preference_reliability(chosen, rejected)
    assert bins == [{"n": 100, "confidence": pytest.approx(1.0), "accuracy": 0.6}]
    assert preference_calibration(bins) == pytest.approx(0.4, abs=1e-6)
    always_right = preference_reliability(sure, np.zeros(100))
    assert preference_calibration(always_right) == pytest.approx(0.0, abs=1e-6)


def test_bins_are_of_the_higher_score():
    # Differences 0 (a tie), 1 and -1: sigmoid(1) = 0.731, once right and once wrong.
    bins = preference_reliability(np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, 1.0]))
    assert [row["n"] for row in bins] == [1, 2]
    assert [row["accuracy"] for row in bins] == [0.5, 0.5]
    assert [row["confidence"] for row in bins] == pytest.approx([0.5, 0.7311], abs=1e-4)


def test_margins_and_differences_are_compared_by_rank():
    margins = np.array([0.25, 0.5, 0.75, 1.0])
    assert margin_correlation(margins, margins**3, np.zeros(4)) == pytest.approx(1.0)
    assert margin_correlation(np.ones(4), margins, np.zeros(4)) is None
