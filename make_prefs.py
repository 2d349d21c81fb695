"""Preferences: candidates of the SFT and the base model, judged, kept as chosen/rejected pairs with a margin.

Reads samples and, for --phase generate, the models. Writes prefs/cache/<gensig>/ (manifest.json, gens_sft.jsonl, gens_base.jsonl,
judgements_<judgesig>.jsonl), prefs/preferences_<gensig>-<judgesig>.jsonl and prefs/preference_stats_<gensig>-<judgesig>.json.

    python make_prefs.py --phase all --sft-model checkpoints/sft/demo/checkpoint-best --base-model embedded \\
        --data-path data/processed/train.jsonl --max-samples 60 --n-generations 2 --temperature 0.8
    python make_prefs.py --phase judge --judge-model Qwen/Qwen2.5-3B-Instruct --data-path data/processed/train.jsonl --min-margin 0.12
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from generation.answering import SftAndBase, load_generator, predict, sft_and_base
from generation.engine import GenerationSettings
from generation.sampling import Sampling
from models.distributed import ShardLog, Shards, progress
from models.estimate import count_tokens, estimate, planned_samples, warn_missing_model
from models.hardware import choose_dtype
from models.loading import LoadOptions, adapter_base, check_adapter_dir, load_tokenizer
from preferences.candidates import find_cache, read_candidates
from preferences.judges import (
    order_averaged,
    orders_agree,
    preference_probabilities,
    verifier_checks,
    verifier_score,
    win_scores,
)
from prompt_schema import JudgePrompts, PromptBuilder, fill_template, load_template, render_evidence
from utils.completions import map_citations, parse_completion
from utils.config import home_path, input_path
from utils.errors import DataError, UsageError, run_main
from utils.jsonl import read_appended, read_json, sha256_file, sha256_value, write_json, write_jsonl
from utils.runs import describe_run, format_drops, format_seconds, hash_inputs
from utils.schema import pick_samples, read_samples

# Flags that change the generated texts, with their defaults; None on the command line means "not given".
GENERATION_DEFAULTS = {
    "max_samples": None,
    "n_generations": 2,
    "max_new_tokens": 128,
    "max_input_tokens": 2048,
    "temperature": 0.7,
    "top_p": 1.0,
    "top_k": 0,
    "use_8bit": False,
    "use_4bit": False,
    "template": None,
    "seed": 42,
    "unseen_only": False,
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--phase",
        choices=("generate", "judge", "all"),
        default="all",
        help="generate candidates, judge cached ones, or both",
    )
    parser.add_argument("--sft-model", help="checkpoint directory of train_sft.py")
    parser.add_argument("--base-model", help="hub id, directory or embedded")
    parser.add_argument(
        "--judge-model", help="model that compares answers (needed for --judge llm and hybrid)"
    )
    parser.add_argument("--data-path", default="data/processed/train.jsonl", help="sample file")
    parser.add_argument(
        "--max-samples", "--limit", type=int, help="use at most this many samples, drawn by --seed"
    )
    parser.add_argument("--n-generations", type=int, help="candidates per model and sample (default: 2)")
    parser.add_argument(
        "--batch-size", type=int, default=8, help="rows generated at once; not part of the cache's signature"
    )
    parser.add_argument("--judge-batch-size", type=int, default=8, help="comparisons read at once")
    parser.add_argument(
        "--max-new-tokens", type=int, help="tokens after which a candidate is cut (default: 128)"
    )
    parser.add_argument(
        "--max-input-tokens", type=int, help="longest prompt; evidence is cut to fit (default: 2048)"
    )
    parser.add_argument("--temperature", type=float, help="0 gives one candidate per model (default: 0.7)")
    parser.add_argument(
        "--top-p", type=float, help="keep the smallest set of tokens with this probability (default: 1.0)"
    )
    parser.add_argument("--top-k", type=int, help="keep this many tokens; 0 keeps all (default: 0)")
    for flag, what in [("--use", "the generators"), ("--judge-use", "the judge")]:
        default = None if flag == "--use" else False
        parser.add_argument(
            f"{flag}-8bit", action="store_true", default=default, help=f"load {what} in 8 bits (bitsandbytes)"
        )
        parser.add_argument(
            f"{flag}-4bit", action="store_true", default=default, help=f"load {what} in 4 bits (bitsandbytes)"
        )
    parser.add_argument(
        "--min-margin",
        type=float,
        default=0.1,
        help="keep a pair when its scores differ by at least this (0-1)",
    )
    parser.add_argument(
        "--output-mode",
        choices=("lite", "rich"),
        default="lite",
        help="rich adds parsed outputs and gold fields to each row",
    )
    parser.add_argument(
        "--cache-sig", help="signature of the cache to judge (default: the newest that fits the other flags)"
    )
    parser.add_argument("--seed", type=int, help="fixes the draw of samples and of tokens (default: 42)")
    parser.add_argument(
        "--prefs-dir", default="prefs", help="folder of the cache and the results (default: prefs)"
    )
    parser.add_argument(
        "--judge",
        choices=("llm", "verifier", "hybrid"),
        help="who scores: default llm with --judge-model, else verifier (gold checks)",
    )
    parser.add_argument("--template", help="prompt template of the candidates (default: the checkpoint's)")
    parser.add_argument("--judge-template", default="default", help="judge template: default or simple")
    parser.add_argument(
        "--unseen-only",
        action="store_true",
        default=None,
        help="skip samples named in the checkpoint's train_ids.txt",
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="generate and judge anew instead of going on from the cache"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


# --- phase 1: candidates


def generation_settings(args: argparse.Namespace) -> dict:
    """Everything that changes the texts; its hash is the signature of the cache."""
    checkpoint = check_adapter_dir(args.sft_model)
    manifest = Path(checkpoint) / "run.json"
    trained = read_json(manifest) if manifest.is_file() else {}
    chosen = {
        name: default if getattr(args, name) is None else getattr(args, name)
        for name, default in GENERATION_DEFAULTS.items()
    }
    chosen["template"] = chosen["template"] or trained.get("template", "default")
    base = args.base_model or adapter_base(checkpoint)
    if base is None:
        raise UsageError("--base-model is needed: the checkpoint names none")
    data_path = input_path(args.data_path)
    if not data_path.is_file():
        raise DataError(f"{data_path}: no such file; run build_data.py or correct --data-path")
    return chosen | {
        "data_sha256": sha256_file(data_path),
        "sft_model": args.sft_model,
        "sft_hashes": hash_inputs([Path(checkpoint)])[checkpoint],
        "base_model": base,
        "template_text": load_template("sft", chosen["template"]),
        "precision": str(choose_dtype()),
    }


def draw_samples(settings: dict, data_path: Path) -> list[dict]:
    samples = read_samples(data_path)
    if settings["unseen_only"]:
        ids_path = input_path(settings["sft_model"]).parent / "train_ids.txt"
        if not ids_path.is_file():
            raise DataError(f"{ids_path}: no such file; --unseen-only needs the ids that train_sft.py wrote")
        seen = set(ids_path.read_text(encoding="utf-8").split("\n"))
        samples = [sample for sample in samples if sample["id"] not in seen]
    if not samples:
        raise DataError(f"{data_path}: no sample is left; drop --unseen-only")
    return pick_samples(samples, settings["max_samples"], settings["seed"])


def n_candidates(settings: dict) -> int:
    return settings["n_generations"] if settings["temperature"] > 0 else 1


def generate_candidates(
    models: SftAndBase, name: str, samples: list[dict], settings: dict, log: ShardLog, batch_size: int
) -> None:
    """Write the candidates of one model that its log lacks, this process's share. Candidates of a sample share the reading of its prompt."""
    done = {(row["id"], row["n"]) for row in log.rows()}
    n_each = n_candidates(settings)
    builder = PromptBuilder(models.tokenizer, settings["template_text"], settings["max_input_tokens"])
    todo = [
        (sample, n)
        for sample in log.shards.mine(samples)
        for n in range(n_each)
        if (sample["id"], n) not in done
    ]
    built = {sample["id"]: builder.build(sample) for sample, _ in todo}
    prompts = {(sample["id"], n): built[sample["id"]] for sample, n in todo}
    # Every candidate draws from a stream of its own, so that neither batches nor processes nor a restart change it.
    seeds = [int(sha256_value([settings["seed"], name, sample["id"], n])[:8], 16) for sample, n in todo]
    generation = GenerationSettings(
        batch_size=batch_size,
        max_new_tokens=settings["max_new_tokens"],
        sampling=Sampling(settings["temperature"], settings["top_p"], settings["top_k"]),
        seeds=seeds,
    )
    for rows in predict(models.model, models.tokenizer, prompts, name, generation):
        candidates = []
        for row in rows:
            sample_id, n = row["id"]
            candidates.append({**row, "id": sample_id, "n": n})
        log.add(candidates)
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    log.finish(lambda row: (place[row["id"]], row["n"]))


