"""Evaluation: SFT checkpoint (and base model) -> predictions -> metrics with intervals, beside baselines that need no model.

Reads a sample file and a checkpoint of train_sft.py, or with --predictions a file of completions.
Writes the results JSON and <stem>_predictions.jsonl beside it.

    python evaluate_sft_fast_robust.py --model-path checkpoints/sft/demo/checkpoint-best --base-model embedded \\
        --test-data data/processed/test.jsonl --compare-baseline --batch-size 16 --max-new-tokens 64 --output eval_results.json
    python evaluate_sft_fast_robust.py --predictions eval_results_predictions.jsonl --test-data data/processed/test.jsonl --output rescored.json
"""

import argparse
import contextlib
import dataclasses
import time
from pathlib import Path

from prompt_schema import PromptBuilder, load_template
from utils.answering import predict
from utils.attention import use_grouped_attention
from utils.baselines import always_refuse, cite_first_chunk, lexical, lexical_score
from utils.completions import map_citations, parse_completion, render_completion
from utils.config import home_path, input_path
from utils.errors import DataError, UsageError, run_main
from utils.generation import compile_for_speed
from utils.intervals import as_numbers, group_sums, paired_deltas, total, with_intervals
from utils.jsonl import read_json, read_jsonl, sha256_value, write_json
from utils.metrics import confidence_metrics, rates_from_sums, score_sample
from utils.models import ATTENTION_FLAGS, adapter_base, check_adapter_dir, load_model, load_tokenizer, merge_for_speed, model_revision
from utils.plan import count_rows, estimate, warn_missing_model
from utils.report import format_number, format_table
from utils.runs import describe_run, format_drops, format_seconds, hash_inputs
from utils.sampling import Sampling
from utils.schema import pick_samples, read_samples
from utils.shards import ShardLog, Shards
from utils.text import REFUSAL

HEADLINE = ("em_answerable", "f1_answerable", "citation_correctness", "citation_f1", "refusal_f1", "hallucination_rate", "answered_rate", "net_score")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("--model-path", help="checkpoint directory of train_sft.py, or a full model")
    parser.add_argument("--base-model", help="model the checkpoint was trained from: hub id, directory or embedded")
    parser.add_argument("--test-data", required=True, help="sample file with gold")
    parser.add_argument("--compare-baseline", action="store_true", help="evaluate the base model on the same prompts")
    parser.add_argument("--baseline-fewshot", action="store_true", help="evaluate the base model with the few-shot template too")
    parser.add_argument("--batch-size", type=int, default=8, help="rows generated at once; memory, not results, depends on it")
    parser.add_argument("--max-new-tokens", type=int, default=128, help="tokens after which a completion is cut")
    parser.add_argument("--fast", action="store_true", help="on CUDA: pad prompts to --buckets and compile the model; on CPU: sorted batches, as always")
    parser.add_argument("--buckets", default="512,1024,2048,4096", help="prompt lengths in tokens that --fast pads to")
    parser.add_argument("--attn-impl", default="auto", choices=ATTENTION_FLAGS, help="attention kernel; what is missing falls back with a line")
    parser.add_argument("--output", default="eval_results.json", help="results file (default: eval_results.json)")
    parser.add_argument("--template", help="prompt template (default: the one in the checkpoint's run.json)")
    parser.add_argument("--limit", type=int, help="evaluate at most this many samples, drawn by --seed with their twins")
    parser.add_argument("--predictions", metavar="FILE", help="score these completions instead of running a model")
    parser.add_argument("--confidence-threshold", type=float, help="count an answer with a lower stated confidence (0-1) as a refusal")
    parser.add_argument("--temperature", type=float, default=0.0, help="0 is greedy; above, completions are drawn with --seed")
    parser.add_argument("--seed", type=int, default=42, help="fixes the draw of --limit, sampling and the bootstrap")
    parser.add_argument("--constrained", action="store_true", help="report each model a second time, with decoding held to the output schema")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


# --- predictions


