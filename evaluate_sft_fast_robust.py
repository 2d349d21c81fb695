"""Evaluation: SFT checkpoint (and base model) -> predictions -> metrics with 95% intervals, beside baselines.

Reads a sample file and a checkpoint of train_sft.py, or with --predictions a file of completions.
Writes the results JSON, <stem>_predictions.jsonl and <stem>_calibration.png beside it; --report adds a page,
--best-of <stem>_candidates.jsonl.

    python evaluate_sft_fast_robust.py --model-path checkpoints/sft/demo/checkpoint-best \\
        --base-model embedded --test-data data/processed/test.jsonl --compare-baseline \\
        --batch-size 16 --max-new-tokens 64 --output eval_results.json
    python evaluate_sft_fast_robust.py --predictions eval_results_predictions.jsonl \\
        --test-data data/processed/test.jsonl --report eval.html --output rescored.json
    python evaluate_sft_fast_robust.py --compare eval_results.json rescored.json
"""

import argparse
import time
from pathlib import Path

from evaluation.inputs import check_inputs, check_results
from evaluation.model_runs import add_run_flags, check_flags
from evaluation.output_files import check_output_files, plot_path, predictions_path, results_name
from evaluation.selective import KINDS, choose_selection
from models.base import base_of_flags
from models.choices import (
    FAST_NOTE,
    add_fast_flags,
    add_model_flags,
    check_engine,
    engine_settings,
    load_options,
)
from models.directories import check_adapter_dir, no_base
from utils.arguments import positive_int, sample_limit, seed_number, share, stage_parser, temperature
from utils.config import home_path, input_path
from utils.decisions import decision_settings, decisions_of, read_calibration
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("--test-data", help="sample file with gold")
    add("--output", default="eval_results.json", help="results file (default: eval_results.json)")
    add("--report", metavar="FILE", help="also write one HTML page with tables, plots and the samples")
    add("--predictions", metavar="FILE", help="score these completions instead of running a model")
    add("--compare", nargs=2, metavar=("A", "B"), help="print two results files side by side and stop")

    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--model-path", help="checkpoint directory of train_sft.py, or a full model")
    add("--base-model", help="model the checkpoint was trained from: hub id, directory or embedded")
    add("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    add_run_flags(model)
    add_model_flags(model)
    add_fast_flags(model)

    add = parser.add_argument_group("limits").add_argument
    limit = "evaluate at most N samples, sampled with --seed; twins stay together (0: all)"
    add("--limit", type=sample_limit, metavar="N", help=limit)
    add("--max-new-tokens", type=positive_int, default=128, help="tokens after which a completion is cut")
    batch = "rows generated at once: changes memory, not results"
    add("--batch-size", type=positive_int, default=8, help=batch)
    add("--confidence-threshold", type=share, help="count answers of lower confidence (0-1) as refusals")
    precision = "choose the threshold that reaches this precision on the validation answers (0-1)"
    add("--wanted-precision", type=share, help=precision)
    kind = "confidence that a threshold applies to: in the completion, or fitted on val (SFT model only)"
    add("--confidence-kind", default="stated", choices=KINDS, help=kind)

    add = parser.add_argument_group("run").add_argument
    add(
        "--temperature",
        type=temperature,
        help="0 is greedy (default); with --best-of that of its samples (1)",
    )
    add("--seed", type=seed_number, default=42, help="decides --limit's samples, sampling and the bootstrap")
    add("--overwrite", action="store_true", help="replace results that are there, also of other settings")
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. UsageError for those that contradict each other, DataError for a wrong --model-path."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.compare:
        check_results(args.compare)
        return args
    check_flags(args, parser.get_default)
    needs_base = (args.compare_baseline or args.baseline_fewshot) and not args.base_model
    # A missing model names no base either; what is wrong with the flags comes before what is missing.
    if needs_base and not (args.model_path and input_path(args.model_path).exists()):
        raise no_base(args.model_path)
    if not args.dry_run:
        check_output_files(args)
        check_inputs(args)
    # A rescoring reads the checkpoint's calibration alone.
    if not args.predictions:
        check_engine(args)
        args.base_model = base_of_flags(args)
    if needs_base and not args.base_model:
        raise no_base(args.model_path)
    return args


if __name__ == "__main__":
    before_imports(lambda: read_arguments(None))

from evaluation.baselines import baseline_predictions, build_prompts, read_tuning, tuning_hashes
from evaluation.best_of import best_of_report
from evaluation.comparison import compare_runs
from evaluation.model_runs import file_order, is_base, longest_row, plan_models, with_agreed
from evaluation.plan import prefs_command, print_plan
from evaluation.plots import plot_calibration
from evaluation.predictions import (
    asked_settings,
    check_probabilities,
    count_gold_cut,
    describe_rows,
    log_key,
    prompt_settings,
    read_predictions,
    replace_predictions,
)
from evaluation.results import measure_selection, score_all
from evaluation.reuse import CHECKPOINT_SETTINGS, close_results, describe_results_run, finished_results
from evidence.reserved import trained_on_warning
from generation.answering import predict, sft_and_base
from generation.decisions import decision_biases
from generation.engine import GenerationSettings
from generation.predicted import known_tokens, without_tokens
from generation.sampling import Sampling
from generation.throughput import Throughput
from models.distributed import ShardLog, Shards, hold_output, note_in_first_process
from models.hardware import weights_precision
from preferences.rewarded import best_of, head_settings
from prompt_schema import PromptBuilder, load_template
from reporting.answered import answered_samples
from reporting.pipeline import refresh_report
from reporting.shown import show_results
from utils.calibration import precision_warning
from utils.jsonl import sha256_value
from utils.runs import format_seconds, hash_inputs, note
from utils.schema import pick_samples, read_samples

# Flags that decide the completions: predictions made with other values are not resumed.
DECIDING_FLAGS = (
    *("compare_baseline", "baseline_fewshot", "baseline_closed_book", "baseline_gold_only", "constrained"),
    *("max_new_tokens", "attn_impl", "limit", "temperature", "seed", "best_of", "orders"),
)
# All settings that decide the results.
SCORING = ("predictions", "confidence_threshold", "wanted_precision", "confidence_kind")
DECIDING = (*DECIDING_FLAGS, "engine", "fitted_on", *SCORING, *CHECKPOINT_SETTINGS)

# --- predictions


def run_model(models, name: str, prompts: dict, args: argparse.Namespace, log: ShardLog, biases) -> dict:
    """Generate a completion per prompt (sample id -> prompt) into the log. Returns time and throughput."""
    generation = GenerationSettings(
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        # The best of N is taken of samples; beside them stands the greedy completion.
        sampling=Sampling(temperature=0.0 if args.best_of else args.temperature, seed=args.seed),
        # A seed per row: a row does not depend on its batch, nor on what an earlier run finished.
        seeds=[int(sha256_value([args.seed, name, sample_id])[:8], 16) for sample_id in prompts],
        biases=biases,
        known=known_tokens(log.rows(), name, prompts),
    )
    constrained = name.endswith("_constrained")
    speed = Throughput(prompts, log.shards.n_processes)
    for rows in predict(models.model, models.tokenizer, prompts, name, generation, constrained):
        log.add(rows)
        speed.add(rows)
    return speed.facts()


def settings_of(args: argparse.Namespace) -> dict:
    """Everything that decides the completions; of those in a file, what is known."""
    if args.predictions:
        return asked_settings(input_path(args.predictions), args.decisions)
    settings = prompt_settings(check_adapter_dir(args.model_path), args.template, base_model=args.base_model)
    settings |= {flag: getattr(args, flag) for flag in DECIDING_FLAGS} | engine_settings(args.engine)
    settings |= decision_settings(args.decisions, args.model_path)
    settings["template_text"] = load_template("sft", settings["template"])
    settings["precision"] = weights_precision(load_options(args))
    settings["inputs"] = hash_inputs([input_path(args.test_data)])
    return settings | head_settings(args.reward_model)


def generate_predictions(
    args: argparse.Namespace, samples: list[dict], log_path: Path, settings: dict, shards: Shards
) -> tuple[list[dict], dict]:
    """(prediction rows of all models to run, model name -> time and throughput).

    Completions in the log of an interrupted run are not generated again. The weights are loaded once where
    the checkpoint is an adapter of the base model.
    """
    runs = plan_models(args, settings["template"])
    times: dict = {}
    limit = settings["max_prompt_tokens"]
    options = load_options(args, max_length=longest_row(args, limit))
    with sft_and_base(str(input_path(settings["model_dir"])), args.base_model, options) as models:
        log = ShardLog(log_path, log_key(settings), shards)
        for name, run in runs.items():
            mine = shards.mine(samples)
            with models.base() if is_base(name) else models.sft():
                own = PromptBuilder(models.tokenizer, settings["template_text"], limit)
                builder = own.beside(load_template("sft", run.template))
                builder.max_tokens = models.prompt_limit(builder.max_tokens, args.max_new_tokens)
                built = build_prompts(builder, mine, run.view)
                prompts = {sample["id"]: prompt for sample, prompt in zip(mine, built)}
                biases = decision_biases(models.tokenizer, decisions_of(settings, name), mine, built)
                times[name] = run_model(models, name, prompts, args, log, biases)
            if is_base(name):
                times["base_revision"] = models.base_revision

    picked: list[dict] = []
    if args.best_of:
        # Before the log is finished: a run that is killed here goes on from it.
        shards.wait()
        picked = best_of(args, samples, log.rows(), settings, PromptBuilder, shards)
    rows = log.merged(file_order(runs, samples))
    return with_agreed(without_tokens(rows), args.orders) + picked, times


# --- the run


def main(argv: list[str] | None) -> None:
    args = read_arguments(argv)
    if args.compare:
        print(compare_runs([input_path(path) for path in args.compare], args.test_data))
        return
    if args.dry_run:
        print_plan(args)
        return
    output = home_path(args.output)
    with hold_output(results_name(output)) as shards:
        evaluate(args, output, shards)


def evaluate(args: argparse.Namespace, output: Path, shards: Shards) -> None:
    """Generate or read the predictions, score them and write the results."""
    started = time.monotonic()
    samples = pick_samples(read_samples(input_path(args.test_data)), args.limit, args.seed)
    # Whatever can fail should fail before anything is generated.
    settings = settings_of(args)
    calibration = read_calibration(args.model_path, settings.get("decisions"))
    selection, selective = choose_selection(
        args.confidence_threshold, args.wanted_precision, args.confidence_kind, calibration
    )
    found = [trained_on_warning(args.model_path, samples)]
    if not args.predictions:
        found.append(precision_warning(calibration, settings["precision"]))
    warnings = [text for text in found if text]
    note_in_first_process([*warnings, *([FAST_NOTE] if args.fast or args.buckets else [])])
    train, val = read_tuning(input_path(args.test_data))
    run = describe_results_run(args, settings | {"fitted_on": tuning_hashes(input_path(args.test_data))})
    finished = shards.decide(lambda: finished_results(output, "baselines", run, DECIDING, args.overwrite))
    if finished:
        if shards.is_main:
            show_results(output, finished, args.report)
            print(f"{output} is complete with these settings; nothing to do")
            refresh_report()
        return

    times: dict = {}
    if args.predictions:
        predictions = read_predictions(input_path(args.predictions), samples)
        check_probabilities(input_path(args.predictions), selection, predictions)
    else:
        predictions, times = generate_predictions(args, samples, predictions_path(output), settings, shards)
    # Every process has all rows now; the first alone scores and writes.
    if not shards.is_main:
        return

    rows = predictions + baseline_predictions(samples, train, val)
    results, parsed = score_all(rows, samples, args.seed, selection, calibration.get("isotonic"))
    if selection:
        results["selective"] = selective | {"test": measure_selection(predictions, samples, selection)}
    if args.best_of:
        results["best_of"] = best_of_report(predictions, samples, args)
    if not args.predictions:
        replace_predictions(output, predictions_path(output), describe_rows(predictions, parsed, samples))
    # The SFT model's prompts alone: a closed-book prompt shows no support on purpose.
    n_cut = count_gold_cut([row for row in predictions if row["model"] == "sft"], samples)
    seconds = round(time.monotonic() - started, 1)
    facts = {"times": times, "gold_cut": n_cut, "warnings": warnings, "seconds": seconds}
    results["run"] = run | facts
    plot_calibration(plot_path(output), results["curves"])
    close_results(output, results, args, has_predictions=not args.predictions)
    show_results(output, results, args.report, answered_samples(samples, parsed, predictions))
    print(f"wrote {output} ({len(samples)} samples, gold cut {n_cut}) in {format_seconds(seconds)}")
    if args.model_path:
        note(f"next: {prefs_command(args)}")
    refresh_report()


if __name__ == "__main__":
    run_main(main)
