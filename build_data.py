"""Data: FEVER, HotpotQA, NQ-Open, PopQA -> samples with evidence chunks, support spans, hard negatives and unanswerable twins.

Reads the files named in the sources config (fetched into data/raw/ where they are urls).
Writes data/processed/{train,val,test}.jsonl, audit.json, README.md, run.json and data/source_hashes.json.

    python build_data.py --data-dir data --seed 42 --accept-new-hash
    python build_data.py --sample --data-dir demo/data --seed 42
"""

import argparse
import dataclasses
import functools
import hashlib
import heapq
import multiprocessing
import random
import time
import zlib
from collections import Counter
from pathlib import Path

from tqdm.auto import tqdm

from evidence.audit import CUT_REASON, audit, broken_rules, dataset_card
from evidence.paraphrase import names_in
from evidence.records import Record
from evidence.samples import build_sample, build_twin, ranked_negatives
from evidence.splits import SPLITS, assign_splits, group_supports
from evidence.support import PagePool, Support, find_support
from sources import contexts, fever, hotpotqa, nq_open, own, popqa
from sources.download import check_pins, locate, read_pins
from utils.config import check_keys, home_path, input_path, nearest, read_yaml
from utils.errors import DataError, StageError, UsageError, run_main
from utils.jsonl import raise_bad, read_jsonl, write_json, write_jsonl, write_text
from utils.runs import close_run_dir, describe_run, format_drops, format_seconds, open_run_dir

ROOT = Path(__file__).resolve().parent
READERS = {
    "fever": fever.read_records,
    "hotpotqa": hotpotqa.read_records,
    "nq_open": nq_open.read_records,
    "popqa": popqa.read_records,
}
ROLES = ("records", "pages", "contexts")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "--data-dir", default="data", help="folder of raw/, processed/ and source_hashes.json (default: data)"
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="fixes which rows are drawn, the splits and the chunk order"
    )
    parser.add_argument(
        "--accept-new-hash",
        action="store_true",
        help="pin raw files that are not pinned yet; later runs verify them",
    )
    parser.add_argument("--sample", action="store_true", help="build the bundled sample: no network, no pins")
    parser.add_argument(
        "--sources", help="comma-separated subset of the sources in the config (default: all)"
    )
    parser.add_argument(
        "--sources-config",
        default="configs/sources.yaml",
        help="YAML with files, urls and licences of each source",
    )
    parser.add_argument(
        "--max-per-source", type=int, default=2500, help="rows drawn of each source, before twins; 0 = all"
    )
    parser.add_argument(
        "--max-chunks", type=int, default=6, help="evidence chunks shown per sample (at least 2)"
    )
    parser.add_argument(
        "--max-chunk-words", type=int, default=80, help="words per chunk; a longer sentence stands alone"
    )
    parser.add_argument(
        "--unanswerable-fraction",
        type=float,
        default=0.33,
        help="share of unanswerable samples in each source and split (0-0.9)",
    )
    parser.add_argument("--split", default="0.8,0.1,0.1", help="shares of train, val, test")
    parser.add_argument(
        "--offline", action="store_true", help="fetch nothing; use the raw files that are there"
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        help="processes that assemble samples; the output is the same for any number",
    )
    parser.add_argument(
        "--skip-bad",
        action="store_true",
        help="count and skip malformed source rows instead of stopping at the first",
    )
    parser.add_argument(
        "--check", metavar="FILE", help="only check a sample file against the rules of a build"
    )
    parser.add_argument(
        "--limit", type=int, help="build from at most this many rows of each source (a quick look)"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace processed data made with other settings"
    )
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def parse_shares(text: str) -> dict[str, float]:
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    if len(shares) != 3 or min(shares) < 0 or shares[0] == 0 or abs(sum(shares) - 1) > 1e-6:
        raise UsageError(f"--split {text}: needs three shares that add up to 1, for example 0.8,0.1,0.1")
    return dict(zip(SPLITS, shares))


def read_sources_config(args: argparse.Namespace) -> dict:
    """The sources YAML, cut down to the wanted sources."""
    path = ROOT / ("configs/demo/sources.yaml" if args.sample else args.sources_config)
    path = path if path.is_file() else Path(args.sources_config)
    config = read_yaml(path)
    check_keys(str(path), config, {"respect_official_splits", "max_pool_pages", "sources"})
    wanted = args.sources.split(",") if args.sources else list(config["sources"])
    for name in wanted:
        if name not in config["sources"]:
            raise UsageError(f"source {name!r} is not in {path}{nearest(name, config['sources'])}")
        source = config["sources"][name]
        check_keys(f"{path}: sources.{name}", source, {"licence", *ROLES})
        for role in ROLES:
            for entry in source.get(role, []):
                check_keys(
                    f"{path}: sources.{name}.{role}",
                    entry,
                    {"url", "mirrors", "path", "file", "split", "optional"},
                )
    return {**config, "sources": {name: config["sources"][name] for name in wanted}}


