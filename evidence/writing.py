"""Writes a processed folder: its audit first, then the samples if no rule is broken, and the dataset card."""

import argparse
from pathlib import Path

from evidence.audit import flat_drops
from evidence.promises import empty_split_problem
from evidence.shortcuts import report_shortcuts
from utils.errors import DataError
from utils.finished import check_outputs, describe_outputs
from utils.jsonl import write_json, write_jsonl, write_text
from utils.own_files import BUILD
from utils.runs import note
from utils.shapes import read_shaped


def write_build(
    written_dir: Path, splits: dict[str, list[dict]], figures: dict, card: str, args: argparse.Namespace
) -> None:
    """Write `audit.json` (`figures`), the samples by split and README.md. `args`: the flags of build_data.py.

    DataError, with nothing but the audit written, if a rule is broken or a split is empty; a quick look
    (--limit) may go without val and test. With --strict-shortcuts, a shortcut above its limit is one too.
    """
    audit_path = written_dir / "audit.json"
    write_json(audit_path, figures)
    broken = figures["rules_broken"]
    if broken:
        raise DataError(f"{len(broken)} rule(s) broken, see {audit_path}; the first: {broken[0]}")
    empty = empty_split_problem(splits, flat_drops(figures["dropped"]))
    if empty and args.limit and splits.get("train"):
        note(empty)
    elif empty:
        raise DataError(f"{empty}; the counts are in {audit_path}")
    report_shortcuts(audit_path, args.strict_shortcuts)
    for split, samples in splits.items():
        write_jsonl(written_dir / f"{split}.jsonl", samples)
    write_text(written_dir / "README.md", card)


def describe_build(written_dir: Path, figures: dict) -> dict:
    """What the manifest of a finished build says of it: the counts of its splits, and its files."""
    return {"n_samples": figures["n_samples"], **describe_outputs(written_dir, "*.jsonl")}


def check_build(processed: Path, is_strict: bool) -> None:
    """DataError if a split of a complete build is gone or another one than was written.

    Also reports its shortcuts, which are an error if `is_strict`.
    """
    manifest = read_shaped(processed / "run.json", BUILD)
    splits = [f"{split}.jsonl" for split in manifest.get("n_samples", [])]
    check_outputs(processed, manifest, "run.json", splits)
    report_shortcuts(processed / "audit.json", is_strict)
