"""Data: FEVER, HotpotQA, NQ-Open, PopQA -> samples with verified support, hard negatives, unanswerable twins.

Reads the files named in the sources config (urls are downloaded into data/raw/).
Writes data/processed/{train,val,test}.jsonl, audit.json, README.md, run.json and data/source_hashes.json;
with --made also data/processed/train_made.jsonl.

    python build_data.py --data-dir data --seed 42 --accept-new-hash
    python build_data.py --sample --data-dir demo/data --seed 42
    python build_data.py --sources-config configs/external.yaml --data-dir data/external --accept-new-hash
"""

import argparse
import dataclasses
import functools
import time
from pathlib import Path

from evidence.flags import refuse_split_flags, settle_flags
from evidence.made import MADE_FILE, make_rows, read_kinds
from evidence.splits import expected_splits, parse_shares, split_supports
from utils.arguments import chunk_count, positive_int, seed_number, share, stage_parser, whole_number
from utils.commands import command_after_build
from utils.config import home_path, input_path, portable_path
from utils.outputs import check_folder_output
from utils.startup import before_imports, run_main

ROOT = Path(__file__).resolve().parent
# What an evaluation-only build is compared with, where nothing is named.
TRAIN_FILE = "data/processed/train.jsonl"
SAMPLE_CONFIG = "configs/demo/sources.yaml"
SOURCES_CONFIG = "configs/sources.yaml"

# Flags that do not change what a build writes: another value is no reason to build again.
NO_SETTINGS = (
    *("data_dir", "accept_new_hash", "offline", "workers", "check", "overwrite", "dry_run"),
    # `limit` is `max_per_source` by another name.
    *("strict_shortcuts", "limit"),
)


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("--data-dir", default="data", help="folder of raw/, processed/, source_hashes.json (default: data)")
    config_help = f"YAML with each source's files and licence (default: {SOURCES_CONFIG})"
    add("--sources-config", metavar="FILE", help=config_help)
    add("--sources", help="comma-separated subset of the sources in the config (default: all)")
    add("--sample", action="store_true", help="build the bundled sample: no network, no pinned hashes needed")
    add("--offline", action="store_true", help="download nothing; use the raw files that are there")
    add("--accept-new-hash", action="store_true", help="pin raw files without a pin; later runs verify them")
    add("--check", metavar="FILE", help="only check a sample file, and list every fault with its line")

    against = f"training data that an evaluation-only build must share nothing with (default: {TRAIN_FILE})"
    add("--against", nargs="+", metavar="FILE", help=against)

    add = parser.add_argument_group("limits").add_argument
    most_help = "most rows per source, before twins; 0 = all"
    add("--max-per-source", type=whole_number, default=2500, help=most_help)
    quick = "most rows per source in place of --max-per-source, for a quick look (0: all)"
    add("--limit", type=whole_number, metavar="N", help=quick)
    add("--max-chunks", type=chunk_count, default=6, help="most evidence chunks per sample (at least 2)")
    words_help = "most words per chunk; longer sentences stay whole"
    add("--max-chunk-words", type=positive_int, default=80, help=words_help)
    strict_help = "fail, and write no samples, when a shortcut probe is above its limit (docs/data.md)"
    add("--strict-shortcuts", action="store_true", help=strict_help)
    made_help = (
        "further rows for training: contrast,contrast_twins,questions,easy_claims,planted (docs/data.md)"
    )
    add("--made", type=read_kinds, metavar="KINDS", help=made_help)
    add("--skip-bad", action="store_true", help="count and skip malformed source rows instead of stopping")

    add = parser.add_argument_group("run").add_argument
    seed_help = "decides the sampled rows, the splits and the chunk order"
    add("--seed", type=seed_number, default=42, help=seed_help)
    add("--split", default="0.8,0.1,0.1", help="shares of train, val and test; they add up to 1")
    share_help = "share of unanswerable samples per source and split (0-0.9)"
    add("--unanswerable-fraction", type=share, default=0.33, help=share_help)
    workers_help = "processes that assemble samples; the output stays the same"
    add("--workers", type=positive_int, default=1, help=workers_help)
    add("--overwrite", action="store_true", help="replace processed data that has different settings")
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def read_arguments(argv: list[str] | None) -> argparse.Namespace:
    """The flags. UsageError for values that make no sense, and for a --data-dir that cannot be written."""
    parser = build_parser()
    args = parser.parse_args(argv)
    settle_flags(args, parser, SOURCES_CONFIG)
    if not args.dry_run and not args.check:
        check_folder_output(home_path(args.data_dir))
    return args


