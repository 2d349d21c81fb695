"""Reports of train_rm.py: a head's test metrics beside those of its baselines, and the training history.

This module knows nothing about how a head is trained.
"""

from pathlib import Path

import numpy as np
import torch

from evaluation.columns import format_number, format_table
from evaluation.figures import reward_charts
from evaluation.plots import plot_charts
from preferences.cuts import COMPLETION_TOKENS, count_cut
from preferences.pairs import baseline_scores, interval, pair_metrics
from preferences.reward import PENALTIES, load_head, penalty_table, penalty_totals, rewards
from utils.config import portable_path
from utils.jsonl import write_json


def write_history(output_dir: Path, history: dict, n_pairs: dict[str, int]) -> None:
    """training_history.json and its curves. `n_pairs`: pairs per split."""
    write_json(output_dir / "training_history.json", history)
    plot_charts(output_dir / "curves.png", reward_charts(history, n_pairs))


def validate(
    checkpoint: Path,
    rows: list[dict],
    found: dict[str, torch.Tensor],
    split: dict[str, list[int]],
    groups: list[str],
    seed: int,
) -> dict:
    """validation.json: the test metrics of one head and of its baselines.

    `rows` and `found` are the completions of all pairs and their features, `groups` has one name per pair.
    """
    # From the file and with its weights and scale, as --score uses it, not from the run that trained it.
    head, saved = load_head(checkpoint)
    table = penalty_table(rows, found["n_tokens"])
    penalty_sums = penalty_totals(table, saved["penalty_weights"])
    with torch.no_grad():
        head_scores = head(found["features"]).numpy()
    # Only "reward" is what a user of the model gets; the others show which part of it did the work.
    scored = {
        "reward": rewards(head, found["features"], penalty_sums, saved["score_scale"]),
        "head_only": head_scores,
        **baseline_scores(rows, found, penalty_sums, split),
    }
    test = split["test"]
    test_groups = [groups[i] for i in test]
    figures = {}
    for name, scores in scored.items():
        chosen = scores[0::2][test]
        rejected = scores[1::2][test]
        intervals = interval(chosen, rejected, test_groups, seed)
        figures[name] = pair_metrics(chosen, rejected) | {"ci95": intervals}
    mean_penalties = {}
    for offset, side in enumerate(("chosen", "rejected")):
        of_side = [table[2 * i + offset] for i in test]
        means = {}
        for name in PENALTIES:
            means[name] = float(np.mean([values[name] for values in of_side]))
        mean_penalties[side] = means
    return {
        "checkpoint": portable_path(checkpoint),
        "n_test_pairs": len(test),
        "n_test_groups": len(set(test_groups)),
        "test": figures,
        "mean_penalties": mean_penalties,
        "n_cut_completions": count_cut(found),
        "n_cut_prompts": count_cut(found, "is_prompt_cut"),
        "max_completion_tokens": COMPLETION_TOKENS - 1,
    }


def print_validation(figures: dict) -> None:
    def cell(metrics: dict, name: str) -> str:
        # Fewer than 20 groups have no interval.
        span = metrics["ci95"][name]
        bounds = f" [{span[0]:.2f}, {span[1]:.2f}]" if span else ""
        return format_number(metrics[name]) + bounds

    body = []
    for name, metrics in figures["test"].items():
        body.append([name, cell(metrics, "accuracy"), cell(metrics, "roc_auc")])
    print(format_table([f"{figures['n_test_pairs']} test pairs", "accuracy", "roc_auc"], body))
