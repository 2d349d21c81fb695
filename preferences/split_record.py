"""Which pairs a reward head learned from, kept beside its run: validated later, it is not tested on these.

    split.json  {"preferences", "preferences_sha256", "seed", "val_fraction", "test_fraction", "limit",
                 "groups": {"train", "val", "test"}, "samples": {"train", "val", "test"}}

A group of another preferences file keeps its side. Groups of another build have other names, so that samples
are known too, by a hash of their id and question. This module knows nothing about heads or scores.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from preferences.pairs import split_groups
from utils.config import portable_path
from utils.errors import DataError
from utils.jsonl import sha256_file, sha256_value, write_json
from utils.own_files import SPLIT
from utils.shapes import read_shaped

SIDES = ("train", "val", "test")
_FILE = "split.json"


@dataclass(frozen=True)
class Split:
    """Indices of the pairs of each side, and how many test pairs are of groups that training did not have."""

    sides: dict[str, list[int]]
    # None where the head's run does not tell: then the sides were drawn again.
    n_new_test_pairs: int | None = 0

    @property
    def sizes(self) -> dict[str, int]:
        """Pairs of each side."""
        return {side: len(pairs) for side, pairs in self.sides.items()}


def preferences_facts(path: Path) -> dict[str, str]:
    """What names a preferences file in a record: its path and hash."""
    return {"preferences": portable_path(path), "preferences_sha256": sha256_file(path)}


def _sample_key(row: dict) -> str:
    return sha256_value([row["sample_id"], row["question"]])[:16]


def write_split(output_dir: Path, rows: list[dict], sides: dict[str, list[int]], facts: dict) -> None:
    """Write split.json of a run; `facts`: how the sides were drawn, and from which file."""
    groups = {}
    samples = {}
    for side in SIDES:
        groups[side] = sorted({rows[i]["group"] for i in sides[side]})
        samples[side] = sorted({_sample_key(rows[i]) for i in sides[side]})
    write_json(output_dir / _FILE, {**facts, "groups": groups, "samples": samples})


def _known_sides(rows: list[dict], record: dict) -> dict[str, str]:
    """The side of each group of rows that training had; of a mixed one, the side that taught most."""
    found: dict[str, str] = {}
    # Imported pairs may have one sample in several groups, which then tells no side.
    n_sides = Counter(key for side in SIDES for key in record["samples"][side])
    # Last counts: a group with one pair that was trained on is no test of what was learned.
    for side in reversed(SIDES):
        groups = set(record["groups"][side])
        samples = {key for key in record["samples"][side] if n_sides[key] == 1}
        for row in rows:
            if row["group"] in groups or _sample_key(row) in samples:
                found[row["group"]] = side
    return found


def split_for_head(head: Path, rows: list[dict], path: Path, config: dict) -> tuple[Split, str]:
    """The split of pairs of a preferences file for a trained head, and a line that says where it is from.

    What the head was trained or chosen on stays on its side, and all else is test; a side may be empty, but
    for test. DataError without a test pair.
    """
    recorded = head.parent / _FILE
    if not recorded.is_file():
        return Split(split_groups(rows, config), None), (
            f"warning: {head}: no {_FILE} beside it says which pairs it was trained on (heads of earlier "
            f"versions have none), so {path} is split again; with another file, --limit, seed or fractions "
            "than in training, test pairs are ones that it has seen"
        )
    record = read_shaped(recorded, SPLIT, "train the reward model again")
    known = _known_sides(rows, record)
    sides: dict[str, list[int]] = {side: [] for side in SIDES}
    for i, row in enumerate(rows):
        sides[known.get(row["group"], "test")].append(i)
    if not sides["test"]:
        raise DataError(
            f"{path}: all {len(rows)} pairs are of groups that {head} was trained or chosen on; "
            "raise --limit, or make pairs of other samples with make_prefs.py"
        )
    split = Split(sides, sum(row["group"] not in known for row in rows))
    sizes = ", ".join(f"{side} {n}" for side, n in split.sizes.items())
    return split, (
        f"split of {len(rows)} pairs as {head} was trained (on {record['preferences']}): {sizes}; "
        f"{split.n_new_test_pairs} of the test pairs are of groups that this file had not"
    )
