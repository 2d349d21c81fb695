"""The pairs of a run of train_rm.py: from which file, on which side of the split, and what was left out.

It knows files, groups and counts, not what a head reads or learns.
"""

import argparse
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from models.distributed import note_in_first_process
from preferences.features import distinct_pairs
from preferences.inputs import find_head
from preferences.pairs import check_preferences, find_preferences, split_groups
from preferences.sft_samples import SftSamples, sft_samples
from preferences.split_record import Split, preferences_facts, split_for_head, write_split
from utils.config import home_path
from utils.errors import DataError
from utils.schema import read_preferences


@dataclass(frozen=True)
class RewardPairs:
    """Preference rows of one file, their split, those left out by reason, and what is known of the data."""

    path: Path
    rows: list[dict]
    split: Split
    drops: Mapping[str, int]
    warnings: list[str]
    sft: SftSamples
    # --limit, which decides what is split.
    limit: int | None


def read_pairs(args: argparse.Namespace, config: dict) -> RewardPairs:
    """The pairs that the flags name; with --validate-only split as the head was trained.

    DataError without a pair that is left, or without one on a side that is needed.
    """
    path = find_preferences(args.prefs, args.prefs_dir)
    all_rows = read_preferences(path)
    rows = all_rows[: args.limit]
    warnings = check_preferences(path, rows, args.allow_test)
    note_in_first_process(warnings)
    rows, drops = distinct_pairs(rows, config)
    drops |= {"over --limit": len(all_rows[args.limit :]) if args.limit else 0}
    sft = sft_samples(path, config["base_model"])
    if not args.validate_only:
        split = Split(split_groups(rows, config))
        return RewardPairs(path, rows, split, drops, warnings, sft, args.limit)
    head = find_head(args.checkpoint, home_path(config["output_dir"]))
    split, said = split_for_head(head, rows, path, config)
    note_in_first_process([said])
    if args.tune_penalties and not split.sides["val"]:
        raise DataError(
            f"{path}: no pair is of a val group of {head}, and weights are chosen on these; "
            "name the preferences that it was trained on with --prefs"
        )
    return RewardPairs(path, rows, split, drops, warnings, sft, args.limit)


def record_split(output_dir: Path, pairs: RewardPairs, config: dict) -> None:
    """Write split.json of a training."""
    drawn = {key: config[key] for key in ("seed", "val_fraction", "test_fraction")}
    facts = preferences_facts(pairs.path) | drawn | {"limit": pairs.limit}
    write_split(output_dir, pairs.rows, pairs.split.sides, facts)
