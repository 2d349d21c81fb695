"""Preferences: candidates of the SFT and the base model, judged, kept as chosen/rejected pairs with a margin.

Reads samples and, for --phase generate, the models. Writes prefs/cache/<gensig>/ (manifest.json,
gens_sft.jsonl, gens_base.jsonl, judgements_<judgesig>.jsonl), prefs/preferences_<gensig>-<judgesig>.jsonl,
prefs/preference_stats_<gensig>-<judgesig>.json and its picture, preference_stats_<gensig>-<judgesig>.png.
--import and --export exchange pairs with other tools.

    python make_prefs.py --phase all --sft-model checkpoints/sft/demo/checkpoint-best --base-model embedded \\
        --data-path data/processed/train.jsonl --max-samples 60 --n-generations 2 --temperature 0.8
    python make_prefs.py --phase judge --judge-model Qwen/Qwen2.5-3B-Instruct \\
        --data-path data/processed/train.jsonl --min-margin 0.12
    python make_prefs.py --import pairs.jsonl
"""

import argparse
import functools
import time
from pathlib import Path

from models.choices import check_engine, load_options
from models.directories import check_adapter_dir
from models.revisions import cached_revision, hub_revisions
from preferences.cache import MODEL_CHOICES
from preferences.flags import (
    add_exchange_flags,
    add_generator_flags,
    add_pair_flags,
    check_gold,
    check_judge_flags,
)
from preferences.inputs import check_exchange, check_inputs
from preferences.judges import JUDGES, Judge, default_judge, judge_candidates, judge_settings
from utils.arguments import positive_int, sample_limit, seed_number, stage_parser
from utils.commands import reward_command
from utils.config import home_path, input_path
from utils.errors import DataError, UsageError
from utils.outputs import check_folder_output
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("--data-path", default="data/processed/train.jsonl", help="sample file")
    allow = "take test data too, which is refused otherwise; recorded in the manifest"
    add("--allow-test", action="store_true", help=allow)
    add("--prefs-dir", default="prefs", help="folder of cache and results (default: prefs)")
    add("--cache-sig", help="cache to judge (default: the newest with the given flags)")
    rich = "rich adds parsed completions and gold fields to each row (default: lite)"
    add("--output-mode", choices=("lite", "rich"), default="lite", help=rich)
    add_exchange_flags(parser.add_argument_group("pairs of other tools"))
    add_generator_flags(parser.add_argument_group("model"))

    add = parser.add_argument_group("limits").add_argument
    samples = "use at most N samples, sampled with --seed (0: all)"
    add("--max-samples", "--limit", type=sample_limit, metavar="N", help=samples)
    unseen = "skip samples named in the checkpoint's train_ids.txt"
    add("--unseen-only", action="store_true", default=None, help=unseen)
    models = "whose candidates: sft, base, policy or several, as sft,base (default: sft; for one, both)"
    add("--models", choices=MODEL_CHOICES, metavar="A,B", help=models)
    add("--n-generations", type=positive_int, help="candidates per model and sample (default: 2)")
    add("--max-new-tokens", type=positive_int, help="most tokens per candidate (default: 128)")
    longest = "most tokens per prompt; evidence is cut to fit (default: the checkpoint's, else 2048)"
    add("--max-input-tokens", type=positive_int, help=longest)
    add_pair_flags(add)

    add = parser.add_argument_group("run").add_argument
    phase = "generate candidates, judge cached ones, or both (default: all)"
    add("--phase", choices=("generate", "judge", "all"), default="all", help=phase)
    add("--batch-size", type=positive_int, default=8, help="candidates generated at once (default: 8)")
    add("--judge-batch-size", type=positive_int, default=8, help="comparisons read at once (default: 8)")
    add("--seed", type=seed_number, help="seed of the choice of samples and of tokens (default: 42)")
    add("--overwrite", action="store_true", help="redo what is complete; an interrupted run is resumed")
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. UsageError for those that need another one, DataError for a wrong --sft-model."""
    parser = build_parser()
    args = parser.parse_args(argv)
    if check_exchange(args, parser.get_default):
        return args
    if args.phase != "generate":
        check_judge_flags(args)
    if args.phase != "judge" and not args.sft_model:
        raise UsageError("--sft-model: must be given; candidates come from this checkpoint and its base")
    if args.phase != "judge":
        check_engine(args)
    if not args.dry_run:
        check_folder_output(home_path(args.prefs_dir))
        check_inputs(args)
    return args


if __name__ == "__main__":
    before_imports(lambda: read_arguments(None))

from generation.answering import load_generator, sft_and_base
from models.distributed import Shards, hold_output
from models.loading import load_tokenizer
from preferences.cache import cache_key, find_cache, given_settings
from preferences.cache_states import claim_cache, complete_cache, read_cached_settings, settle_cache
from preferences.candidate_settings import generation_settings, n_candidates
from preferences.candidates import CacheJob, check_data, draw_samples, fill_cache
from preferences.completion_reader import template_source
from preferences.cuts import COMPLETION_TOKENS
from preferences.exchange import exchange_pairs
from preferences.jobs import NO_CANDIDATE, read_candidates
from preferences.judge_report import judge_report
from preferences.judgement_names import judge_version, name_judgements, same_judgements
from preferences.model_judge import JudgeModel
from preferences.pairing import Pairing, collect_pairs, prompt_outcomes
from preferences.pairs import style_check
from preferences.plan import print_plan
from preferences.rows import JudgedSample, format_tallies, preference_stats
from preferences.score_models import OPEN
from preferences.scored import ScoreModel
from preferences.stats import write_statistics
from prompt_schema import JudgePrompts, PromptBuilder, fill_template, load_template, render_evidence
from reporting.pipeline import refresh_report
from utils.aside import file_aside
from utils.jsonl import sha256_value, write_json, write_jsonl
from utils.locks import drop_temporaries
from utils.runs import describe_run, format_drops, format_seconds, hash_inputs, note
from utils.schema import read_questions

# --- phase 1: candidates


def generate_phase(
    args: argparse.Namespace, settings: dict, cache: Path, shards: Shards, test_facts: dict
) -> None:
    """Fill the cache of these settings."""
    revision = cached_revision(settings["base_model"])
    judges_too = args.phase == "all"
    if shards.decide(lambda: claim_cache(cache, args.overwrite, revision, judges_too)):
        return
    wanted = settings["n_generations"]
    if n_candidates(settings) < wanted and shards.is_main:
        note(f"temperature 0 is deterministic: generating 1 candidate per model instead of {wanted}")
    data_path = input_path(args.data_path)
    samples = draw_samples(settings, data_path)
    # "created" decides which of several fitting caches is the newest.
    facts = {**test_facts, "created": time.time(), "n_samples": len(samples), "base_revision": revision}
    run = describe_run(settings, hash_inputs([data_path]), settings["seed"], **facts)
    checkpoint = check_adapter_dir(settings["sft_model"])
    options = load_options(args, max_length=settings["max_input_tokens"] + settings["max_new_tokens"])
    with sft_and_base(checkpoint, settings["base_model"], options) as models:
        # After loading, so that a checkpoint that cannot be loaded leaves no directory behind.
        if shards.is_main:
            write_json(cache / "manifest.json", run)
        shards.wait()
        build = functools.partial(PromptBuilder, template=settings["template_text"])
        times = fill_cache(models, build, CacheJob(cache, samples, settings, args.batch_size, shards))
    if shards.is_main:
        # Where the base model made no candidate it was not asked for its commit.
        revision = models.base_revision or cached_revision(settings["base_model"])
        run |= {"base_revision": revision, "times": times}
        n_written = complete_cache(cache, run, is_unjudged=judges_too and args.overwrite)
        print(f"wrote {n_written} candidates of {len(samples)} samples to {cache}")
    shards.wait()


# --- phase 2: judgements and pairs

# Flags that change which pairs are written and how, but no judgement.
PAIRING = ("min_margin", "output_mode", "hard_rejections", "match_form", "max_unparsable", "gold_chosen")


def open_judge(args: argparse.Namespace, judge: Judge, generation: dict) -> JudgeModel | ScoreModel:
    """Load the model of --judge-model with its prompts; `generation`: the settings of the candidates."""
    if judge.model != "compares":
        reading = {
            "template": generation["template"],
            "max_seq_length": generation["max_input_tokens"] + COMPLETION_TOKENS,
            "eval_batch_size": args.judge_batch_size,
            "load_in_8bit": args.judge_use_8bit,
            "attn_implementation": args.attn_impl or "auto",
        }
        prompts_of = functools.partial(template_source, prompt_builder=PromptBuilder)
        return OPEN[judge.model](args.judge_model, reading, prompts_of)
    model = load_generator(args.judge_model, load_options(args, prefix="judge_"))
    tokenizer = load_tokenizer(args.judge_model)
    builder = JudgePrompts(tokenizer, load_template("judge", args.judge_template))
    return JudgeModel(model, tokenizer, builder.build, args.judge_batch_size, args.min_label_share)


def choose_pairs(scores: list[float], min_margin: float) -> tuple[list[tuple[int, int]], str | None]:
    """The pair rule: the best candidate is chosen over each other one that it beats by at least `min_margin`.

    Returns pairs (chosen, rejected) of candidates, and the reason when there is none. Of equals the first
    is best.
    """
    best = max(range(len(scores)), key=lambda i: (scores[i], -i))
    pairs = []
    for i in range(len(scores)):
        # Equal scores make no pair, even with --min-margin 0.
        if scores[best] > scores[i] and scores[best] - scores[i] >= min_margin:
            pairs.append((best, i))
    if pairs:
        return pairs, None
    all_equal = len(set(scores)) == 1
    return pairs, "all scores equal" if all_equal else "margin below --min-margin"


def judge_phase(args: argparse.Namespace, cache: Path, shards: Shards, test_facts: dict) -> None:
    """Judge the candidates of a cache, and write the preferences and their statistics."""
    kind = args.judge or default_judge(args.judge_model)
    judge = JUDGES[kind]
    folder = home_path(args.prefs_dir)
    data_path = input_path(args.data_path)
    generation = read_cached_settings(cache, data_path)
    settings = judge_settings(kind, vars(args), functools.partial(load_template, "judge"))
    # Without it, pairs are the same as before there was the flag.
    pairing = {name: getattr(args, name) for name in PAIRING if name != "gold_chosen" or args.gold_chosen}
    if args.max_unparsable is None:
        # Of an untrained base model, hardly anything can be parsed.
        pairing["max_unparsable"] = 1.0 if "base" in generation.get("models", "sft,base") else 0.1
    version = judge_version(judge, args.judge_model)
    judgesig, settings = name_judgements(cache, settings, version, pairing, args.overwrite)
    jobs, repeated, lost = read_candidates(cache, read_questions(data_path), args.gold_chosen)
    log_path = cache / f"judgements_{judgesig}.jsonl"
    same = None if args.overwrite else same_judgements(cache, settings, pairing)
    # With --overwrite, a judge that fails leaves the judgements that were there.
    with shards.hold(file_aside(log_path, args.overwrite)):
        open_model = functools.partial(open_judge, args, judge, generation)
        judgements = judge_candidates(jobs, judge, open_model, log_path, shards, same)
    if not shards.is_main:
        return

    def prompt_of(judged: JudgedSample) -> str:
        slots = {"evidence": render_evidence(judged.chunks), "question": judged.sample["question"]}
        return fill_template(generation["template_text"], **slots)

    choose = functools.partial(choose_pairs, min_margin=args.min_margin)
    settings_of_pairs = Pairing(**pairing, seed=generation["seed"])
    rows, drops, left_out = collect_pairs(jobs, judgements, judge, settings_of_pairs, choose, prompt_of)
    drops = lost | drops
    if not rows:
        found = f"no pair is left (samples {format_drops(drops)}; pairs {format_drops(left_out)})"
        remedy = "leave out --match-form, " if args.match_form else ""
        raise DataError(
            f"{found}; {remedy}lower --min-margin (now {args.min_margin}), raise --max-unparsable, or "
            "generate with a higher temperature where all scores are equal"
        )
    n_samples = len(jobs) + lost.get(NO_CANDIDATE, 0)
    stats = preference_stats(rows, list(judgements.values()), n_samples, drops)
    # "created" decides which of several preferences files is the newest.
    stats |= {"settings": {**settings, **pairing, "cache": cache.name}, "created": time.time(), **test_facts}
    stats |= {"left_out": left_out, "style_only": style_check(rows, generation["seed"])}
    stats["prompts"] = prompt_outcomes(jobs, judgements)
    stats["revisions"] = hub_revisions(args.judge_model)
    stats["judge"] = judge_report(jobs, judgements, generation["seed"])
    target = folder / f"preferences_{cache.name}-{judgesig}.jsonl"
    write_jsonl(target, rows)
    report = folder / f"preference_stats_{cache.name}-{judgesig}.json"
    write_statistics(report, stats, rows)
    settle_cache(cache)
    # They are outside the cache, whose lock this process has.
    for path in (target, report, report.with_suffix(".png")):
        drop_temporaries(path)
    print(format_tallies(jobs, list(judgements.values()), repeated, rows, left_out))
    print("prompts: " + ", ".join(f"{n:,} {name}" for name, n in stats["prompts"].items()))
    print(f"wrote {len(rows):,} preferences to {target} (samples {format_drops(drops)}) and {report.name}")
    note(f"next: {reward_command(generation['base_model'], target)}")


# --- the run


def main(argv: list[str] | None) -> None:
    args = read_arguments(argv)
    if args.import_file or args.export:
        exchange_pairs(args)
        return
    if args.dry_run:
        print_plan(args)
        return
    started = time.monotonic()
    test_facts = check_data(args, check_gold)
    caches = home_path(args.prefs_dir) / "cache"
    if args.phase == "judge":
        settings = given_settings(vars(args), input_path(args.data_path))
        gensig = find_cache(caches, settings, args.cache_sig)
    else:
        settings = generation_settings(vars(args), functools.partial(load_template, "sft"))
        gensig = sha256_value(cache_key(settings))[:12]
    with hold_output(caches / gensig) as shards:
        if args.phase != "judge":
            generate_phase(args, settings, caches / gensig, shards, test_facts)
        if args.phase != "generate":
            judge_phase(args, caches / gensig, shards, test_facts)
    if shards.is_main:
        note(f"done in {format_seconds(time.monotonic() - started)}")
        refresh_report()


if __name__ == "__main__":
    run_main(main)
