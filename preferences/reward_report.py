"""Reports of train_rm.py: a head's test metrics beside those of its baselines, and the training history.

This module knows nothing about how a head is trained.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from evaluation.columns import format_interval, format_number, format_table
from evaluation.figures import calibration_charts, reward_charts
from evaluation.plots import plot_charts
from preferences.cuts import COMPLETION_TOKENS, count_cut
from preferences.features import as_completions
from preferences.pair_figures import describe_sft, pair_figures, sft_figures
from preferences.pairs import baseline_scores
from preferences.penalty_tuning import describe_tuning
from preferences.reward import PENALTIES, load_head, penalty_table, penalty_totals, rewards
from preferences.reward_controls import probe_report, probe_rows, with_shuffled_evidence
from preferences.reward_pairs import RewardPairs
from preferences.split_record import preferences_facts
from utils.config import portable_path
from utils.jsonl import write_json


def write_history(output_dir: Path, history: dict, n_pairs: dict[str, int]) -> None:
    """training_history.json and its curves. `n_pairs`: pairs per split."""
    write_json(output_dir / "training_history.json", history)
    plot_charts(output_dir / "curves.png", reward_charts(history, n_pairs))


def write_validation(output_dir: Path, figures: dict) -> None:
    """validation.json, and calibration.png: how often P(chosen preferred) is right."""
    write_json(output_dir / "validation.json", figures)
    plot_charts(output_dir / "calibration.png", calibration_charts(figures))


# Reads completion rows: their features, as `load_features` returns them.
Reader = Callable[[list[dict]], dict[str, torch.Tensor]]


@dataclass(frozen=True)
class Scored:
    """Scores of n completions: reward, the head's alone and weighted penalties, (n,) each; the penalties."""

    reward: np.ndarray
    head: np.ndarray
    penalty_sums: np.ndarray
    penalties: list[dict[str, float]]


def _score(checkpoint: Path, rows: list[dict], found: dict[str, torch.Tensor]) -> Scored:
    """Completions as a saved head scores them."""
    # From the file and with its weights and scale, as --score uses it, not from the run that trained it.
    head, saved = load_head(checkpoint)
    table = penalty_table(rows, found["n_tokens"])
    sums = penalty_totals(table, saved["penalty_weights"])
    with torch.no_grad():
        scores = head(found["features"]).numpy()
    return Scored(rewards(head, found["features"], sums, saved["score_scale"]), scores, sums, table)


def validate(
    checkpoint: Path, pairs: RewardPairs, read: Reader, seed: int, read_as_answerer: Reader | None = None
) -> dict:
    """validation.json: the test metrics of one head beside those of its baselines and controls.

    `read` is by the model that the head belongs to, `read_as_answerer` by the SFT model, if there is one,
    which with `lora` is another.
    """
    rows = as_completions(pairs.rows)
    found = read(rows)
    scored = _score(checkpoint, rows, found)
    test = pairs.split.sides["test"]
    of_test = [pairs.rows[i] for i in test]
    # Only "reward" is what a user of the model gets; the others show which part of it did the work.
    scores = {
        "reward": scored.reward,
        "head_only": scored.head,
        **baseline_scores(rows, found, scored.penalty_sums, pairs.split.sides),
    }
    _, saved = load_head(checkpoint)
    tuning = saved.get("penalty_tuning")
    if tuning:
        # The weights were chosen on val. What they are worth on test is the lead over those of the YAML.
        given_sums = penalty_totals(scored.penalties, tuning["given"])
        scores["yaml_weights"] = scored.reward + scored.penalty_sums - given_sums
    if read_as_answerer:
        scores["sft_logprob"] = _sft_logps(rows, test, read_as_answerer)
    sides = {name: (values[0::2][test], values[1::2][test]) for name, values in scores.items()}
    shuffled = as_completions(with_shuffled_evidence(pairs.rows, test))
    of_shuffled = _score(checkpoint, shuffled, read(shuffled)).reward
    sides["evidence_shuffled"] = (of_shuffled[0::2], of_shuffled[1::2])
    return {
        "checkpoint": portable_path(checkpoint),
        **preferences_facts(pairs.path),
        "n_pairs": pairs.split.sizes,
        # Of groups that the head's training did not have; None for a head that does not say which it had.
        "n_new_test_pairs": pairs.split.n_new_test_pairs,
        **pair_figures(of_test, sides, seed),
        "sft_training": sft_figures(of_test, sides, pairs.sft, seed),
        "probes": _probe_figures(checkpoint, pairs.rows, test, read, seed),
        "mean_penalties": _mean_penalties(scored.penalties, test),
        "penalty_weights": saved["penalty_weights"],
        # None unless --tune-penalties chose these weights.
        "penalty_tuning": tuning,
        "n_cut_completions": count_cut(found),
        "n_cut_prompts": count_cut(found, "is_prompt_cut"),
        "max_completion_tokens": COMPLETION_TOKENS - 1,
    }


