"""`--dry-run` of robustness.py. No model is loaded for it."""

import argparse

from models.choices import load_options
from models.estimate import count_tokens, estimate, longest_prompt, planned_samples, warn_missing_model
from models.planned_memory import generation_memory
from perturbations.prompts import distinct_samples
from perturbations.suites import build_suites
from utils.config import home_path, input_path
from utils.decisions import refuse_missing_fit
from utils.runs import format_drops
from utils.schema import pick_samples

# Tokens of a completion. The instructions are the shared prefix, which is read once per batch.
PLANNED_TOKENS = 40
PREFIX_TOKENS = 150


def print_plan(args: argparse.Namespace, names: list[str]) -> None:
    """Print levels, completions, tokens and time, from files and names alone."""
    warn_missing_model(args.model_path)
    refuse_missing_fit(args.decisions, args.model_path)
    everything = planned_samples(input_path(args.test_data))
    if everything:
        samples = pick_samples(everything, args.limit, args.seed)
        suites, _ = build_suites(names, samples, everything, args.seed)
        distinct = list(distinct_samples(suites, args.orders or 1).values())
        for name, suite in suites.items():
            n = len(next(iter(suite.levels.values())))
            about = f"{', '.join(suite.levels)}; {format_drops(suite.left_out)}"
            print(f"{name}: {len(suite.levels)} levels of {n} samples ({about})")
        n_tokens = count_tokens(distinct) + len(distinct) * PLANNED_TOKENS
        about = f"about {n_tokens:,} tokens (instructions are computed once per batch)"
        print(f"would generate {len(distinct)} completions, {about}")
        # The shared prefix is in the cache of every row.
        width = longest_prompt(distinct) + PREFIX_TOKENS + PLANNED_TOKENS
        options = load_options(args)
        memory = generation_memory(args.model_path, options, args.batch_size, width, args.max_new_tokens)
        n_predicted = len(distinct) * PLANNED_TOKENS
        print(estimate(args.model_path, n_tokens, n_predicted, 1, memory))
    output = home_path(args.output)
    print(f"would write {output}, {output.with_suffix('.png').name} and {output.stem}_predictions.jsonl")
