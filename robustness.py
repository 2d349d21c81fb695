"""Robustness: perturbed test samples -> predictions of a checkpoint -> metrics and curves over the levels.

Reads a sample file and a checkpoint of train_sft.py. Writes the results JSON (robustness.json), and beside it
<stem>.png, one panel per suite, and <stem>_predictions.jsonl. A prompt that several levels share is generated
once; an interrupted run resumes where it stopped.

    python robustness.py --model-path checkpoints/sft/demo/checkpoint-best \\
        --test-data data/processed/test.jsonl --limit 100 --batch-size 16
    python robustness.py --model-path checkpoints/sft/demo/checkpoint-best \\
        --test-data data/processed/test.jsonl --suite order,injection --dry-run

Suites: distractors (2, 4 or 8 more chunks, verified not to answer), support_drop (25-100% of the support
removed, the gold turned into a refusal where no whole support set is left), noise (letters or words at 1, 3
and 5%), order (the gold chunk at each position), injection (evidence with instructions, fake JSON, chat
control tokens or a false statement), counterfactual (the answer swapped for another in all the evidence).
"""

import argparse
import time
from pathlib import Path

from evaluation.inputs import check_inputs
from evaluation.output_files import check_output_files, predictions_path, results_name
from models.base import base_of_flags
from models.choices import add_model_flags, attention_settings, check_engine, engine_settings, load_options
from models.directories import check_adapter_dir
from perturbations.prompts import describe_level_rows, distinct_samples, row_of
from perturbations.suites import SUITES, Suite, build_suites, write_samples
from utils.arguments import order_count, positive_int, sample_limit, seed_number, stage_parser
from utils.config import home_path, input_path, nearest
from utils.decisions import decision_settings, decisions_of
from utils.errors import UsageError
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("--test-data", required=True, help="sample file with gold")
    add("--output", default="robustness.json", help="results file (default: robustness.json)")
    add("--samples-dir", metavar="DIR", help="also write the samples of every level there, as sample files")

    model = parser.add_argument_group("model")
    add = model.add_argument
    add("--model-path", required=True, help="checkpoint directory of train_sft.py, or a full model")
    add("--base-model", help="where the checkpoint's base model is (default: where the checkpoint says)")
    add("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    add_model_flags(model)
    orders = "answer with the chunks in N orders (2-8) and take what they agree on, at up to N times the cost"
    add("--orders", type=order_count, metavar="N", help=orders)

    add = parser.add_argument_group("limits").add_argument
    limit = "perturb at most N samples, sampled with --seed; twins stay together (0: all; default: 100)"
    add("--limit", type=sample_limit, default=100, metavar="N", help=limit)
    prompt_tokens = "longer prompts lose chunks (default: the limit in the checkpoint's run.json)"
    add("--max-prompt-tokens", type=positive_int, help=prompt_tokens)
    add("--max-new-tokens", type=positive_int, default=64, help="tokens after which a completion is cut")
    batch = "rows generated at once: changes memory, not results"
    add("--batch-size", type=positive_int, default=8, help=batch)

    add = parser.add_argument_group("run").add_argument
    add("--suite", default=",".join(SUITES), help=f"suites, separated by commas (default: all {len(SUITES)})")
    seed = "decides --limit's samples, every perturbation and the bootstrap"
    add("--seed", type=seed_number, default=42, help=seed)
    add("--overwrite", action="store_true", help="replace results that are there, also of other settings")
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def read_arguments(argv: list[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """(the flags, the names of the suites to run). UsageError for an unknown suite."""
    args = build_parser().parse_args(argv)
    # Spaces after the commas are fine.
    names = [name.strip() for name in args.suite.split(",") if name.strip()]
    for name in names:
        if name not in SUITES:
            raise UsageError(f"--suite {args.suite}: unknown suite {name!r}{nearest(name, SUITES)}")
    if not args.dry_run:
        check_output_files(args)
        check_inputs(args)
    check_engine(args)
    args.base_model = base_of_flags(args)
    return args, list(dict.fromkeys(names)) or list(SUITES)


if __name__ == "__main__":
    before_imports(lambda: read_arguments(None))

from evaluation.columns import metric_table
from evaluation.plots import plot_robustness
from evaluation.predictions import (
    count_gold_cut,
    log_key,
    prompt_settings,
    replace_predictions,
)
from evaluation.results import score_rows
from evaluation.reuse import CHECKPOINT_SETTINGS, close_results, describe_results_run, finished_results
from evidence.reserved import trained_on_warning
from generation.answering import load_generator, predict
from generation.decisions import decision_biases
from generation.engine import GenerationSettings
from generation.predicted import known_tokens, without_tokens
from generation.throughput import Throughput
from models.distributed import ShardLog, Shards, hold_output, note_in_first_process
from models.hardware import weights_precision
from models.loading import load_tokenizer
from models.positions import prompt_limit
from perturbations.measures import changed_and_shown, level_deltas, measured
from perturbations.plan import print_plan
from prompt_schema import PromptBuilder, load_template
from reporting.pipeline import refresh_report
from utils.intervals import with_intervals
from utils.metrics import ROBUSTNESS_METRICS
from utils.progress import track
from utils.runs import format_drops, format_seconds, note
from utils.schema import pick_samples, read_samples

# Settings that decide the results.
DECIDING = ("suite", "limit", "seed", "orders", "attn_impl", "engine", *CHECKPOINT_SETTINGS)

# A level whose prompts lack more chunks than this, in the mean, is not what its name says.
_CUT_SHOWN = 0.1

# --- predictions


def generate_missing(
    args: argparse.Namespace, distinct: dict[str, dict], settings: dict, log: ShardLog
) -> dict:
    """Generate the completions of this process's share that the log lacks. A row's id is its prompt's key.

    All levels of all suites together, so that batches are sorted over everything. Returns time, throughput.
    """
    mine = {key: distinct[key] for key in log.shards.mine(list(distinct))}
    known = known_tokens(log.rows(), "sft", mine)
    if len(known) == len(mine):
        return {}
    checkpoint = str(input_path(settings["model_dir"]))
    tokenizer = load_tokenizer(checkpoint)
    limits = (settings["max_prompt_tokens"], args.max_new_tokens)
    model = load_generator(checkpoint, load_options(args, args.base_model, max_length=sum(limits)))
    builder = PromptBuilder(tokenizer, settings["template_text"], prompt_limit(model, *limits))
    prompts = {key: builder.build(mine[key]) for key in track(mine, "reading prompts", "prompt")}
    biases = decision_biases(tokenizer, decisions_of(settings), mine.values(), prompts.values())
    generation = GenerationSettings(args.batch_size, args.max_new_tokens, biases=biases, known=known)
    speed = Throughput(prompts, log.shards.n_processes)
    for rows in predict(model, tokenizer, prompts, "sft", generation):
        log.add(rows)
        speed.add(rows)
    return {"sft": speed.facts()}


# --- metrics


def score_level(
    suite: Suite, samples: list[dict], rows: list[dict], seed: int, first: list | None
) -> tuple[dict, list[dict], list]:
    """(metrics of one level with intervals, the terms that differences are computed from, parsed replies).

    `first`: the parsed replies of the first level; None at that level.
    """
    terms, parsed = score_rows(rows, samples)
    groups = [sample["group"] for sample in samples]
    level = {"n": len(samples), **with_intervals(terms, groups, seed, ROBUSTNESS_METRICS)}
    for name, found in measured(suite.extra, samples, rows, parsed, first or parsed, seed).items():
        level[name] = found["mean"]
        level["ci95"][name] = found["interval"]
        # Only the samples that it applies to count, so their number goes into the file.
        level[f"n_{name}"] = found["n"]
    # Dropped support turns answerable samples into unanswerable ones, which the metrics divide by.
    level["n_answerable"] = sum(sample["answerable"] for sample in samples)
    level["gold_cut"] = count_gold_cut(rows, samples)
    level |= changed_and_shown(samples, rows, next(iter(suite.levels.values())))
    return level, terms, parsed


def score_suite(
    suite: Suite, by_key: dict[str, dict], seed: int, n_orders: int = 1
) -> tuple[dict, dict[str, list[dict]]]:
    """(a suite's block of the results, level -> prediction rows under their samples' ids).

    `by_key`: prompt key -> prediction row, of which `n_orders` make one of a sample. Each level after the
    first gets paired differences to the first.
    """
    levels: dict[str, dict] = {}
    rows_of: dict[str, list[dict]] = {}
    first: list[dict] = []
    first_parsed: list | None = None
    for name, samples in suite.levels.items():
        # One generated row can serve several levels, each time under the id of the sample.
        rows_of[name] = [row_of(sample, by_key, n_orders) for sample in samples]
        levels[name], terms, parsed = score_level(suite, samples, rows_of[name], seed, first_parsed)
        if first_parsed is None:
            first = terms
            first_parsed = parsed
            continue
        deltas = level_deltas(terms, samples, first, next(iter(suite.levels.values())), seed)
        shown = [key for key in ROBUSTNESS_METRICS if key in deltas]
        intervals = {key: deltas["ci95"][key] for key in deltas["ci95"] if key in ROBUSTNESS_METRICS}
        levels[name]["deltas"] = {key: deltas[key] for key in shown} | {"ci95": intervals}
    block = {
        "axis": suite.axis,
        "ordered": suite.ordered,
        "plotted": list(suite.plotted),
        "n": len(first),
        "left_out": dict(suite.left_out),
        "levels": levels,
    }
    return block, rows_of


# --- the run


def print_suites(blocks: dict[str, dict]) -> None:
    """One table per suite: its plotted metrics at every level."""
    for name, suite in blocks.items():
        print(metric_table(f"{name}, {suite['n']} samples", suite["levels"], suite["plotted"]))
        for level, found in suite["levels"].items():
            # Results of earlier versions do not say it.
            if found.get("chunks", 0.0) - found.get("chunks_shown", 0.0) > _CUT_SHOWN:
                what = f"{found['chunks_shown']:.1f} of {found['chunks']:.1f} chunks"
                print(f"{level}: prompts show {what} on average; the rest is over the checkpoint's limit")
        print()


def main(argv: list[str] | None) -> None:
    args, names = read_arguments(argv)
    if args.dry_run:
        print_plan(args, names)
        return
    output = home_path(args.output)
    with hold_output(results_name(output)) as shards:
        run_suites(args, names, output, shards)


def run_suites(args: argparse.Namespace, names: list[str], output: Path, shards: Shards) -> None:
    """Perturb the samples, generate what is missing, score every level and write the results."""
    started = time.monotonic()
    test_path = input_path(args.test_data)
    everything = read_samples(test_path)
    samples = pick_samples(everything, args.limit, args.seed)
    checkpoint = check_adapter_dir(args.model_path)
    settings = prompt_settings(checkpoint, args.template, args.max_prompt_tokens, args.base_model)
    settings["template_text"] = load_template("sft", settings["template"])
    settings |= attention_settings(args.attn_impl) | engine_settings(args.engine)
    settings |= decision_settings(args.decisions, args.model_path)
    settings |= {"max_new_tokens": args.max_new_tokens, "precision": weights_precision(load_options(args))}
    warnings = [text for text in [trained_on_warning(args.model_path, samples)] if text]
    note_in_first_process(warnings)
    run = describe_results_run(args, {**settings, "suite": names, "attn_impl": args.attn_impl})
    suites, dropped = build_suites(names, samples, everything, args.seed)
    n_orders = args.orders or 1
    distinct = distinct_samples(suites, n_orders)
    if args.samples_dir and shards.is_main:
        write_samples(args.samples_dir, suites)

    finished = shards.decide(lambda: finished_results(output, "suites", run, DECIDING, args.overwrite))
    if finished:
        if shards.is_main:
            print_suites(finished["suites"])
            refresh_report()
        hint = f"next: look at {output.with_suffix('.png')}"
        shards.say(f"{output} is complete with these settings; nothing to do", hint)
        return

    log = ShardLog(predictions_path(output), log_key(settings), shards)
    n_done = len(distinct.keys() & {row["id"] for row in log.rows()})
    times = generate_missing(args, distinct, settings, log)
    by_key = {row["id"]: row for row in without_tokens(log.merged(lambda row: (row["id"],)))}
    if not shards.is_main:
        return

    blocks = {}
    rows = []
    for name, suite in track(suites.items(), "scoring", "suite"):
        blocks[name], rows_of = score_suite(suite, by_key, args.seed, n_orders)
        rows += describe_level_rows(name, suite, rows_of)
    seconds = round(time.monotonic() - started, 1)
    facts = {"n_generated": len(distinct) - n_done, "warnings": warnings, "times": times, "seconds": seconds}
    # The rows of the log have prompt keys as ids; here is one row per suite, level and sample.
    replace_predictions(output, log.path, rows)
    plot_robustness(output.with_suffix(".png"), blocks)
    close_results(output, {"suites": blocks, "run": run | facts}, args)
    print_suites(blocks)

    about = f"{len(distinct)} completions, {n_done} of them from before; {format_drops(dropped)}"
    print(f"wrote {output} ({about}) in {format_seconds(seconds)}")
    note(f"next: look at {output.with_suffix('.png')}; the completions are in {log.path}")
    refresh_report()


if __name__ == "__main__":
    run_main(main)