def run_model(model, tokenizer, name: str, template: str, max_tokens: int, samples: list[dict], args, log: ShardLog) -> dict:
    """Generate what is missing in the log of this process's share for one model. Returns its time and throughput."""
    done = {row["id"] for row in log.rows() if row["model"] == name}
    todo = [sample for sample in log.shards.mine(samples) if sample["id"] not in done]
    builder = PromptBuilder(tokenizer, template, max_tokens)
    prompts = [builder.build(sample) for sample in todo]
    started, n_tokens = time.monotonic(), 0
    options = {"batch_size": args.batch_size, "max_new_tokens": args.max_new_tokens, "buckets": parse_buckets(args)}
    options |= {"sampling": Sampling(temperature=args.temperature, seed=args.seed), "constrained": name.endswith("_constrained")}
    options["seeds"] = [int(sha256_value([args.seed, name, sample["id"]])[:8], 16) for sample in todo]
    for rows in predict(model, tokenizer, prompts, [sample["id"] for sample in todo], name=name, **options):
        log.add(rows)
        n_tokens += sum(row["n_tokens"] for row in rows)
    seconds = time.monotonic() - started
    rate = round(len(todo) / max(seconds, 1e-9), 3)
    return {"seconds": round(seconds, 1), "samples_per_second": rate, "new_tokens": n_tokens, "n_generated": len(todo), "processes": log.shards.n_processes}


def parse_buckets(args: argparse.Namespace) -> list[int]:
    try:
        buckets = sorted(int(part) for part in args.buckets.split(","))
    except ValueError as error:
        raise UsageError(f"--buckets {args.buckets}: write lengths in tokens, for example 512,1024,2048") from error
    return buckets if args.fast else []


def load_generator(name: str, args: argparse.Namespace):
    """A model ready to generate: adapter merged where that is exact, the fastest attention of the machine, compiled with --fast."""
    model = merge_for_speed(load_model(name, attention=args.attn_impl))
    model = use_grouped_attention(model) if args.attn_impl == "auto" else model
    return compile_for_speed(model) if args.fast else model


def generate_predictions(args: argparse.Namespace, samples: list[dict], log_path: Path, settings: dict, shards: Shards) -> tuple[list[dict], dict]:
    """Predictions of the SFT model and, as asked, of the base model; from one load where the checkpoint is an adapter of that base."""
    checkpoint, template, max_tokens = Path(settings["model_dir"]), settings["template"], settings["max_prompt_tokens"]
    tokenizer, model = load_tokenizer(str(checkpoint)), load_generator(str(checkpoint), args)
    log, times = ShardLog(log_path, settings, shards), {}
    runs = {"sft": template}
    if args.compare_baseline:
        runs["base"] = template
    if args.constrained:
        runs |= {f"{name}_constrained": template for name in runs}
    if args.baseline_fewshot:
        runs["base_fewshot"] = "fewshot"
    runs = {name: runs[name] for name in sorted(runs, key=lambda name: name.startswith("base"))}
    base = base_tokenizer = None
    same_base = adapter_base(str(checkpoint)) == args.base_model
    for name, template_name in runs.items():
        text = load_template("sft", template_name)
        if name.startswith("sft"):
            times[name] = run_model(model, tokenizer, name, text, max_tokens, samples, args, log)
            continue
        if base is None:
            base, base_tokenizer = (model, tokenizer) if same_base else (load_generator(args.base_model, args), load_tokenizer(args.base_model))
            times["base_revision"] = model_revision(base)
        with model.disable_adapter() if same_base else contextlib.nullcontext():
            times[name] = run_model(base, base_tokenizer, name, text, max_tokens, samples, args, log)
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    return log.finish(lambda row: (list(runs).index(row["model"]), place[row["id"]])), times


def baseline_predictions(samples: list[dict], val: list[dict]) -> list[dict]:
    """`always_refuse`, `cite_first_chunk` and `lexical`, as completions like a model's."""
    threshold = tune_lexical(val) if val else 0.0
    answerers = {"always_refuse": always_refuse, "cite_first_chunk": cite_first_chunk, "lexical": lambda sample: lexical(sample, threshold)}
    return [{"id": s["id"], "model": name, "completion": render_completion(*answer(s))} for name, answer in answerers.items() for s in samples]