def claim_cache(cache: Path, overwrite: bool) -> bool:
    """Make a cache directory ready, empty with `overwrite`. True when it is complete already."""
    manifest = cache / "manifest.json"
    for path in cache.glob("*") if overwrite else ():
        path.unlink()
    return manifest.is_file() and read_json(manifest)["status"] == "complete"


def generate_phase(args: argparse.Namespace, shards: Shards) -> str:
    """Fill the cache for the settings of the flags. Returns its signature."""
    if not args.sft_model:
        raise UsageError("--phase generate needs --sft-model")
    settings = generation_settings(args)
    gensig = sha256_value(settings)[:12]
    cache = home_path(args.prefs_dir) / "cache" / gensig
    if shards.share(claim_cache(cache, args.overwrite) if shards.is_main else None):
        print(f"candidates {gensig} are complete; nothing to generate")
        return gensig
    if settings["temperature"] == 0 and settings["n_generations"] > 1 and shards.is_main:
        print(
            f"temperature 0 gives one text however often it is drawn: 1 candidate per model instead of {settings['n_generations']}"
        )
    samples = draw_samples(settings, input_path(args.data_path))
    run = describe_run(settings, {}, settings["seed"], created=time.time(), n_samples=len(samples))
    checkpoint = check_adapter_dir(args.sft_model)
    options = LoadOptions(load_in_8bit=settings["use_8bit"], load_in_4bit=settings["use_4bit"])
    logs = {name: cache / f"gens_{name}.jsonl" for name in ("sft", "base")}
    with sft_and_base(checkpoint, settings["base_model"], options) as models:
        if shards.is_main:
            write_json(cache / "manifest.json", run)
        shards.wait()
        if not logs["sft"].is_file():
            with models.sft():
                log = ShardLog(logs["sft"], settings, shards)
                generate_candidates(models, "sft", samples, settings, log, args.batch_size)
        with models.base():
            log = ShardLog(logs["base"], settings, shards)
            generate_candidates(models, "base", samples, settings, log, args.batch_size)
    if shards.is_main:
        write_json(
            cache / "manifest.json", {**run, "base_revision": models.base_revision, "status": "complete"}
        )
        print(
            f"wrote {2 * n_candidates(settings) * len(samples)} candidates of {len(samples)} samples to {cache}"
        )
    shards.wait()
    return gensig