def locate_files(
    config: dict, raw_dir: Path, offline: bool, pins: dict[str, str]
) -> dict[str, dict[str, list[tuple[Path, dict]]]]:
    """source -> role (records, pages, contexts) -> [(path, entry)]."""
    files: dict[str, dict[str, list[tuple[Path, dict]]]] = {}
    for name, source in config["sources"].items():
        for role in ROLES:
            found = [
                (locate(entry, raw_dir / name, ROOT, offline, pins), entry) for entry in source.get(role, [])
            ]
            files.setdefault(name, {})[role] = [(path, entry) for path, entry in found if path]
    return files


def draw_records(name: str, files: list[tuple[Path, dict]], n_wanted: int, seed: int, on_bad) -> list[Record]:
    """At most `n_wanted` distinct records of a source (0 = all): those whose ids hash lowest with the seed, in file order."""
    reader = READERS.get(name) or functools.partial(own.read_records, source=name)
    drawn: list[tuple[int, int, Record]] = []
    seen = set()
    for path, entry in files:
        for record in tqdm(
            reader(path, entry.get("split", "any"), on_bad),
            desc=f"reading {path.name}",
            unit="row",
            disable=None,
        ):
            if record.id in seen:
                continue
            seen.add(record.id)
            # A heap of the lowest hashes: memory holds the drawn rows alone, however long the file is.
            rank = -int.from_bytes(hashlib.sha1(f"{seed}:{record.id}".encode()).digest()[:8], "big")
            if not n_wanted or len(drawn) < n_wanted:
                heapq.heappush(drawn, (rank, len(seen), record))
            elif rank > drawn[0][0]:
                heapq.heapreplace(drawn, (rank, len(seen), record))
    return [record for _, _, record in sorted(drawn, key=lambda item: item[1])]


def attach_evidence(records: list[Record], files: list[tuple[Path, dict]]) -> list[Record]:
    """Give each record the passages that a DPR-layout file holds for its question."""
    wanted = {contexts.question_key(record.question) for record in records}
    passages = {}
    for path, _ in files:
        for key, found in contexts.read_contexts(path, wanted).items():
            passages.setdefault(key, []).extend(found)
    return [
        dataclasses.replace(
            r, passages=r.passages + tuple(passages.get(contexts.question_key(r.question), ()))
        )
        for r in records
    ]


def read_page_pool(files: dict, records: list[Record], max_pool: int, max_words: int, on_bad) -> PagePool:
    """Pages that the records name, a pool of others, and pages of passages that came with the records, as chunks.

    Of the others and of the passages' pages at most `max_pool` each: those whose titles hash lowest, whatever the order of the files.
    """
    wanted = {title for record in records for title in record.page_titles}
    keys = fever.named_titles([record.metadata["claim"] for record in records if "claim" in record.metadata])
    pages: dict[str, list[str]] = {}
    for name in files:
        for path, _ in files[name]["pages"]:
            pages |= fever.read_pages(path, wanted, keys, max_pool, functools.partial(on_bad, name=name))
    others = dict.fromkeys(
        passage.title for record in records for passage in record.passages if passage.title not in pages
    )
    if max_pool and len(others) > max_pool:
        kept = set(
            heapq.nsmallest(max_pool, others, key=lambda title: (zlib.crc32(title.encode("utf-8")), title))
        )
    else:
        kept = set(others)
    for record in records:
        for passage in record.passages:
            if passage.title in kept:
                pages.setdefault(passage.title, list(passage.sentences))
    return PagePool(pages, max_words)


def name_pages(records: list[Record], pool: PagePool) -> list[Record]:
    """Give NOT ENOUGH INFO claims the pages that they name."""
    by_key: dict[str, list[str]] = {}
    for title in pool.by_title:
        by_key.setdefault(fever.title_key(title), []).append(title)
    named = []
    for record in records:
        if record.source == "fever" and not record.answerable:
            named_here = fever.named_titles([record.metadata["claim"]]) & by_key.keys()
            keys = sorted(named_here, key=lambda key: (-len(key.split()), key))  # the longest names first
            titles = tuple(title for key in keys for title in by_key[key])[:4]
            record = dataclasses.replace(record, page_titles=titles, names=names_in(record.metadata["claim"]))
        named.append(record)
    return named


_JOB: dict = {}  # what the worker processes inherit


