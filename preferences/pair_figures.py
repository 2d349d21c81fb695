"""The figures of validation.json that come from scores of test pairs alone: over all, and per part of them.

`sides` are scores by name, each (of chosen, of rejected), (n_pairs,) both. This module knows nothing about
models, heads or completions.
"""

from collections.abc import Sequence

import numpy as np

from preferences.pair_report import (
    macro_leads,
    margin_correlation,
    preference_calibration,
    preference_reliability,
    wins,
)
from preferences.pairs import interval, pair_metrics
from preferences.sft_samples import SftSamples
from utils.pair_rules import kind_of

Sides = dict[str, tuple[np.ndarray, np.ndarray]]


def by_part(
    chosen: np.ndarray, rejected: np.ndarray, parts: Sequence[str], groups: list[str], seed: int
) -> dict[str, dict]:
    """`pair_metrics` per part (kind or source of the pairs), with their 95% intervals by group."""
    found = {}
    for part in sorted(set(parts)):
        places = [i for i, of_pair in enumerate(parts) if of_pair == part]
        of_part = (chosen[places], rejected[places])
        intervals = interval(*of_part, [groups[i] for i in places], seed)
        found[part] = {"n": len(places), **pair_metrics(*of_part), "ci95": intervals}
    return found


def _kinds(pairs: list[dict]) -> list[str]:
    return [kind_of(row) for row in pairs]


def _main_figures(pairs: list[dict], sides: Sides, seed: int) -> dict:
    """The metrics of each score on these pairs, and the lead of the reward with kinds weighing alike."""
    groups = [row["group"] for row in pairs]
    figures = {}
    won = {}
    for name, of_score in sides.items():
        figures[name] = pair_metrics(*of_score) | {"ci95": interval(*of_score, groups, seed)}
        won[name] = wins(*of_score)
    return {
        "n_test_pairs": len(pairs),
        "n_test_groups": len(set(groups)),
        "test": figures,
        "over_kinds": macro_leads(won, "reward", _kinds(pairs), groups, seed),
    }


def pair_figures(pairs: list[dict], sides: Sides, seed: int) -> dict:
    """The figures of all test pairs; `sides` has "reward" and "head_only" among others."""
    groups = [row["group"] for row in pairs]
    sources = [row["source"] for row in pairs]
    margins = np.array([row["margin"] for row in pairs])
    reliability = preference_reliability(*sides["head_only"])
    return {
        **_main_figures(pairs, sides, seed),
        "by_kind": {name: by_part(*values, _kinds(pairs), groups, seed) for name, values in sides.items()},
        "by_source": {name: by_part(*values, sources, groups, seed) for name, values in sides.items()},
        "calibration_error": preference_calibration(reliability),
        "reliability": reliability,
        "margin_correlation": margin_correlation(margins, *sides["reward"]),
    }


def sft_figures(pairs: list[dict], sides: Sides, sft: SftSamples, seed: int) -> dict:
    """How many test pairs are of samples that the SFT model was trained on, and the figures without them.

    {"models", "problem", "n_test_pairs", "without"}. The count is None where nothing tells; "without" leaves
    out the whole groups of such samples, and is None if there are none or if no pair is left.
    """
    about = {"models": sft.models, "problem": sft.problem}
    if sft.problem:
        return {**about, "n_test_pairs": None, "without": None}
    is_seen = [row["sample_id"] in sft.ids for row in pairs]
    groups = {row["group"] for row, seen in zip(pairs, is_seen) if seen}
    left = [i for i, row in enumerate(pairs) if row["group"] not in groups]
    without = None
    if groups and left:
        of_left = {name: (chosen[left], rejected[left]) for name, (chosen, rejected) in sides.items()}
        without = _main_figures([pairs[i] for i in left], of_left, seed)
    return {**about, "n_test_pairs": sum(is_seen), "without": without}


def describe_sft(figures: dict, n_test_pairs: int) -> str:
    """One line about `sft_figures` below the table of a validation."""
    if figures["problem"]:
        return f"test pairs of samples in SFT training: unknown ({figures['problem']})"
    models = ", ".join(figures["models"])
    line = f"test pairs of samples that {models} was trained on: {figures['n_test_pairs']} of {n_test_pairs}"
    if without := figures["without"]:
        reward = without["test"]["reward"]
        line += (
            f"; without their groups {without['n_test_pairs']} pairs: "
            f"reward accuracy {reward['accuracy']:.3f}, roc_auc {reward['roc_auc']:.3f}"
        )
    return line