# --- phase 2: judgements


def given_settings(args: argparse.Namespace) -> dict:
    """The generation settings that the command line names: what a cache must agree with."""
    given = {
        name: getattr(args, name)
        for name in (*GENERATION_DEFAULTS, "sft_model", "base_model")
        if getattr(args, name) is not None
    }
    data_path = input_path(args.data_path)
    return given | ({"data_sha256": sha256_file(data_path)} if data_path.is_file() else {})


def check_candidate(row: dict, sample: dict) -> dict:
    """The verifier's checks of one candidate."""
    parsed = parse_completion(row["completion"], len(row["shown"]))
    return verifier_checks(map_citations(parsed, row["shown"]), parsed.is_valid, sample)


def llm_wins(model, tokenizer, jobs: list[tuple[dict, list[dict]]], args: argparse.Namespace) -> list[dict]:
    """Per job {"p": {(i, j): order-averaged win probability of i}, "agree", "n"}: every two candidates, in both orders."""
    builder = JudgePrompts(tokenizer, load_template("judge", args.judge_template))
    prompts = []
    places = []
    # All comparisons of a sample share instructions, evidence and question.
    for k, (sample, rows) in enumerate(jobs):
        chunks = [sample["evidence_chunks"][i] for i in rows[0]["shown"]]
        for i in range(len(rows)):
            for j in range(i + 1, len(rows)):
                for first, second in ((i, j), (j, i)):
                    prompts.append(
                        builder.build(
                            chunks, sample["question"], rows[first]["completion"], rows[second]["completion"]
                        )
                    )
                    places.append((k, i, j))
    p_a = [0.0] * len(prompts)
    with progress(len(prompts), "judging", "comparison") as bar:
        for batch in preference_probabilities(
            model, tokenizer, prompts, args.judge_batch_size, [k for k, _, _ in places]
        ):
            for place, probability in batch:
                p_a[place] = probability
            bar.update(len(batch))
    wins = [{"p": {}, "agree": 0, "n": 0} for _ in jobs]
    for place in range(0, len(prompts), 2):
        k, i, j = places[place]
        wins[k]["p"][i, j] = order_averaged(p_a[place], p_a[place + 1])
        wins[k]["agree"] += orders_agree(p_a[place], p_a[place + 1])
        wins[k]["n"] += 1
    return wins


