"""`--import` and `--export` of make_prefs.py: files of other tools become preferences, and the way back.

preferences/forms.py has the rows. This module knows nothing about models or judges.
"""

import argparse
import time
from collections import Counter
from pathlib import Path

from preferences.forms import FORMS, imported_row
from preferences.pairs import find_preferences, style_check
from preferences.rows import preference_stats
from preferences.stats import write_statistics
from utils.config import home_path, input_path, portable_path
from utils.errors import DataError
from utils.jsonl import read_jsonl, sha256_file, write_jsonl
from utils.pair_rules import IMPORTED
from utils.runs import format_drops
from utils.schema import read_preferences


def read_pairs(path: Path, skip_bad: bool) -> tuple[list[dict], Counter]:
    """The preference rows of a file of another tool, and the number of bad rows by reason.

    DataError with file and line for the first bad row, unless `skip_bad`, and for a file without a good row.
    """
    rows: list[dict] = []
    dropped: Counter = Counter()
    line_of: dict[str, int] = {}

    def on_bad(problem: str) -> None:
        if not skip_bad:
            raise DataError(f"{problem}; correct it, or add --skip-bad to count and skip such rows")
        dropped["malformed row"] += 1

    for number, row in read_jsonl(path, on_bad):
        try:
            found = imported_row(row, number)
        except DataError as error:
            on_bad(f"{path}:{number}: {error}")
            continue
        if first := line_of.get(found["id"]):
            on_bad(f"{path}:{number}: duplicate id {found['id']!r}, first seen on line {first}")
            continue
        line_of[found["id"]] = number
        rows.append(found)
    if not rows:
        raise DataError(f"{path}: the file has no pair that can be read ({format_drops(dropped)})")
    return rows, dropped


def _import_pairs(args: argparse.Namespace, path: Path) -> None:
    """Write the preferences and their statistics, named after the content of the imported file."""
    everything, dropped = read_pairs(path, args.skip_bad)
    rows = everything[: args.max_samples]
    if len(rows) < len(everything):
        dropped["over --limit"] = len(everything) - len(rows)
    name = f"import-{sha256_file(path)[:8]}"
    target = home_path(args.prefs_dir) / f"preferences_{name}.jsonl"
    counts = f"{len(rows):,} preferences to {target} (rows {format_drops(dropped)})"
    if args.dry_run:
        print(f"would write {counts}")
        return
    stats = preference_stats(rows, [], len(rows) + dropped.total(), dropped)
    settings = {"judge": IMPORTED, "cache": name, "file": portable_path(path)}
    # "created" decides which of several preferences files is the newest.
    stats |= {"settings": settings, "created": time.time(), "style_only": style_check(rows, args.seed or 42)}
    write_jsonl(target, rows)
    write_statistics(target.with_name(f"preference_stats_{name}.json"), stats, rows)
    print(f"wrote {counts}")


def _export_pairs(args: argparse.Namespace) -> None:
    """Write a preferences file in another form beside it."""
    path = find_preferences(args.prefs, args.prefs_dir)
    rows = read_preferences(path)[: args.max_samples]
    # The name does not begin as that of preferences: train_rm.py must not take it for the newest.
    target = path.with_name(f"{args.export}_{path.name.removesuffix('.gz')}")
    if args.dry_run:
        print(f"would write {len(rows):,} pairs to {target}")
        return
    write_jsonl(target, map(FORMS[args.export], rows))
    print(f"wrote {len(rows):,} pairs to {target}")


def exchange_pairs(args: argparse.Namespace) -> None:
    """`--import` or `--export` of make_prefs.py. DataError for a bad row, with file, line and reason."""
    if args.import_file:
        _import_pairs(args, input_path(args.import_file))
    else:
        _export_pairs(args)
