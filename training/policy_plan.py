"""`--dry-run` of train_dpo.py: pairs, tokens, steps, time and memory, from files and names alone."""

import argparse
from collections.abc import Callable
from pathlib import Path

from models.estimate import (
    CHARS_PER_TOKEN,
    estimate,
    planned_samples,
    training_passes,
    warn_missing_model,
)
from training.modes import modes_of, print_modes_plan
from training.pair_rows import SIDES, check_kinds, hold_out, pick_pairs
from training.plan import checkpointed, planned_training_memory
from training.steps import steps_and_epochs
from utils.config import home_path, input_path
from utils.errors import DataError
from utils.runs import format_drops
from utils.schema import read_preferences


def _n_tokens(row: dict) -> tuple[int, int]:
    """(tokens of a pair's prompt, of both completions), estimated."""
    prompt = sum(len(message["content"]) for message in row["prompt"])
    completions = sum(len(row[side][0]["content"]) for side in SIDES)
    return int(prompt / CHARS_PER_TOKEN), int(completions / CHARS_PER_TOKEN)


def print_policy_plan(args: argparse.Namespace, config: dict, find_prefs: Callable[[], Path]) -> None:
    """What the run would do. DataError for pairs that it could not use; inputs to come are warned of.

    `find_prefs` gives the preferences file, or DataError.
    """
    if modes_of(args):
        print_modes_plan(args, config)
        return
    if input_path(config["sft_model"]).is_dir():
        warn_missing_model(config["model_name"])
    planned_samples(input_path(config["data"]["val_path"]))
    try:
        preferences = read_preferences(find_prefs())
    except DataError as error:
        print(f"warning: {error}")
    else:
        _print_pairs(config, preferences)
    n_kept = config["training"]["save_total_limit"] + 2
    output = home_path(config["output_dir"])
    print(f"would write {output}/ with at most {n_kept} adapters of a few to a few hundred MB")


def _print_pairs(config: dict, preferences: list[dict]) -> None:
    """What would be trained on, with its time and memory. UsageError for a factor of no kind of pair."""
    seed = config["training"]["seed"]
    kept, drops = pick_pairs(preferences, config["data"], seed)
    check_kinds(kept, config["data"]["kind_weights"])
    places, held = hold_out(kept, config["data"]["val_fraction"], seed)
    training = config["training"]
    n_steps, n_epochs = steps_and_epochs(len(places), training, 1)
    sizes = [_n_tokens(kept[i]) for i in places]
    # With a reference pass, which costs a third of a training pass, and a prompt that a pair reads once.
    n_copies = 2 if training["gradient_checkpointing"] else 1
    n_tokens = int(n_epochs * sum(n_copies * prompt + both for prompt, both in sizes))
    n_labels = int(n_epochs * sum(both for _, both in sizes))
    print(
        f"would train on {len(places)} pairs ({len(held)} held out; {format_drops(drops)}), about "
        f"{n_tokens:,} tokens, {n_steps} steps"
    )
    width = max(prompt + both for prompt, both in sizes)
    n_passes = training_passes(False, checkpointed(training)) + 1 / max(1.0, n_epochs)
    memory = planned_training_memory(config, 2 * width, 0)
    print(estimate(config["model_name"], n_tokens, n_labels, n_passes, memory, config["bf16"]))