def _assemble(i: int) -> tuple[dict | str, dict | str]:
    """Sample and twin of support `i`, or the reasons why there is none. Randomness depends on seed and id alone."""
    support = _JOB["supports"][i]
    group = _JOB["groups"][i]
    banned = _JOB["banned"][_JOB["split_of"][_JOB["groups"][i]]]
    rng = random.Random(f"{_JOB['seed']}:{support.record.id}")
    ranked = ranked_negatives(support, _JOB["pool"], banned, rng)
    sample = build_sample(support, ranked, _JOB["max_chunks"], group, rng)
    if isinstance(sample, str) or not sample["answerable"]:
        return sample, "no twin of an unanswerable"
    return sample, build_twin(support, sample, ranked, rng)


def assemble(
    supports: list[Support], groups: list[str], split_of: dict[str, str], pool: PagePool, args
) -> list[tuple[dict | str, dict | str]]:
    """All samples and twins, in the order of `supports`. Negatives never come from a page that supports another split."""
    pages = {
        split: frozenset(p for s, g in zip(supports, groups) if split_of[g] == split for p in s.pages)
        for split in SPLITS
    }
    banned = {
        split: frozenset().union(*(pages[other] for other in SPLITS if other != split)) for split in SPLITS
    }
    _JOB.update(
        supports=supports,
        groups=groups,
        split_of=split_of,
        pool=pool,
        banned=banned,
        seed=args.seed,
        max_chunks=args.max_chunks,
    )
    bar = {"total": len(supports), "desc": "assembling samples", "unit": "sample", "disable": None}
    if args.workers > 1 and "fork" in multiprocessing.get_all_start_methods():
        with multiprocessing.get_context("fork").Pool(args.workers) as workers:
            return list(tqdm(workers.imap(_assemble, range(len(supports)), chunksize=16), **bar))
    return [_assemble(i) for i in tqdm(range(len(supports)), **bar)]


def order_key(seed: int, sample: dict) -> tuple[str, str]:
    """Random order in which a twin follows its original."""
    original = sample["metadata"].get("twin_of") or sample["id"]
    return hashlib.sha1(f"{seed}:{original}".encode()).hexdigest(), sample["id"]