if __name__ == "__main__":
    before_imports(lambda: read_arguments(None))

from evidence.assembly import AssemblySettings, assemble
from evidence.audit import audit, flat_drops
from evidence.balance import choose_samples, left_out
from evidence.card import dataset_card
from evidence.check import check_file
from evidence.chunks import PagePool
from evidence.contamination import next_steps, training_files, without_contaminated
from evidence.drops import DroppedRows, Drops, examples, first_dropped
from evidence.external import external_samples
from evidence.promises import missed_promises
from evidence.records import Record
from evidence.verification import first_drawn, verify_support
from evidence.writing import check_build, describe_build, write_build
from reporting.pipeline import refresh_report
from sources.config import read_sources_config
from sources.draw import draw_records
from sources.files import SourceFiles, config_pins, files_by_name, locate_files
from sources.pages import attach_evidence, name_pages, read_page_pool
from sources.pins import check_pins, read_pins, write_pins
from sources.plan import print_plan
from utils.jsonl import raise_bad, write_jsonl
from utils.locks import output_lock
from utils.replacing import close_replacement, open_replacement
from utils.run_folders import BUILD_NAMES
from utils.runs import describe_run, format_drops, format_seconds, note
from utils.schema import read_samples

# --- raw files -> records with evidence


def read_evidence(
    args: argparse.Namespace, config: dict, files: dict[str, SourceFiles], drops: Drops
) -> tuple[list[Record], PagePool]:
    """The sampled records of all sources, with their evidence, and the pool of pages."""

    def on_bad(problem: str, name: str) -> None:
        if not args.skip_bad:
            raise_bad(f"{problem}; correct it, or add --skip-bad to count and skip such rows")
        place, _, what = problem.partition(": ")
        drops[name].drop("malformed row", place, what)

    # Drawn before evidence is attached: of a full source, only the passages of the drawn rows are read.
    records: list[Record] = []
    for name, source in config["sources"].items():
        on_bad_here = functools.partial(on_bad, name=name)
        drawn = draw_records(
            name, files[name]["records"], args.max_per_source, args.seed, on_bad_here, drops[name]
        )
        # Text from Wikipedia is CC BY-SA: the licence has to stay with each sample.
        licence = {"licence": source.get("licence", "unknown")}
        drawn = [dataclasses.replace(record, metadata={**record.metadata, **licence}) for record in drawn]
        records += attach_evidence(drawn, files[name]["contexts"], on_bad_here)

    # One pool for all sources, so that the pages of one serve the others as negatives.
    max_pool = config.get("max_pool_pages", 0)
    records, pool = read_page_pool(files, records, max_pool, args.max_chunk_words, on_bad)
    return name_pages(records, pool), pool


# --- raw files -> samples


def build(
    args: argparse.Namespace, config: dict, files: dict[str, SourceFiles]
) -> tuple[dict[str, list[dict]], list[dict], Drops, list[str]]:
    """Samples by split, those left out of train, drops by source, and a line per source with too few rows.

    A split that no row may go to is missing: train, where all rows are official dev or test rows.
    """
    drops: Drops = {name: DroppedRows() for name in files}
    records, pool = read_evidence(args, config, files, drops)
    n_wanted = args.max_per_source
    supports, too_few = verify_support(records, pool, n_wanted, args.seed, drops)

    respect_official = config.get("respect_official_splits", True)
    shares = parse_shares(args.split)
    supports, groups, split_of = split_supports(supports, shares, respect_official, args.seed, drops)

    settings = AssemblySettings(args.seed, args.max_chunks, args.workers)
    wanted = expected_splits(supports, respect_official)
    if "train" not in wanted:
        note(f"all rows are official dev or test rows, so only {' and '.join(wanted)} can be built")
    built: dict[str, list[tuple[dict, dict | None]]] = {split: [] for split in wanted}
    for support, (sample, twin) in zip(supports, assemble(supports, groups, split_of, pool, settings)):
        if isinstance(sample, str):
            record = support.record
            drops[record.source].drop(sample, record.id, record.question)
        else:
            built[split_of[sample["group"]]].append((sample, twin))

    fraction = args.unanswerable_fraction
    chosen = {}
    for split, pairs in built.items():
        chosen[split] = choose_samples(pairs, fraction, args.seed, drops)
    surplus = left_out(built.get("train", []), chosen.get("train", []))
    return chosen, surplus, drops, too_few