def judge_candidates(
    jobs: list[tuple[dict, list[dict]]], kind: str, args: argparse.Namespace, path: Path, shards: Shards
) -> dict[str, dict]:
    """Judgements by sample id: {"id", "checks": [...], "verifier": [...], "llm": [...] or None, "agree", "n_compared"}, from `path` if it is there."""
    if shards.share(path.is_file()):
        return {row["id"]: row for row in read_appended(path)}
    log = ShardLog(path, {"judgements": path.stem}, shards)
    done = {row["id"] for row in log.rows()}
    todo = [job for job in shards.mine(jobs) if job[0]["id"] not in done and len(job[1]) > 1]
    model = tokenizer = None
    if todo and kind != "verifier":
        options = LoadOptions(load_in_8bit=args.judge_use_8bit, load_in_4bit=args.judge_use_4bit)
        model = load_generator(args.judge_model, options)
        tokenizer = load_tokenizer(args.judge_model)
    for start in range(0, len(todo), 64):
        batch = todo[start : start + 64]
        checks = [[check_candidate(row, sample) for row in rows] for sample, rows in batch]
        wins = llm_wins(model, tokenizer, batch, args) if model else [None] * len(batch)
        judged = []
        for (sample, rows), row_checks, win in zip(batch, checks, wins):
            verified = [verifier_score(c) for c in row_checks]
            judged.append(
                {
                    "id": sample["id"],
                    "checks": row_checks,
                    "verifier": verified,
                    "llm": win_scores(len(rows), win["p"]) if win else None,
                    "agree": win["agree"] if win else 0,
                    "n_compared": win["n"] if win else 0,
                }
            )
        log.add(judged)
    place = {sample["id"]: i for i, (sample, _) in enumerate(jobs)}
    return {row["id"]: row for row in log.finish(lambda row: (place[row["id"]],))}