def tune_lexical(val: list[dict]) -> float:
    """The score threshold with the best net score of the lexical baseline on val."""
    thresholds = [0.0] + sorted({lexical_score(sample)[0] for sample in val})

    def net(threshold: float) -> float:
        rows = [{"id": s["id"], "completion": render_completion(*lexical(s, threshold))} for s in val]
        terms, _ = score_rows(rows, val, None)
        return sum(term["net_score"] for term in terms)

    step = max(1, len(thresholds) // 40)
    return max(thresholds[::step], key=net)


# --- scores


def score_rows(rows: list[dict], samples: list[dict], threshold: float | None, strict: bool = False) -> tuple[list[dict], list]:
    """Terms and parsed completions, in the order of `samples`. Shown numbers are mapped back to the sample's chunk ids."""
    by_id = {row["id"]: row for row in rows}
    terms, parsed_rows = [], []
    for sample in samples:
        row = by_id[sample["id"]]
        shown = row.get("shown") or list(range(len(sample["evidence_chunks"])))
        valid = parse_completion(row["completion"], len(shown), strict=True).is_valid
        parsed = map_citations(parse_completion(row["completion"], len(shown), strict), shown)
        if threshold is not None and parsed.is_answer and (parsed.confidence or 0.0) < threshold:
            parsed = dataclasses.replace(parsed, answer=REFUSAL, citations=[], is_refusal=True)
        terms.append(score_sample(parsed, valid, sample))
        parsed_rows.append(parsed)
    return terms, parsed_rows


def score_model(rows: list[dict], samples: list[dict], args: argparse.Namespace, isotonic: dict | None) -> tuple[dict, list[dict]]:
    """All metrics of one model, and the terms they come from."""
    groups = [sample["group"] for sample in samples]
    terms, parsed = score_rows(rows, samples, args.confidence_threshold)
    strict, _ = score_rows(rows, samples, args.confidence_threshold, strict=True)
    by_id = {row["id"]: row for row in rows}
    probabilities = [by_id[sample["id"]].get("probability") for sample in samples]
    known = None if None in probabilities else probabilities
    metrics = with_intervals(terms, groups, args.seed) | confidence_metrics(parsed, samples, known, isotonic)
    metrics["strict"] = as_numbers(rates_from_sums(total(group_sums(strict, groups))))
    metrics["n"] = len(samples)
    return metrics, terms


def score_all(predictions: list[dict], samples: list[dict], args: argparse.Namespace, isotonic: dict | None) -> dict:
    """The results object of section "Results" without its `run`."""
    by_model: dict[str, list[dict]] = {}
    for row in predictions:
        by_model.setdefault(row["model"], []).append(row)
    scored = {name: score_model(rows, samples, args, isotonic if name == "sft" else None) for name, rows in by_model.items()}
    groups = [sample["group"] for sample in samples]
    results = {name: scored[name][0] for name in ("sft", "base") if name in scored}
    if "sft" in scored and "base" in scored:
        results["deltas"] = paired_deltas(scored["sft"][1], scored["base"][1], groups, args.seed)
    results["baselines"] = {name: metrics for name, (metrics, _) in scored.items() if name not in ("sft", "base")}
    if "sft" in scored:
        others = [name for name in scored if name != "sft"]
        results["deltas_to"] = {name: paired_deltas(scored["sft"][1], scored[name][1], groups, args.seed) for name in others}
    results["by_source"] = {
        source: {name: slice_metrics(terms, samples, source) for name, (_, terms) in scored.items()} for source in sorted({s["source"] for s in samples})
    }
    return results


def slice_metrics(terms: list[dict], samples: list[dict], source: str) -> dict:
    chosen = [term for term, sample in zip(terms, samples) if sample["source"] == source]
    sums = {name: sum(term[name] for term in chosen) for name in chosen[0]}
    return {"n": len(chosen), **as_numbers(rates_from_sums(sums))}


def read_predictions(path: Path, samples: list[dict]) -> list[dict]:
    """Rows {"id", "model", "completion"} of a file; each model must cover every sample exactly once."""
    known = {sample["id"] for sample in samples}
    seen: dict[str, set[str]] = {}
    rows = []
    for number, row in read_jsonl(path):
        if not all(isinstance(row.get(field), str) for field in ("id", "model", "completion")):
            raise DataError(f"{path}:{number}: a prediction needs the texts id, model and completion")
        if row["id"] not in known:
            continue
        if row["id"] in seen.setdefault(row["model"], set()):
            raise DataError(f"{path}:{number}: {row['model']} has a second prediction for {row['id']}")
        seen[row["model"]].add(row["id"])
        rows.append(row)
    for model, ids in seen.items():
        if missing := known - ids:
            raise DataError(f"{path}: {model} lacks {len(missing)} of {len(known)} samples, e.g. {min(missing)}; use the test file they came from")
    if not rows:
        raise DataError(f"{path}: no prediction matches a sample of the test data")
    return rows


# --- the run


def checkpoint_settings(args: argparse.Namespace) -> dict:
    """Template and prompt limit: from the flags, else the checkpoint's run.json, else the defaults."""
    checkpoint = check_adapter_dir(args.model_path)
    manifest = Path(checkpoint) / "run.json"
    run = read_json(manifest) if manifest.is_file() else {}
    settings = {"model_dir": checkpoint, "template": args.template or run.get("template", "default"), "max_prompt_tokens": run.get("max_prompt_tokens", 4096)}
    flags = ("base_model", "compare_baseline", "baseline_fewshot", "constrained", "max_new_tokens", "attn_impl", "limit", "temperature", "seed")
    settings |= {flag: getattr(args, flag) for flag in flags}
    return settings | {"template_text": load_template("sft", settings["template"]), "checkpoint_hashes": hash_inputs([Path(checkpoint)])}


def read_calibration(model_path: str | None) -> dict | None:
    path = input_path(model_path).parent / "calibration.json" if model_path else None
    return read_json(path).get("isotonic") if path and path.is_file() else None


def print_plan(args: argparse.Namespace) -> None:
    for name in {args.model_path, args.base_model} - {None}:
        warn_missing_model(name)
    counted = count_rows(input_path(args.test_data), args.limit)
    if counted:
        n_models = (1 + args.compare_baseline) * (1 + args.constrained) + args.baseline_fewshot
        n_tokens = n_models * (counted[1] + counted[0] * (150 + 30))
        print(f"would evaluate {n_models} models on {counted[0]} samples, about {n_tokens:,} tokens")
        print(estimate(args.base_model or args.model_path, n_tokens, 1, 16))
    print(f"would write {home_path(args.output)} and its _predictions.jsonl")


def print_summary(results: dict) -> None:
    scored = {name: results[name] for name in ("sft", "base") if name in results} | results["baselines"]
    print(format_table(["", *HEADLINE], [[name, *(format_number(metrics[key]) for key in HEADLINE)] for name, metrics in scored.items()]))
    for name in ("em", "f1", "hallucination_rate", "citation_correctness", "refusal_f1", "net_score"):
        if "deltas" in results:
            value, interval = results["deltas"][name], results["deltas"]["ci95"][name]
            note = "" if not interval or interval[0] > 0 or interval[1] < 0 else " (interval holds 0)"
            shown = f" [{interval[0]:+.3f}, {interval[1]:+.3f}]{note}" if interval else ""
            print(f"sft against base, {name}: {value:+.3f}{shown}" if value is not None else f"sft against base, {name}: -")


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if not args.predictions and not args.model_path:
        raise UsageError("name a checkpoint with --model-path, or completions with --predictions")
    if (args.compare_baseline or args.baseline_fewshot) and not args.base_model:
        raise UsageError("--compare-baseline and --baseline-fewshot need --base-model")
    parse_buckets(args)
    if args.dry_run:
        print_plan(args)
        return
    started, output, test_path = time.monotonic(), home_path(args.output), input_path(args.test_data)
    samples = pick_samples(read_samples(test_path), args.limit, args.seed)
    val_path = test_path.with_name("val.jsonl")
    val = read_samples(val_path) if val_path.is_file() and val_path != test_path else []
    times: dict = {}
    inputs = hash_inputs([test_path])
    if args.predictions:
        settings = {"predictions": args.predictions}
        predictions = read_predictions(input_path(args.predictions), samples)
    else:
        settings = checkpoint_settings(args) | {"inputs": inputs}
        shards = Shards()
        predictions, times = generate_predictions(args, samples, output.with_name(f"{output.stem}_predictions.jsonl"), settings, shards)
        if not shards.is_main:
            return
    results = score_all(predictions + baseline_predictions(samples, val), samples, args, read_calibration(args.model_path))
    n_cut = count_gold_cut(predictions, samples)
    results["run"] = describe_run({**vars(args), **{k: v for k, v in settings.items() if k != "template_text"}}, inputs, args.seed, times=times,
                                  gold_cut=n_cut, seconds=round(time.monotonic() - started, 1)) | {"status": "complete"}  # fmt: skip
    write_json(output, results)
    print_summary(results)
    print(f"wrote {output} ({len(samples)} samples, {format_drops({})}, gold cut {n_cut}) in {format_seconds(time.monotonic() - started)}")
    print(f"next: python make_prefs.py --phase generate --sft-model {args.model_path or 'CHECKPOINT'} --base-model {args.base_model or 'BASE'} "
          "--data-path data/processed/train.jsonl")  # fmt: skip


def count_gold_cut(predictions: list[dict], samples: list[dict]) -> int:
    """Samples of the SFT model whose prompt lost every support set to the length limit."""
    by_id = {sample["id"]: sample for sample in samples}
    rows = [row for row in predictions if row["model"] == "sft" and "shown" in row]
    return sum(by_id[r["id"]]["answerable"] and not any(set(s) <= set(r["shown"]) for s in by_id[r["id"]]["support_sets"]) for r in rows)


if __name__ == "__main__":
    run_main(main)
