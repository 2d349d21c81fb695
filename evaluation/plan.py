"""`--dry-run` of evaluate_sft_fast_robust.py. No model is loaded for it."""

import argparse
from pathlib import Path

from evaluation.model_runs import plan_models
from models.estimate import count_tokens, estimate, planned_samples, warn_missing_model
from utils.commands import stage_command
from utils.config import home_path, input_path
from utils.schema import pick_samples

# Tokens of the instructions, which every prompt repeats, and of a completion.
PLANNED_TOKENS = 150 + 30


def print_plan(args: argparse.Namespace) -> None:
    """Print rows, tokens, time and memory, and what would be written, from files and names alone."""
    for name in dict.fromkeys(filter(None, (args.model_path, args.base_model))):
        warn_missing_model(name)
    samples = planned_samples(input_path(args.test_data))
    if samples is not None:
        samples = pick_samples(samples, args.limit, args.seed)
        n_models = 0 if args.predictions else len(plan_models(args, args.template or "default"))
        n_tokens = n_models * (count_tokens(samples) + len(samples) * PLANNED_TOKENS)
        print(f"would evaluate {n_models} models on {len(samples)} samples, about {n_tokens:,} tokens")
        if n_models:
            print(estimate(args.base_model or args.model_path, n_tokens, 1, 16))
    report = f" and {home_path(args.report)}" if args.report else ""
    print(f"would write {home_path(args.output)}, its _predictions.jsonl and its _calibration.png{report}")


def prefs_command(args: argparse.Namespace) -> str:
    """The command after an evaluation: preferences of the same models on the train file beside."""
    models = ["--sft-model", args.model_path, "--base-model", args.base_model or args.model_path]
    data = ("--data-path", Path(args.test_data).with_name("train.jsonl"))
    return stage_command("make_prefs.py", "--phase", "generate", *models, *data)
