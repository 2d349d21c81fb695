"""`--dry-run` of evaluate_sft_fast_robust.py. No model is loaded for it."""

import argparse
from pathlib import Path

from evaluation.model_runs import plan_models
from evaluation.predictions import asked_settings
from evaluation.selective import choose_selection
from evidence.reserved import count_unseen
from models.base import trained_on
from models.choices import load_options
from models.estimate import count_tokens, estimate, longest_prompt, planned_samples, warn_missing_model
from models.planned_memory import generation_memory
from utils.commands import stage_command
from utils.config import home_path, input_path
from utils.decisions import decision_settings, read_calibration
from utils.schema import pick_samples

# Tokens of the instructions, which every prompt repeats, and of a completion.
COMPLETION_TOKENS = 30
PLANNED_TOKENS = 150 + COMPLETION_TOKENS


def check_fits(args: argparse.Namespace) -> None:
    """The run's own error where the checkpoint's calibration.json lacks the fit that a flag needs.

    Nothing is said of a checkpoint that is not there yet.
    """
    if args.model_path and not input_path(args.model_path).exists():
        return
    decisions = args.decisions
    if args.predictions and args.model_path and input_path(args.predictions).is_file():
        decisions = asked_settings(input_path(args.predictions), decisions)["decisions"]
    calibration = read_calibration(args.model_path, decisions)
    choose_selection(args.confidence_threshold, args.wanted_precision, args.confidence_kind, calibration)
    if not args.predictions:
        decision_settings(args.decisions, args.model_path)


def print_plan(args: argparse.Namespace) -> None:
    """Print rows, tokens, time and memory, and what would be written, from files and names alone."""
    check_fits(args)
    for name in dict.fromkeys(filter(None, (args.model_path, args.base_model))):
        warn_missing_model(name)
    samples = planned_samples(input_path(args.test_data))
    if samples is not None:
        samples = pick_samples(samples, args.limit, args.seed)
        n_runs = 0 if args.predictions else len(plan_models(args, args.template or "default"))
        n_tokens = n_runs * (count_tokens(samples) + len(samples) * PLANNED_TOKENS)
        n_predicted = n_runs * len(samples) * COMPLETION_TOKENS
        if args.best_of:
            # Samples of one prompt share its reading, when they are drawn and for their rewards.
            n_tokens += 2 * (count_tokens(samples) + len(samples) * PLANNED_TOKENS)
            n_drawn = 2 * args.best_of * len(samples) * COMPLETION_TOKENS
            n_tokens += n_drawn
            n_predicted += n_drawn
            print(f"would draw {args.best_of - 1} more completions per sample, and compute their rewards")
        if args.orders:
            print(f"would ask the SFT model behind the chunks in {args.orders} orders")
        n_models = n_runs - ((args.orders or 1) - 1)
        print(f"would evaluate {n_models} models on {len(samples)} samples, about {n_tokens:,} tokens")
        if n_runs:
            width = longest_prompt(samples) + PLANNED_TOKENS
            options = load_options(args)
            memory = generation_memory(args.model_path, options, args.batch_size, width, args.max_new_tokens)
            print(estimate(args.base_model or args.model_path, n_tokens, n_predicted, 1, memory))
    report = f" and {home_path(args.report)}" if args.report else ""
    # Completions that are scored again stay where they are.
    predictions = "" if args.predictions else ", its _predictions.jsonl"
    print(f"would write {home_path(args.output)}{predictions} and its _calibration.png{report}")


def prefs_command(args: argparse.Namespace) -> str:
    """The command after an evaluation: preferences of the same models, on samples beside the test data.

    On its own training rows a model makes few mistakes: the samples are those of train that it was not
    trained on or, where val has more, those of val.
    """
    trained = trained_on(input_path(args.model_path))
    base = args.base_model or (trained.name if trained else args.model_path)
    models = ["--sft-model", args.model_path, "--base-model", base]
    train, val = (Path(args.test_data).with_name(f"{split}.jsonl") for split in ("train", "val"))
    n_train, n_val = (count_unseen(args.model_path, input_path(path)) for path in (train, val))
    data = ["--data-path", train, "--unseen-only"] if n_train > n_val else ["--data-path", val]
    if not any(input_path(path).is_file() for path in (train, val)):
        # The test data lies alone: what make_prefs.py reads by default.
        data = []
    return stage_command("make_prefs.py", "--phase", "generate", *models, *data)
