"""Evaluation: SFT checkpoint (and base model) -> predictions -> metrics with intervals, beside baselines that need no model.

Reads a sample file and a checkpoint of train_sft.py, or with --predictions a file of completions.
Writes the results JSON, and beside it <stem>_predictions.jsonl and <stem>_calibration.png; with --report one HTML page.

    python evaluate_sft_fast_robust.py --model-path checkpoints/sft/demo/checkpoint-best --base-model embedded \\
        --test-data data/processed/test.jsonl --compare-baseline --batch-size 16 --max-new-tokens 64 --output eval_results.json
    python evaluate_sft_fast_robust.py --predictions eval_results_predictions.jsonl --test-data data/processed/test.jsonl \\
        --report eval.html --output rescored.json
    python evaluate_sft_fast_robust.py --compare eval_results.json rescored.json
"""

import argparse
import dataclasses
import time
from pathlib import Path

from evaluation.baselines import EVIDENCE_VIEWS, baseline_predictions, show_only
from evaluation.comparison import compare_runs
from evaluation.html_report import write_report
from evaluation.plots import plot_calibration
from evaluation.predictions import (
    count_gold_cut,
    describe_rows,
    predictions_path,
    prompt_settings,
    read_predictions,
)
from evaluation.results import measure_selection, score_all
from evaluation.selective import KINDS, choose_selection
from evaluation.tables import results_text
from generation.answering import predict, sft_and_base
from generation.engine import GenerationSettings
from generation.sampling import Sampling
from models.distributed import ShardLog, Shards
from models.estimate import count_tokens, estimate, planned_samples, warn_missing_model
from models.hardware import ATTENTION_FLAGS
from models.loading import LoadOptions, check_adapter_dir
from prompt_schema import PromptBuilder, load_template
from utils.config import home_path, input_path
from utils.errors import UsageError, run_main
from utils.jsonl import read_json, sha256_value, write_json, write_jsonl
from utils.runs import describe_run, format_drops, format_seconds, hash_inputs
from utils.schema import pick_samples, read_samples


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--model-path", help="checkpoint directory of train_sft.py, or a full model")
    parser.add_argument(
        "--base-model", help="model the checkpoint was trained from: hub id, directory or embedded"
    )
    parser.add_argument("--test-data", help="sample file with gold")
    parser.add_argument(
        "--compare-baseline", action="store_true", help="evaluate the base model on the same prompts"
    )
    parser.add_argument(
        "--baseline-fewshot",
        action="store_true",
        help="evaluate the base model with the few-shot template too",
    )
    parser.add_argument(
        "--baseline-closed-book",
        action="store_true",
        help="evaluate the checkpoint without evidence too: what it answers from memory",
    )
    parser.add_argument(
        "--baseline-gold-only",
        action="store_true",
        help="evaluate the checkpoint on support chunks alone too: what distraction costs",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows generated at once; memory, not results, depends on it"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=128, help="tokens after which a completion is cut"
    )
    parser.add_argument(
        "--fast",
        action="store_true",
        help="on CUDA: pad prompts to --buckets and compile the model; on CPU: sorted batches, as always",
    )
    parser.add_argument(
        "--buckets", default="512,1024,2048,4096", help="prompt lengths in tokens that --fast pads to"
    )
    parser.add_argument(
        "--attn-impl",
        default="auto",
        choices=ATTENTION_FLAGS,
        help="attention kernel; what is missing falls back with a line",
    )
    parser.add_argument(
        "--output", default="eval_results.json", help="results file (default: eval_results.json)"
    )
    parser.add_argument(
        "--report", metavar="FILE", help="write one HTML page with tables, plots and samples to look through"
    )
    parser.add_argument("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    parser.add_argument(
        "--limit", type=int, help="evaluate at most this many samples, drawn by --seed with their twins"
    )
    parser.add_argument(
        "--predictions", metavar="FILE", help="score these completions instead of running a model"
    )
    parser.add_argument(
        "--compare",
        nargs=2,
        metavar=("A", "B"),
        help="print two results files side by side, with what differs in their settings, and stop",
    )
    parser.add_argument(
        "--confidence-threshold", type=float, help="count an answer of lower confidence (0-1) as a refusal"
    )
    parser.add_argument(
        "--wanted-precision",
        type=float,
        help="take the threshold at which val answers kept were right this often (0-1)",
    )
    parser.add_argument(
        "--confidence-kind",
        default="stated",
        choices=KINDS,
        help="confidence that thresholds look at: in the completion, or fitted on val (SFT model only)",
    )
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 is greedy; above, completions are drawn with --seed"
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="fixes the draw of --limit, sampling and the bootstrap"
    )
    parser.add_argument(
        "--constrained",
        action="store_true",
        help="report each model a second time, with decoding held to the output schema",
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


# --- predictions


def build_prompts(builder: PromptBuilder, samples: list[dict], view: str | None) -> list:
    """Prompts of samples with all their evidence, or with what a view of `EVIDENCE_VIEWS` leaves; `shown` holds the sample's own chunk ids."""
    if view is None:
        return [builder.build(sample) for sample in samples]
    left = [EVIDENCE_VIEWS[view](sample) for sample in samples]
    prompts = [builder.build(show_only(sample, ids)) for sample, ids in zip(samples, left)]
    return [
        dataclasses.replace(prompt, shown=[ids[i] for i in prompt.shown])
        for prompt, ids in zip(prompts, left)
    ]


def run_model(
    model,
    tokenizer,
    name: str,
    template: str,
    max_tokens: int,
    samples: list[dict],
    args,
    log: ShardLog,
    view: str | None = None,
) -> dict:
    """Generate what is missing in the log of this process's share for one model. Returns its time and throughput."""
    done = {row["id"] for row in log.rows() if row["model"] == name}
    todo = [sample for sample in log.shards.mine(samples) if sample["id"] not in done]
    built = build_prompts(PromptBuilder(tokenizer, template, max_tokens), todo, view)
    prompts = {sample["id"]: prompt for sample, prompt in zip(todo, built)}
    generation = GenerationSettings(
        batch_size=args.batch_size,
        max_new_tokens=args.max_new_tokens,
        sampling=Sampling(temperature=args.temperature, seed=args.seed),
        seeds=[int(sha256_value([args.seed, name, sample["id"]])[:8], 16) for sample in todo],
        buckets=parse_buckets(args),
    )
    started = time.monotonic()
    n_tokens = 0
    constrained = name.endswith("_constrained")
    for rows in predict(model, tokenizer, prompts, name, generation, constrained):
        log.add(rows)
        n_tokens += sum(row["n_tokens"] for row in rows)
    seconds = time.monotonic() - started
    rate = round(len(todo) / max(seconds, 1e-9), 3)
    return {
        "seconds": round(seconds, 1),
        "samples_per_second": rate,
        "new_tokens": n_tokens,
        "n_generated": len(todo),
        "processes": log.shards.n_processes,
    }


def parse_buckets(args: argparse.Namespace) -> list[int]:
    try:
        buckets = sorted(int(part) for part in args.buckets.split(","))
    except ValueError as error:
        raise UsageError(
            f"--buckets {args.buckets}: write lengths in tokens, for example 512,1024,2048"
        ) from error
    return buckets if args.fast else []


def plan_models(args: argparse.Namespace, template: str) -> dict[str, tuple[str, str | None]]:
    """Name of each model to run -> its template and its view of the evidence (None: all of it); those of the checkpoint come first."""
    runs = {"sft": (template, None)} | ({"base": (template, None)} if args.compare_baseline else {})
    if args.baseline_fewshot:
        runs["base_fewshot"] = ("fewshot", None)
    if args.constrained:
        runs |= {f"{name}_constrained": run for name, run in runs.items()}
    runs |= {view: (template, view) for view in EVIDENCE_VIEWS if getattr(args, f"baseline_{view}")}
    return {name: runs[name] for name in sorted(runs, key=lambda name: name.startswith("base"))}


def generate_predictions(
    args: argparse.Namespace, samples: list[dict], log_path: Path, settings: dict, shards: Shards
) -> tuple[list[dict], dict]:
    """Predictions of all models to run, and the time of each; one load where the checkpoint is an adapter of the base model."""
    runs = plan_models(args, settings["template"])
    max_tokens = settings["max_prompt_tokens"]
    options = LoadOptions(attention=args.attn_impl)
    times: dict = {}
    with sft_and_base(settings["model_dir"], args.base_model, options, compile_it=args.fast) as models:
        log = ShardLog(log_path, settings, shards)
        for name, (template, view) in runs.items():
            text = load_template("sft", template)
            is_base = name.startswith("base")
            with models.base() if is_base else models.sft():
                times[name] = run_model(
                    models.model, models.tokenizer, name, text, max_tokens, samples, args, log, view
                )
            if is_base:
                times["base_revision"] = models.base_revision
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    return log.finish(lambda row: (list(runs).index(row["model"]), place[row["id"]])), times


# --- the run


def checkpoint_settings(args: argparse.Namespace) -> dict:
    """Everything that decides the completions; predictions made with other settings are not gone on from."""
    settings = prompt_settings(check_adapter_dir(args.model_path), args.template)
    flags = (
        "base_model",
        "compare_baseline",
        "baseline_fewshot",
        "baseline_closed_book",
        "baseline_gold_only",
        "constrained",
        "max_new_tokens",
        "attn_impl",
        "limit",
        "temperature",
        "seed",
    )
    return (
        settings
        | {flag: getattr(args, flag) for flag in flags}
        | {"template_text": load_template("sft", settings["template"])}
    )


def read_calibration(model_path: str | None) -> dict | None:
    path = input_path(model_path).parent / "calibration.json" if model_path else None
    return read_json(path) if path and path.is_file() else None


def print_plan(args: argparse.Namespace) -> None:
    for name in {args.model_path, args.base_model} - {None}:
        warn_missing_model(name)
    samples = planned_samples(input_path(args.test_data))
    if samples is not None:
        samples = pick_samples(samples, args.limit, args.seed)
        n_models = 0 if args.predictions else len(plan_models(args, args.template or "default"))
        n_tokens = n_models * (count_tokens(samples) + len(samples) * (150 + 30))
        print(f"would evaluate {n_models} models on {len(samples)} samples, about {n_tokens:,} tokens")
        if n_models:
            print(estimate(args.base_model or args.model_path, n_tokens, 1, 16))
    print(
        f"would write {home_path(args.output)}, its _predictions.jsonl and its _calibration.png"
        + (f" and {home_path(args.report)}" if args.report else "")
    )


def check_usage(args: argparse.Namespace) -> None:
    if not args.test_data:
        raise UsageError("name the samples with --test-data, for example data/processed/test.jsonl")
    if not args.predictions and not args.model_path:
        raise UsageError("name a checkpoint with --model-path, or completions with --predictions")
    if (args.compare_baseline or args.baseline_fewshot) and not args.base_model:
        raise UsageError("--compare-baseline and --baseline-fewshot need --base-model")
    if args.confidence_threshold is not None and args.wanted_precision is not None:
        raise UsageError("--confidence-threshold and --wanted-precision both set a threshold; give one")
    parse_buckets(args)


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if args.compare:
        print(compare_runs(*map(input_path, args.compare), args.test_data))
        return
    check_usage(args)
    if args.dry_run:
        print_plan(args)
        return
    started = time.monotonic()
    output = home_path(args.output)
    test_path = input_path(args.test_data)
    samples = pick_samples(read_samples(test_path), args.limit, args.seed)
    calibration = read_calibration(args.model_path)
    selection, selective = choose_selection(
        args.confidence_threshold, args.wanted_precision, args.confidence_kind, calibration
    )
    val_path = test_path.with_name("val.jsonl")
    val = read_samples(val_path) if val_path.is_file() and val_path != test_path else []
    inputs = hash_inputs([test_path])
    times = {}
    if args.predictions:
        settings = {"predictions": args.predictions}
        predictions = read_predictions(input_path(args.predictions), samples)
    else:
        settings = checkpoint_settings(args) | {"inputs": inputs}
        shards = Shards()
        predictions, times = generate_predictions(args, samples, predictions_path(output), settings, shards)
        if not shards.is_main:
            return
    rows = predictions + baseline_predictions(samples, val)
    results, parsed = score_all(rows, samples, args.seed, selection, (calibration or {}).get("isotonic"))
    if selection:
        results["selective"] = selective | {"test": measure_selection(predictions, samples, selection)}
    if not args.predictions:
        write_jsonl(predictions_path(output), describe_rows(predictions, parsed, samples))
    n_cut = count_gold_cut([row for row in predictions if row["model"] == "sft"], samples)
    results["run"] = describe_run(
        {**vars(args), **{k: v for k, v in settings.items() if k != "template_text"}},
        inputs,
        args.seed,
        times=times,
        gold_cut=n_cut,
        seconds=round(time.monotonic() - started, 1),
    ) | {"status": "complete"}
    write_json(output, results)
    plot_calibration(output.with_name(f"{output.stem}_calibration.png"), results["curves"])
    print(results_text(results))
    if args.report:
        shown = write_report(home_path(args.report), results, predictions, parsed, samples)
        print(f"wrote {home_path(args.report)} ({shown})")
    print(
        f"wrote {output} ({len(samples)} samples, {format_drops({})}, gold cut {n_cut}) in {format_seconds(time.monotonic() - started)}"
    )
    print(
        f"next: python make_prefs.py --phase generate --sft-model {args.model_path or 'CHECKPOINT'} --base-model {args.base_model or 'BASE'} "
        "--data-path data/processed/train.jsonl"
    )


if __name__ == "__main__":
    run_main(main)
