"""What the scores of pairs are worth: by kind of pair, beside other scores, against margins and chance.

A score wins a pair where its chosen side has more. Every figure over kinds weighs kinds alike, so that the
many pairs of one kind do not hide the others. This module knows nothing about models or completions.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import spearmanr

from utils.intervals import MIN_GROUPS, draw_counts, group_index, percentile_interval

_N_BINS = 10


def wins(chosen: np.ndarray, rejected: np.ndarray) -> np.ndarray:
    """1 where a pair is ranked right, 0.5 for a tie, else 0: (n_pairs,)."""
    return (chosen > rejected) + 0.5 * (chosen == rejected)


def _sums(won: np.ndarray, kinds: Sequence[str], groups: list[str]) -> np.ndarray:
    """Right pairs and pairs per group and kind: (n_groups, n_kinds, 2)."""
    index, n_groups = group_index(groups)
    names = sorted(set(kinds))
    sums = np.zeros((n_groups, len(names), 2))
    for group, kind, value in zip(index, kinds, won):
        sums[group, names.index(kind)] += (value, 1.0)
    return sums


def _macro(sums: np.ndarray) -> np.ndarray:
    """Mean over kinds of right / all: (..., n_kinds, 2) -> (...); a kind without a pair is left out."""
    with np.errstate(invalid="ignore"):
        return np.nanmean(sums[..., 0] / sums[..., 1], axis=-1)


def macro_leads(
    won: dict[str, np.ndarray], first: str, kinds: Sequence[str], groups: list[str], seed: int
) -> dict[str, dict]:
    """Accuracy over kinds weighing alike, per score, and the lead of the score `first` over each other.

    `won[name]` is (n_pairs,). Intervals are 95%, paired, by group; None under 20 groups.
    """
    sums = {name: _sums(values, kinds, groups) for name, values in won.items()}
    n_groups = len(sums[first])
    drawn = {}
    if n_groups >= MIN_GROUPS:
        counts = draw_counts(n_groups, seed)
        for name, of_score in sums.items():
            flat = of_score.reshape(n_groups, -1).astype(np.float32)
            drawn[name] = _macro((counts @ flat).reshape(len(counts), -1, 2).astype(float))
    found: dict[str, dict] = {}
    for name, of_score in sums.items():
        row: dict = {"macro_accuracy": float(_macro(of_score.sum(0)))}
        row["ci95"] = percentile_interval(drawn[name]) if drawn else None
        if name != first:
            row["lead"] = float(_macro(sums[first].sum(0)) - _macro(of_score.sum(0)))
            row["lead_ci95"] = percentile_interval(drawn[first] - drawn[name]) if drawn else None
        found[name] = row
    return found


def preference_reliability(chosen: np.ndarray, rejected: np.ndarray) -> list[dict]:
    """P(chosen preferred) = sigmoid(s_chosen - s_rejected) beside how often it is right, in ten bins.

    Which side is called chosen is no event, so a pair's confidence is that in its higher score, from 0.5 on,
    and it is right where that one is chosen. A bin with pairs is {"n", "confidence", "accuracy"}, both means.
    """
    confidence = 1 / (1 + np.exp(-np.abs(chosen - rejected)))
    right = wins(chosen, rejected)
    places = np.minimum(((confidence - 0.5) * 2 * _N_BINS).astype(int), _N_BINS - 1)
    bins = []
    for place in np.unique(places):
        inside = places == place
        row = {"n": int(inside.sum()), "confidence": float(confidence[inside].mean())}
        bins.append(row | {"accuracy": float(right[inside].mean())})
    return bins


def preference_calibration(bins: list[dict]) -> float:
    """Expected calibration error of `preference_reliability` (Guo et al., 2017): mean gap, pairs alike."""
    gaps = sum(row["n"] * abs(row["accuracy"] - row["confidence"]) for row in bins)
    return gaps / sum(row["n"] for row in bins)


def margin_correlation(margins: np.ndarray, chosen: np.ndarray, rejected: np.ndarray) -> float | None:
    """Spearman's rank correlation of margins and score differences; None where one of them is constant."""
    differences = chosen - rejected
    if len(set(margins)) < 2 or len(set(differences)) < 2:
        return None
    return float(spearmanr(margins, differences).statistic)