def choose_unanswerable(
    built: list[tuple[dict, dict | str]], fraction: float, seed: int, drops: dict[str, Counter]
) -> list[dict]:
    """Answerable samples plus the wanted share of unanswerable ones per source; at least half of these are twins where possible."""
    chosen = []
    for source in sorted({sample["source"] for sample, _ in built}):
        pairs = sorted(
            (pair for pair in built if pair[0]["source"] == source), key=lambda pair: order_key(seed, pair[0])
        )
        answerable = [sample for sample, _ in pairs if sample["answerable"]]
        own = [sample for sample, _ in pairs if not sample["answerable"]]
        twins = [twin for sample, twin in pairs if sample["answerable"] and isinstance(twin, dict)]
        n_wanted = round(len(answerable) * fraction / (1 - fraction))
        n_own = min(len(own), max(n_wanted - len(twins), n_wanted // 2))
        drops[source]["unanswerable rows beyond the wanted share"] += len(own) - n_own
        chosen += answerable + own[:n_own] + twins[: n_wanted - n_own]
    return sorted(chosen, key=lambda sample: order_key(seed, sample))


def check_file(path: Path) -> None:
    """`--check`: every rule of a build, applied to one sample file."""
    splits = {path.stem: [row for _, row in read_jsonl(path)]}
    problems = broken_rules(splits)
    if problems or not splits[path.stem]:
        raise DataError(
            f"{path}: {len(problems)} rules broken: "
            + ("; ".join(problems[:5]) or "the file holds no samples")
        )
    print(f"{path}: {len(splits[path.stem])} samples keep all rules")


def print_plan(args: argparse.Namespace, config: dict, data_dir: Path) -> None:
    for name, source in config["sources"].items():
        for role in ROLES:
            for entry in source.get(role, []):
                where = entry.get("path") or data_dir / "raw" / name / entry["url"].rsplit("/", 1)[-1]
                found = Path(ROOT / str(where)).is_file()
                note = (
                    "there"
                    if found
                    else (
                        "optional, not there"
                        if entry.get("optional")
                        else "to be fetched"
                        if "url" in entry
                        else "missing"
                    )
                )
                print(f"{name:10s} {role:9s} {where}: {note}")
    n_rows = args.limit or args.max_per_source
    rows = f"up to {n_rows * len(config['sources'])} rows" if n_rows else "all rows"
    cost = "memory about 1 GB, a few minutes" if n_rows else "memory about 5 GB, 20 minutes"
    print(
        f"would build {rows}, plus twins, into {data_dir / 'processed'}; disk about 3 GB with the public wiki pages, {cost}"
    )


def build(
    args: argparse.Namespace, config: dict, files: dict
) -> tuple[dict[str, list[dict]], dict[str, Counter]]:
    """All samples by split, and what was dropped, by source and reason."""
    drops = {name: Counter() for name in files}
    records: list[Record] = []

    def on_bad(problem: str, name: str) -> None:
        if not args.skip_bad:
            raise_bad(f"{problem}; correct it, or add --skip-bad to count and skip such rows")
        drops[name]["malformed row"] += 1

    for name in files:
        drawn = draw_records(
            name,
            files[name]["records"],
            args.limit or args.max_per_source,
            args.seed,
            functools.partial(on_bad, name=name),
        )
        licence = {"licence": config["sources"][name].get("licence", "unknown")}
        drawn = [dataclasses.replace(record, metadata={**record.metadata, **licence}) for record in drawn]
        records += attach_evidence(drawn, files[name]["contexts"])
    pool = read_page_pool(files, records, config.get("max_pool_pages", 0), args.max_chunk_words, on_bad)
    supports = []
    for record in tqdm(name_pages(records, pool), desc="verifying support", unit="row", disable=None):
        found = find_support(record, pool)
        if isinstance(found, str):
            drops[record.source][found] += 1
        else:
            supports.append(found)
    shares = parse_shares(args.split)
    rng = random.Random(f"{args.seed}:splits")
    respect_official = config.get("respect_official_splits", True)
    named = group_supports(supports, shares["train"], respect_official, rng)
    for support, group in zip(supports, named):
        if group is None:
            drops[support.record.source][CUT_REASON] += 1
    supports = [s for s, group in zip(supports, named) if group]
    groups = [group for group in named if group]
    split_of = assign_splits(supports, groups, shares, respect_official, rng)
    built: dict[str, list[tuple[dict, dict | str]]] = {split: [] for split in SPLITS}
    for support, (sample, twin) in zip(supports, assemble(supports, groups, split_of, pool, args)):
        if isinstance(sample, str):
            drops[support.record.source][sample] += 1
        else:
            built[split_of[sample["group"]]].append((sample, twin))
    return {
        split: choose_unanswerable(built[split], args.unanswerable_fraction, args.seed, drops)
        for split in SPLITS
    }, drops


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    started = time.monotonic()
    if args.check:
        check_file(input_path(args.check))
        return
    parse_shares(args.split)
    if args.max_chunks < 2 or not 0 <= args.unanswerable_fraction <= 0.9:
        raise UsageError("--max-chunks must be at least 2 and --unanswerable-fraction between 0 and 0.9")
    config = read_sources_config(args)
    data_dir = home_path(args.data_dir)
    if args.dry_run:
        print_plan(args, config, data_dir)
        return
    files = locate_files(config, data_dir / "raw", args.offline, read_pins(data_dir / "source_hashes.json"))
    flat = {
        f"{name}/{path.name}": path for name in files for role in files[name].values() for path, _ in role
    }
    hashes = check_pins(flat, data_dir / "source_hashes.json", args.accept_new_hash or args.sample)
    ignored = ("data_dir", "accept_new_hash", "offline", "workers", "check", "overwrite", "dry_run")
    settings = {key: value for key, value in vars(args).items() if key not in ignored} | {"config": config}
    run = describe_run(settings, hashes, args.seed)
    processed = data_dir / "processed"
    if open_run_dir(processed, run, args.overwrite) == "complete":
        print(
            f"{processed} is complete with these settings; nothing to do. Next: python prompt_schema.py save --prompts-dir prompts"
        )
        return
    splits, drops = build(args, config, files)
    figures = audit(splits, {name: dict(reasons) for name, reasons in drops.items()})
    write_json(processed / "audit.json", figures)
    if figures["rules_broken"]:
        raise DataError(
            f"{len(figures['rules_broken'])} rules broken, see {processed / 'audit.json'}: {figures['rules_broken'][0]}"
        )
    if not splits["train"]:
        raise StageError(
            f"no training sample could be built; the drop reasons are in {processed / 'audit.json'}"
        )
    for split, samples in splits.items():
        write_jsonl(processed / f"{split}.jsonl", samples)
    licences = {name: source.get("licence", "unknown") for name, source in config["sources"].items()}
    write_text(processed / "README.md", dataset_card(figures, licences, hashes, args.seed))
    close_run_dir(processed, run, n_samples=figures["n_samples"])
    counts = ", ".join(f"{split} {n:,}" for split, n in figures["n_samples"].items())
    reasons = Counter(
        {f"{name}: {reason}": n for name, tally in drops.items() for reason, n in tally.items()}
    )
    print(
        f"wrote {counts} samples to {processed} ({format_drops(reasons)}) in {format_seconds(time.monotonic() - started)}"
    )
    print("next: python prompt_schema.py save --prompts-dir prompts")


if __name__ == "__main__":
    run_main(main)
