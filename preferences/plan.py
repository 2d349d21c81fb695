"""`--dry-run` of make_prefs.py and train_rm.py. No model is loaded for it."""

import argparse

from models.choices import LoadOptions, load_options
from models.estimate import (
    CHARS_PER_TOKEN,
    count_tokens,
    estimate,
    longest_prompt,
    planned_samples,
    warn_missing_model,
)
from models.planned_memory import generation_memory
from preferences.candidate_settings import n_candidates, sampling_settings
from preferences.inputs import check_training_folder
from preferences.pairs import find_preferences
from utils.config import home_path, input_path
from utils.decisions import refuse_missing_fit
from utils.errors import DataError
from utils.schema import pick_samples, read_preferences, read_questions

# Tokens of the template, roughly, and of a completion.
_PROMPT_TOKENS = 120
_COMPLETION_TOKENS = 60


def print_plan(args: argparse.Namespace) -> None:
    """`--dry-run`: what would be generated and written, and the estimated time."""
    for name in filter(None, (args.sft_model, args.base_model, args.judge_model)):
        warn_missing_model(name)
    if args.phase != "judge":
        refuse_missing_fit(args.decisions, args.sft_model)
    samples = planned_samples(input_path(args.data_path), read_questions)
    generator = args.base_model or args.sft_model
    if samples is not None and args.phase != "judge" and generator:
        settings = sampling_settings(vars(args))
        n_models = len(settings["models"].split(","))
        n_texts = n_candidates(settings) * n_models
        samples = pick_samples(samples, args.max_samples, settings["seed"])
        # All candidates of a model share the reading of their prompt.
        n_predicted = n_texts * len(samples) * _COMPLETION_TOKENS
        n_tokens = n_models * (count_tokens(samples) + len(samples) * _PROMPT_TOKENS) + n_predicted
        print(f"would generate {n_texts * len(samples)} candidates, about {n_tokens:,} tokens")
        width = longest_prompt(samples) + _PROMPT_TOKENS + _COMPLETION_TOKENS
        options = load_options(args)
        memory = generation_memory(args.sft_model, options, args.batch_size, width, _COMPLETION_TOKENS)
        print(estimate(generator, n_tokens, n_predicted, 1, memory))
    print(f"would write {home_path(args.prefs_dir)}/ (a few MB per thousand samples)")


def print_reward_plan(args: argparse.Namespace, config: dict) -> None:
    """`--dry-run`: what would be read and written, and the estimated time."""
    check_training_folder(args, config)
    warn_missing_model(config["base_model"])
    try:
        preferences = read_preferences(find_preferences(args.prefs, args.prefs_dir))[: args.limit]
    except DataError as error:
        print(f"warning: {error}")
        preferences = []
    if preferences:
        # The two completions of a pair share one prompt, which is cut to max_seq_length.
        n_most = CHARS_PER_TOKEN * config["max_seq_length"]
        n_chars = [min(len(row["prompt"][0]["content"]), n_most) for row in preferences]
        n_tokens = sum(int(n / CHARS_PER_TOKEN) + 2 * _COMPLETION_TOKENS for n in n_chars)
        n_completions = 2 * len(preferences)
        print(f"would read {n_completions} completions, about {n_tokens:,} tokens; the head takes seconds")
        name = config["base_model"]
        options = LoadOptions(load_in_8bit=config["load_in_8bit"], attention=config["attn_implementation"])
        width = int(max(n_chars) / CHARS_PER_TOKEN) + _COMPLETION_TOKENS
        memory = generation_memory(name, options, config["eval_batch_size"], width, _COMPLETION_TOKENS)
        print(estimate(name, n_tokens, n_completions * _COMPLETION_TOKENS, 1, memory))
        if config["lora"]["r"]:
            # A backward pass takes about as long as two forward passes.
            n_passes = 3 * config["lora"]["num_epochs"]
            print(
                f"and before, would train an adapter on the train pairs, at most {n_passes} times that time"
            )
    print(f"would write {home_path(config['output_dir'])}/ (features: 4 bytes x hidden size per completion)")
    if args.export_hf:
        print(f"would write {home_path(args.export_hf)}/ (the base model, at most 4 bytes per weight)")