def choose_pairs(
    judged: dict, kind: str, min_margin: float
) -> tuple[list[tuple[int, int, float, float, str]], str | None]:
    """The pair rule: the best-scored candidate against every other that it beats by at least `min_margin`.

    Returns (chosen, rejected, score of each, decided by) with a reason when there is none. In `hybrid`, exact ties of the
    verifier are decided by the LLM's scores.
    """
    by_verifier = kind != "llm"
    scores = judged["verifier"] if by_verifier else judged["llm"]
    if kind == "hybrid" and len(set(scores)) == 1:
        scores = judged["llm"]
        by_verifier = False
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    pairs = [
        (best, i, scores[best], scores[i], "verifier" if by_verifier else "llm")
        for i in range(len(scores))
        if i != best and scores[best] > scores[i] and scores[best] - scores[i] >= min_margin
    ]
    return pairs, None if pairs else "margin below --min-margin"


def preference_rows(
    sample: dict, rows: list[dict], judged: dict, pairs: list, template: str, args: argparse.Namespace
) -> list[dict]:
    chunks = [sample["evidence_chunks"][i] for i in rows[0]["shown"]]
    prompt = fill_template(template, evidence=render_evidence(chunks), question=sample["question"])
    made = []
    for chosen, rejected, score_chosen, score_rejected, decided_by in pairs:
        row = {
            "id": f"{sample['id']}#{chosen}-{rejected}",
            "sample_id": sample["id"],
            "source": sample["source"],
            "group": sample["group"],
            "question": sample["question"],
            "answerable": sample["answerable"],
            "evidence_chunks": chunks,
            "prompt": [{"role": "user", "content": prompt}],
            "chosen": [{"role": "assistant", "content": rows[chosen]["completion"]}],
            "rejected": [{"role": "assistant", "content": rows[rejected]["completion"]}],
            "margin": round(score_chosen - score_rejected, 6),
            "score_chosen": score_chosen,
            "score_rejected": score_rejected,
            "chosen_model": rows[chosen]["model"],
            "rejected_model": rows[rejected]["model"],
            "decided_by": decided_by,
            "judge": {
                "checks_chosen": judged["checks"][chosen],
                "checks_rejected": judged["checks"][rejected],
                "llm": judged["llm"],
            },
        }
        if args.output_mode == "rich":
            for name, i in (("chosen", chosen), ("rejected", rejected)):
                parsed = parse_completion(rows[i]["completion"], len(rows[i]["shown"]))
                fields = ("answer", "citations", "confidence", "is_refusal", "errors")
                row[f"{name}_parsed"] = {field: getattr(parsed, field) for field in fields}
            row |= {
                field: sample[field]
                for field in ("answer", "answer_aliases", "support_sets", "support_spans")
            }
        made.append(row)
    return made