def build_external(
    args: argparse.Namespace, config: dict, files: dict[str, SourceFiles], against: dict[str, str]
) -> tuple[dict[str, list[dict]], Drops]:
    """The samples of an evaluation-only config, all in test, without those that `against` contaminates."""
    drops: Drops = {name: DroppedRows() for name in files}
    samples = []
    for name, source in config["sources"].items():
        # A pool per source: where evidence has no titles, a titled chunk of another set gives itself away.
        part = {**config, "sources": {name: source}}
        records, pool = read_evidence(args, part, {name: files[name]}, drops)
        records = first_drawn(records, args.max_per_source, args.seed)
        samples += external_samples(records, pool, AssemblySettings(args.seed, args.max_chunks), drops)
    train = [sample for path in against for sample in read_samples(path)]
    return {"test": without_contaminated(samples, train, drops)}, drops


# --- the run


def main(argv: list[str] | None) -> None:
    args = read_arguments(argv)
    if args.check:
        check_file(input_path(args.check))
        return
    wanted = None if args.sources is None else args.sources.split(",")
    config = read_sources_config(SAMPLE_CONFIG if args.sample else args.sources_config, ROOT, wanted)
    if config.get("evaluation_only"):
        refuse_split_flags(args, build_parser())
    data_dir = home_path(args.data_dir)
    if args.dry_run:
        print_plan(args, config, data_dir, ROOT)
        return
    with output_lock(data_dir / "processed"):
        run_build(args, config, data_dir)


def run_build(args: argparse.Namespace, config: dict, data_dir: Path) -> None:
    """Fetch the raw files and build the samples, unless they are complete with these settings."""
    started = time.monotonic()
    pins_path = data_dir / "source_hashes.json"
    files, left_out = locate_files(config, data_dir / "raw", ROOT, args.offline, read_pins(pins_path))
    config["sources"] = {name: config["sources"][name] for name in files}
    accept_new = args.accept_new_hash or args.sample
    pins = check_pins(files_by_name(files), pins_path, accept_new, config_pins(files))
    is_evaluation = config.get("evaluation_only", False)
    against = training_files(args.against, TRAIN_FILE, is_evaluation)
    # Other training data drops other samples, so it is one of the inputs.
    hashes = pins | {portable_path(path): digest for path, digest in against.items()}
    settings = {key: value for key, value in vars(args).items() if key not in NO_SETTINGS}
    if not args.made:
        # A build without made rows is the same build as before there were any.
        del settings["made"]
    run = describe_run({**settings, "config": config}, hashes, args.seed)
    processed = data_dir / "processed"
    state, written_dir = open_replacement(processed, run, args.overwrite, BUILD_NAMES)
    if state == "complete":
        check_build(processed, args.strict_shortcuts)
        if accept_new:
            write_pins(pins_path, pins)
        print(f"{processed} is complete with these settings; nothing to do")
        note(f"next: {command_after_build(processed)}")
        refresh_report()
        return

    surplus: list[dict] = []
    too_few: list[str] = []
    if is_evaluation:
        splits, drops = build_external(args, config, files, against)
    else:
        splits, surplus, drops, too_few = build(args, config, files)
    reasons = {name: dict(counts) for name, counts in drops.items()}
    figures = audit(splits, reasons)
    figures["dropped_rows"] = first_dropped(drops)
    shares = parse_shares(args.split)
    missed = [] if is_evaluation else missed_promises(splits, reasons, shares, args.unanswerable_fraction)
    figures["promises_missed"] = missed
    figures["checked_against"] = [portable_path(path) for path in against]
    licences = {name: source.get("licence", "unknown") for name, source in config["sources"].items()}
    card = dataset_card(figures, licences, hashes, args.seed)
    # Before the samples are checked: where a split is empty, the dropped rows are why.
    for line in examples(drops):
        note(line)
    made = make_rows(args.made, splits, args.seed, surplus)
    write_build(written_dir, splits, figures | made.audit(), card, args)
    if args.made:
        write_jsonl(written_dir / MADE_FILE, made.rows)
    if accept_new:
        write_pins(pins_path, pins)
    close_replacement(written_dir, processed, run, **describe_build(written_dir, figures))

    counts = ", ".join(f"{split} {n:,}" for split, n in figures["n_samples"].items())
    elapsed = format_seconds(time.monotonic() - started)
    wrote = f"wrote {counts} samples to {processed} ({format_drops(flat_drops(drops))}) in {elapsed}"
    print("; ".join([wrote, *left_out, *too_few, *missed, *made.summary()]))
    note(next_steps(processed, against) if is_evaluation else f"next: {command_after_build(processed)}")
    refresh_report()


if __name__ == "__main__":
    run_main(main)