def _sft_logps(rows: list[dict], test: list[int], read: Reader) -> np.ndarray:
    """Log-probabilities of whole completions, by which best-of-n of an SFT model would choose: (n_rows,).

    Those of other pairs than the test pairs stay 0.
    """
    places = []
    for i in test:
        places += [2 * i, 2 * i + 1]
    found = read([rows[place] for place in places])
    logps = np.zeros(len(rows))
    logps[places] = (found["mean_logp"] * (found["n_tokens"] + 1)).numpy()
    return logps


def _probe_figures(
    checkpoint: Path, preferences: list[dict], test: list[int], read: Reader, seed: int
) -> dict | None:
    """`probe_report` with penalties ("reward") and without ("head_only"); None without a probe."""
    rows = probe_rows(preferences, test, seed)
    if not rows:
        return None
    scored = _score(checkpoint, rows, read(rows))
    return probe_report(rows, {"reward": scored.reward, "head_only": scored.head}, seed)


def _mean_penalties(table: list[dict[str, float]], test: list[int]) -> dict[str, dict[str, float]]:
    """Mean of each penalty over the chosen and over the rejected completions of the test pairs."""
    found = {}
    for offset, side in enumerate(("chosen", "rejected")):
        of_side = [table[2 * i + offset] for i in test]
        means = {}
        for name in PENALTIES:
            means[name] = float(np.mean([values[name] for values in of_side]))
        found[side] = means
    return found


def print_validation(figures: dict) -> None:
    def cell(metrics: dict, name: str) -> str:
        # Fewer than 20 groups have no interval.
        span = metrics["ci95"][name]
        bounds = f" [{span[0]:.2f}, {span[1]:.2f}]" if span else ""
        return format_number(metrics[name]) + bounds

    body = []
    for name, metrics in figures["test"].items():
        over_kinds = figures["over_kinds"][name]
        lead = format_interval(over_kinds.get("lead_ci95"), sign=True) or "-"
        macro = format_number(over_kinds["macro_accuracy"])
        body.append([name, cell(metrics, "accuracy"), cell(metrics, "roc_auc"), macro, lead])
    columns = [
        f"{figures['n_test_pairs']} test pairs",
        "accuracy",
        "roc_auc",
        "kinds alike",
        "lead of reward",
    ]
    print(format_table(columns, body))
    print(describe_sft(figures["sft_training"], figures["n_test_pairs"]))
    kinds = figures["by_kind"]["reward"]
    parts = []
    for kind, row in kinds.items():
        areas = f"{format_number(row['accuracy'])} (roc_auc {format_number(row['roc_auc'])})"
        parts.append(f"{kind} {areas} of {row['n']}")
    print(f"reward by kind of pair, accuracy: {', '.join(parts)}")
    if figures["probes"]:
        shares = [
            f"{name} {format_number(row['below'])}" for name, row in figures["probes"]["reward"].items()
        ]
        print(f"probes below the clean completion: {', '.join(shares)}")
    if tuning := figures["penalty_tuning"]:
        print(describe_tuning(tuning))
