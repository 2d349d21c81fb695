"""The penalty weights that rank the val pairs best, for a head that is already trained.

    reward = standardized head score - sum of weight x penalty

The head stays as it is; its config.json gets the weights, and with them every use of it. Test pairs are never
looked at. This module knows scores and penalties, not how either is computed.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from preferences.features import as_completions
from preferences.head_training import macro_metrics
from preferences.pairs import pair_metrics
from preferences.reward import PENALTIES, load_head, penalty_table, penalty_totals, rewards
from utils.jsonl import write_json
from utils.own_files import MEASURED_HEAD, RUN
from utils.pair_rules import kind_of
from utils.shapes import read_shaped

# In standard deviations of the head's score: with 2 a full penalty outweighs nearly every difference of it.
GRID = (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)
# What is tuned: pairs weigh answers and refusals alike, so they cannot say what a refusal should cost.
TUNED = tuple(name for name in PENALTIES if name != "refusal")
# Each round tries every weight once. Two or three are enough for the search to stop on its own.
_MAX_ROUNDS = 10


@dataclass(frozen=True)
class ScoredPairs:
    """n pairs: standardized head scores (2 n,) and penalties of their completions, which alternate."""

    head_scores: np.ndarray
    penalties: list[dict[str, float]]
    kinds: list[str]


def _figures(pairs: ScoredPairs, weights: dict[str, float]) -> dict[str, float]:
    """Accuracy and ROC-AUC of the reward with these weights; `macro_`: with kinds of pairs weighing alike."""
    reward = pairs.head_scores - penalty_totals(pairs.penalties, weights)
    sides = (reward[0::2], reward[1::2])
    macro = {f"macro_{name}": value for name, value in macro_metrics(*sides, pairs.kinds).items()}
    return pair_metrics(*sides) | macro


def search_weights(pairs: ScoredPairs, given: dict[str, float]) -> dict[str, float]:
    """The weights with the highest ROC-AUC, kinds weighing alike: one after another, until none moves.

    Starts at `given`. Of weights with equal figures the one nearest to it is taken: what tells nothing stays.
    """
    weights = dict(given)
    for _ in range(_MAX_ROUNDS):
        before = dict(weights)
        for name in TUNED:
            ranked = []
            for value in {*GRID, given[name]}:
                figure = _figures(pairs, {**weights, name: value})["macro_roc_auc"]
                # Rounded: sums in another order are no difference.
                ranked.append((round(figure, 9), -abs(value - given[name]), -value))
            weights[name] = -max(ranked)[2]
        if weights == before:
            break
    return weights


def _scored_pairs(
    folder: Path, rows: list[dict], found: dict[str, torch.Tensor], kinds: list[str]
) -> ScoredPairs:
    head, saved = load_head(folder)
    no_penalty = np.zeros(len(rows))
    scores = rewards(head, found["features"], no_penalty, saved["score_scale"])
    return ScoredPairs(scores, penalty_table(rows, found["n_tokens"]), kinds)


def tune_head(
    folder: Path,
    rows: list[dict],
    found: dict[str, torch.Tensor],
    kinds: list[str],
    given: dict[str, float],
) -> dict:
    """Choose the weights of a saved head on val pairs, and write them into its config.json.

    `rows` are the 2 n completion rows of the pairs and `found` what was read of them; `given` are the weights
    of the YAML. Returns, and keeps under "penalty_tuning" in that file, {"n_val_pairs", "given", "tuned",
    "val": {"given", "tuned"}}: the weights of both, and their figures on val.
    """
    pairs = _scored_pairs(folder, rows, found, kinds)
    tuned = search_weights(pairs, given)
    figures = {"given": _figures(pairs, given), "tuned": _figures(pairs, tuned)}
    tuning = {"n_val_pairs": len(kinds), "given": given, "tuned": tuned, "val": figures}
    saved = read_shaped(folder / "config.json", MEASURED_HEAD)
    metrics = saved["metrics"] | figures["tuned"]
    changed = {"penalty_weights": tuned, "metrics": metrics, "penalty_tuning": tuning}
    write_json(folder / "config.json", saved | changed)
    return tuning


def tune_heads(
    folders: list[Path],
    preferences: list[dict],
    val: list[int],
    found: dict[str, torch.Tensor],
    given: dict[str, float],
) -> dict[str, dict]:
    """`tune_head` for each folder, by its name. `found`: the features of all completions of `preferences`."""
    pairs = [preferences[i] for i in val]
    kinds = [kind_of(row) for row in pairs]
    places = [place for i in val for place in (2 * i, 2 * i + 1)]
    of_val = {name: tensor[places] for name, tensor in found.items()}
    rows = as_completions(pairs)
    return {folder.name: tune_head(folder, rows, of_val, kinds, given) for folder in folders}


def record_tuning(run_dir: Path, tunings: dict[str, dict]) -> None:
    """Add what was chosen to the run.json of a finished run, beside that of its other heads."""
    manifest = run_dir / "run.json"
    if not tunings or not manifest.is_file():
        return
    run = read_shaped(manifest, RUN)
    write_json(manifest, run | {"penalty_tuning": run.get("penalty_tuning", {}) | tunings})


def describe_tuning(tuning: dict) -> str:
    """One line: the weights that changed, and the figures on val before and after."""
    given = tuning["given"]
    moved = []
    for name, value in tuning["tuned"].items():
        if value != given[name]:
            moved.append(f"{name} {given[name]:g} -> {value:g}")
    before, after = (tuning["val"][name]["macro_roc_auc"] for name in ("given", "tuned"))
    return (
        f"penalty weights tuned on {tuning['n_val_pairs']} val pairs: "
        f"{', '.join(moved) or 'those of the YAML are the best'}; "
        f"ROC-AUC with kinds weighing alike {before:.3f} -> {after:.3f}"
    )
