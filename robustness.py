"""Robustness: perturbed test samples -> predictions of a checkpoint -> its figures at every level, with curves.

Reads a sample file and a checkpoint of train_sft.py. Writes the results JSON (robustness.json), and beside it <stem>.png, one panel a suite,
and <stem>_predictions.jsonl. A prompt that several levels share is generated once; an interrupted run goes on where it stopped.

    python robustness.py --model-path checkpoints/sft/demo/checkpoint-best --test-data data/processed/test.jsonl --limit 100 --batch-size 16
    python robustness.py --model-path checkpoints/sft/demo/checkpoint-best --test-data data/processed/test.jsonl --suite order,injection --dry-run

Suites: distractors (0/2/4/8 chunks more that are verified not to answer), support_drop (25-100% of the support gone, the gold turned to refusal
where no whole support set is left), noise (letters or words at 1/3/5%), order (the gold chunk at each place), injection (evidence that holds
instructions, fake JSON or chat control tokens), counterfactual (the answer swapped for another in all evidence: evidence or memory?).
"""

import argparse
import time
from collections import Counter

from evaluation.plots import plot_robustness
from evaluation.predictions import count_gold_cut, predictions_path, prompt_settings
from evaluation.results import score_rows
from evaluation.tables import format_number, format_table
from generation.answering import load_generator, predict
from generation.engine import GenerationSettings
from models.distributed import ShardLog, Shards
from models.estimate import estimate, planned_samples, warn_missing_model
from models.hardware import ATTENTION_FLAGS
from models.loading import LoadOptions, check_adapter_dir, load_tokenizer
from perturbations.suites import SUITES, Suite, build_suites, distinct_samples, prompt_key
from prompt_schema import PromptBuilder, load_template
from utils.completions import map_citations, parse_completion
from utils.config import home_path, input_path, nearest
from utils.errors import UsageError, run_main
from utils.intervals import mean_with_interval, paired_deltas, with_intervals
from utils.jsonl import write_json, write_jsonl
from utils.metrics import ROBUSTNESS_METRICS
from utils.runs import describe_run, format_drops, format_seconds, hash_inputs
from utils.schema import pick_samples, read_samples


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--model-path", required=True, help="checkpoint directory of train_sft.py, or a full model"
    )
    parser.add_argument("--test-data", required=True, help="sample file with gold")
    parser.add_argument(
        "--suite", default=",".join(SUITES), help="suites to run, with commas between (default: all six)"
    )
    parser.add_argument(
        "--limit",
        type=int,
        default=100,
        help="perturb at most this many samples, drawn by --seed with their twins; 0 takes all (default: 100)",
    )
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows generated at once; memory, not results, depends on it"
    )
    parser.add_argument(
        "--max-new-tokens", type=int, default=64, help="tokens after which a completion is cut"
    )
    parser.add_argument(
        "--attn-impl",
        default="auto",
        choices=ATTENTION_FLAGS,
        help="attention kernel; what is missing falls back with a line",
    )
    parser.add_argument("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    parser.add_argument(
        "--max-prompt-tokens",
        type=int,
        help="longer prompts lose chunks (default: the limit in the checkpoint's run.json)",
    )
    parser.add_argument("--output", default="robustness.json", help="results file (default: robustness.json)")
    parser.add_argument(
        "--samples-dir", metavar="DIR", help="write the samples of every level there too, as sample files"
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="fixes the draw of --limit, every perturbation and the bootstrap"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


# --- predictions and figures


def generate_missing(
    args: argparse.Namespace, distinct: dict[str, dict], settings: dict, log: ShardLog
) -> None:
    """Completions of all prompts of this process's share that the log lacks, longest first over all levels at once. Rows carry the prompt's key as id."""
    done = {row["id"] for row in log.rows()}
    todo = {key: distinct[key] for key in log.shards.mine(list(distinct)) if key not in done}
    if not todo:
        return
    tokenizer = load_tokenizer(settings["model_dir"])
    model = load_generator(settings["model_dir"], LoadOptions(attention=args.attn_impl))
    builder = PromptBuilder(tokenizer, settings["template_text"], settings["max_prompt_tokens"])
    prompts = {key: builder.build(sample) for key, sample in todo.items()}
    generation = GenerationSettings(args.batch_size, args.max_new_tokens)
    for rows in predict(model, tokenizer, prompts, "sft", generation):
        log.add(rows)


def score_level(suite: Suite, samples: list[dict], rows: list[dict], seed: int) -> tuple[dict, list[dict]]:
    """Figures of one level with intervals, and the terms that differences come from."""
    terms, parsed = score_rows(rows, samples)
    groups = [sample["group"] for sample in samples]
    level = {"n": len(samples), **with_intervals(terms, groups, seed, ROBUSTNESS_METRICS)}
    for name, measure in suite.extra.items():
        values = [(measure(sample, p), sample["group"]) for sample, p in zip(samples, parsed)]
        known = [(float(value), group) for value, group in values if value is not None]
        level[name], level["ci95"][name] = mean_with_interval(
            [v for v, _ in known], [g for _, g in known], seed
        )
        level[f"n_{name}"] = len(known)
    level["n_answerable"] = sum(sample["answerable"] for sample in samples)
    level["gold_cut"] = count_gold_cut(rows, samples)
    return level, terms


def score_suite(suite: Suite, by_key: dict[str, dict], seed: int) -> tuple[dict, dict[str, list[dict]]]:
    """A suite's block of the results, and the prediction rows of each level under their samples' ids."""
    levels = {}
    first = None
    rows_of = {}
    for name, samples in suite.levels.items():
        rows_of[name] = [{**by_key[prompt_key(sample)], "id": sample["id"]} for sample in samples]
        levels[name], terms = score_level(suite, samples, rows_of[name], seed)
        if first is None:
            first = terms
            continue
        deltas = paired_deltas(terms, first, [sample["group"] for sample in samples], seed)
        levels[name]["deltas"] = {key: deltas[key] for key in ROBUSTNESS_METRICS if key in deltas} | {
            "ci95": {k: v for k, v in deltas["ci95"].items() if k in ROBUSTNESS_METRICS}
        }
    n = len(next(iter(suite.levels.values())))
    block = {
        "axis": suite.axis,
        "ordered": suite.ordered,
        "plotted": list(suite.plotted),
        "n": n,
        "left_out": dict(suite.left_out),
        "levels": levels,
    }
    return block, rows_of


def describe_level_rows(name: str, suite: Suite, rows_of: dict[str, list[dict]]) -> list[dict]:
    """Prediction rows of a suite with level, parsed answer and citations as ids of the perturbed sample."""
    described = []
    for level, rows in rows_of.items():
        for row in rows:
            parsed = map_citations(parse_completion(row["completion"], len(row["shown"])), row["shown"])
            described.append(
                {"suite": name, "level": level, **row, "answer": parsed.answer, "citations": parsed.citations}
            )
    return described


# --- the run


def suite_names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in SUITES:
            raise UsageError(f"--suite {text}: unknown suite {name!r}{nearest(name, SUITES)}")
    return list(dict.fromkeys(names)) or list(SUITES)


def print_plan(args: argparse.Namespace, names: list[str]) -> None:
    warn_missing_model(args.model_path)
    everything = planned_samples(input_path(args.test_data))
    if everything:
        suites = build_suites(names, pick_samples(everything, args.limit, args.seed), everything, args.seed)
        distinct = distinct_samples(suites)
        for name, suite in suites.items():
            n = len(next(iter(suite.levels.values())))
            print(
                f"{name}: {len(suite.levels)} levels of {n} samples ({', '.join(suite.levels)}; {format_drops(suite.left_out)})"
            )
        chars = sum(
            len(s["question"]) * 2 + sum(len(c["title"]) + len(c["text"]) + 12 for c in s["evidence_chunks"])
            for s in distinct.values()
        )
        n_tokens = chars // 4 + len(distinct) * 40
        print(
            f"would generate {len(distinct)} completions, about {n_tokens:,} tokens (instructions are computed once a batch)"
        )
        print(estimate(args.model_path, n_tokens, 1, 16))
    output = home_path(args.output)
    print(f"would write {output}, {output.with_suffix('.png').name} and {output.stem}_predictions.jsonl")


def print_suites(suites: dict[str, dict]) -> None:
    for name, suite in suites.items():
        header = [f"{name}, {suite['n']} samples", *suite["plotted"]]
        print(
            format_table(
                header,
                [
                    [level, *(format_number(found[key]) if key in found else "-" for key in suite["plotted"])]
                    for level, found in suite["levels"].items()
                ],
            )
        )
        print()


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    names = suite_names(args.suite)
    if args.dry_run:
        print_plan(args, names)
        return
    started = time.monotonic()
    output = home_path(args.output)
    test_path = input_path(args.test_data)
    everything = read_samples(test_path)
    samples = pick_samples(everything, args.limit, args.seed)
    settings = prompt_settings(check_adapter_dir(args.model_path), args.template, args.max_prompt_tokens)
    settings["template_text"] = load_template("sft", settings["template"])
    inputs = hash_inputs([test_path])
    suites = build_suites(names, samples, everything, args.seed)
    distinct = distinct_samples(suites)
    if args.samples_dir:
        for name, suite in suites.items():
            for level, perturbed in suite.levels.items():
                write_jsonl(
                    home_path(args.samples_dir) / f"{name}-{level.replace(' ', '-').replace('%', '')}.jsonl",
                    perturbed,
                )
    shards = Shards()
    place = {key: i for i, key in enumerate(distinct)}
    log = ShardLog(predictions_path(output), {**settings, "max_new_tokens": args.max_new_tokens}, shards)
    n_done = len(distinct.keys() & {row["id"] for row in log.rows()})
    generate_missing(args, distinct, settings, log)
    by_key = {row["id"]: row for row in log.finish(lambda row: (place.get(row["id"], len(place)), row["id"]))}
    if not shards.is_main:
        return
    scored = {name: score_suite(suite, by_key, args.seed) for name, suite in suites.items()}
    blocks = {name: block for name, (block, _) in scored.items()}
    rows = [
        row
        for name, (_, rows_of) in scored.items()
        for row in describe_level_rows(name, suites[name], rows_of)
    ]
    shown = {key: value for key, value in settings.items() if key != "template_text"}
    seconds = time.monotonic() - started
    facts = {"n_generated": len(distinct) - n_done, "seconds": round(seconds, 1)}
    write_json(
        output,
        {
            "suites": blocks,
            "run": describe_run({**vars(args), **shown}, inputs, args.seed, **facts) | {"status": "complete"},
        },
    )
    write_jsonl(log.path, rows)
    plot_robustness(output.with_suffix(".png"), blocks)
    print_suites(blocks)
    dropped = sum((suite.left_out for suite in suites.values()), Counter())
    print(
        f"wrote {output} ({len(distinct)} completions, {n_done} of them from before; {format_drops(dropped)}) in {format_seconds(seconds)}"
    )
    print(f"next: look at {output.with_suffix('.png')}; the completions are in {log.path}")


if __name__ == "__main__":
    run_main(main)
