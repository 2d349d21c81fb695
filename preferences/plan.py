"""`--dry-run` of make_prefs.py and train_rm.py. No model is loaded for it."""

import argparse

from models.estimate import count_tokens, estimate, planned_samples, warn_missing_model
from preferences.cache import GENERATION_DEFAULTS, MODELS
from preferences.pairs import find_preferences
from utils.config import home_path, input_path
from utils.errors import DataError
from utils.schema import pick_samples, read_preferences


def print_plan(args: argparse.Namespace) -> None:
    """`--dry-run`: what would be generated and written, and the estimated time."""
    for name in filter(None, (args.sft_model, args.base_model, args.judge_model)):
        warn_missing_model(name)
    samples = planned_samples(input_path(args.data_path))
    generator = args.base_model or args.sft_model
    if samples is not None and args.phase != "judge" and generator:
        n_texts = len(MODELS) * (args.n_generations or GENERATION_DEFAULTS["n_generations"])
        seed = GENERATION_DEFAULTS["seed"] if args.seed is None else args.seed
        samples = pick_samples(samples, args.max_samples, seed)
        # 180 tokens are for template and completion, roughly.
        n_tokens = n_texts * (count_tokens(samples) + len(samples) * 180)
        bits = 4 if args.use_4bit else 16
        bits = 8 if args.use_8bit else bits
        print(f"would generate {n_texts * len(samples)} candidates, about {n_tokens:,} tokens")
        print(estimate(generator, n_tokens, 1, bits))
    print(f"would write {home_path(args.prefs_dir)}/ (a few MB per thousand samples)")


def print_reward_plan(args: argparse.Namespace, config: dict) -> None:
    """`--dry-run`: what would be read and written, and the estimated time."""
    warn_missing_model(config["base_model"])
    try:
        preferences = read_preferences(find_preferences(args.prefs, args.prefs_dir))[: args.limit]
    except DataError as error:
        print(f"warning: {error}")
        preferences = []
    if preferences:
        # The two completions of a pair share one prompt, at 4 characters per token.
        n_tokens = sum(len(row["prompt"][0]["content"]) // 2 + 60 for row in preferences)
        n_completions = 2 * len(preferences)
        print(f"would read {n_completions} completions, about {n_tokens:,} tokens; the head takes seconds")
        print(estimate(config["base_model"], n_tokens, 1, 8 if config["load_in_8bit"] else 16))
    print(f"would write {home_path(config['output_dir'])}/ (features: 4 bytes x hidden size per completion)")