def judge_phase(args: argparse.Namespace, gensig: str, shards: Shards) -> None:
    kind = args.judge or ("llm" if args.judge_model else "verifier")
    if kind != "verifier" and not args.judge_model:
        raise UsageError(f"--judge {kind} needs --judge-model")
    folder = home_path(args.prefs_dir)
    manifest = read_json(folder / "cache" / gensig / "manifest.json")
    settings = manifest["settings"]
    data_path = input_path(args.data_path)
    if not data_path.is_file() or sha256_file(data_path) != settings["data_sha256"]:
        raise DataError(
            f"{data_path}: not the file that the candidates {gensig} were generated from; give that file, or generate anew"
        )
    judge_settings = {
        "judge": kind,
        "model": args.judge_model if kind != "verifier" else None,
        "use_8bit": args.judge_use_8bit,
        "use_4bit": args.judge_use_4bit,
        "template": load_template("judge", args.judge_template) if kind != "verifier" else None,
    }
    judgesig = sha256_value(
        judge_settings | {"min_margin": args.min_margin, "output_mode": args.output_mode}
    )[:8]
    jobs = read_candidates(folder / "cache" / gensig, draw_samples(settings, data_path))
    log_path = folder / "cache" / gensig / f"judgements_{judgesig}.jsonl"
    if args.overwrite and shards.is_main:
        log_path.unlink(missing_ok=True)
    judged = judge_candidates(jobs, kind, args, log_path, shards)
    if not shards.is_main:
        return
    rows = []
    drops = Counter()
    for sample, candidates in jobs:
        if len(candidates) < 2:
            drops["same text"] += 1
            continue
        pairs, reason = choose_pairs(judged[sample["id"]], kind, args.min_margin)
        drops[reason] += reason is not None
        rows += preference_rows(
            sample, candidates, judged[sample["id"]], pairs, settings["template_text"], args
        )
    if not rows:
        raise DataError(
            f"no pair reaches --min-margin {args.min_margin} ({format_drops(drops)}); lower it, or generate with a higher temperature"
        )
    target = folder / f"preferences_{gensig}-{judgesig}.jsonl"
    n_compared = sum(row["n_compared"] for row in judged.values())
    stats = {
        "n_pairs": len(rows),
        "n_samples": len(jobs),
        "dropped": {reason: n for reason, n in drops.items() if reason},
        "by_source": dict(Counter(row["source"] for row in rows)),
        "pairs_by_models": dict(
            Counter(f"{row['chosen_model']} over {row['rejected_model']}" for row in rows)
        ),
        "decided_by": dict(Counter(row["decided_by"] for row in rows)),
        "mean_margin": sum(row["margin"] for row in rows) / len(rows),
        "order_consistency": sum(row["agree"] for row in judged.values()) / n_compared
        if n_compared
        else None,
        "settings": {
            **judge_settings,
            "min_margin": args.min_margin,
            "output_mode": args.output_mode,
            "cache": gensig,
        },
    }
    write_jsonl(target, rows)
    write_json(folder / f"preference_stats_{gensig}-{judgesig}.json", stats)
    print(
        f"wrote {len(rows):,} preferences to {target} ({format_drops({k: v for k, v in drops.items() if k})})"
    )
    print("next: python train_rm.py -c configs/rm.yaml")


def print_plan(args: argparse.Namespace) -> None:
    for name in filter(None, (args.sft_model, args.base_model, args.judge_model)):
        warn_missing_model(name)
    samples = planned_samples(input_path(args.data_path))
    if samples is not None and args.phase != "judge" and (args.base_model or args.sft_model):
        n_texts = 2 * (args.n_generations or GENERATION_DEFAULTS["n_generations"])
        samples = pick_samples(
            samples, args.max_samples, GENERATION_DEFAULTS["seed"] if args.seed is None else args.seed
        )
        n_tokens = n_texts * (count_tokens(samples) + len(samples) * 180)
        print(f"would generate {n_texts * len(samples)} candidates, about {n_tokens:,} tokens")
        print(
            estimate(
                args.base_model or args.sft_model,
                n_tokens,
                1,
                8 if args.use_8bit else 4 if args.use_4bit else 16,
            )
        )
    print(f"would write {home_path(args.prefs_dir)}/ (a few MB per thousand samples)")


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    if not 0 <= args.min_margin <= 1:
        raise UsageError(f"--min-margin {args.min_margin}: a difference of scores lies between 0 and 1")
    if args.dry_run:
        print_plan(args)
        return
    started = time.monotonic()
    shards = Shards()
    if args.phase in ("generate", "all"):
        gensig = generate_phase(args, shards)
    else:
        gensig = find_cache(home_path(args.prefs_dir) / "cache", given_settings(args), args.cache_sig)
    if args.phase != "generate":
        judge_phase(args, gensig, shards)
    if shards.is_main:
        print(f"done in {format_seconds(time.monotonic() - started)}")


if __name__ == "__main__":
    run_main(main)
