"""The split by whole groups (groups.py), with each source's share of every split."""

import random
from collections import Counter

from evidence.drops import Drops
from evidence.groups import group_supports
from evidence.support import Support
from utils.errors import UsageError

SPLITS = ("train", "val", "test")

# The drop reason of rows that would connect two splits.
CUT_REASON = "connects two splits"


def allowed_splits(supports: list[Support], respect_official: bool) -> tuple[str, ...]:
    """Where a group of these rows may go: with an official test row to test, with a dev row not to train."""
    officials = {support.record.official_split for support in supports if respect_official}
    if "test" in officials:
        return ("test",)
    return ("val", "test") if "dev" in officials else SPLITS


def _strata(supports: list[Support]) -> Counter:
    """How many of the rows are of each source and answerability."""
    return Counter((support.record.source, support.record.answerable) for support in supports)


def assign_splits(
    supports: list[Support],
    groups: list[str],
    shares: dict[str, float],
    respect_official: bool,
    rng: random.Random,
) -> dict[str, str]:
    """Split by group name: whole groups, the largest first.

    Each goes to the allowed split that is furthest below its share of the group's sources.
    """
    members: dict[str, list[Support]] = {}
    for support, group in zip(supports, groups):
        members.setdefault(group, []).append(support)
    totals = _strata(supports)
    filled: dict[str, Counter] = {split: Counter() for split in SPLITS}

    allowed = {name: allowed_splits(rows, respect_official) for name, rows in members.items()}

    def gap(split: str, name: str) -> float:
        """How far a split is below its share of the group's sources, in rows."""
        short = sum(
            n * (shares[split] - filled[split][stratum] / totals[stratum]) / shares[split]
            for stratum, n in _strata(members[name]).items()
        )
        # Official training rows fill another split only where it is short by a tenth more than train.
        is_train = any(support.record.official_split == "train" for support in members[name])
        if respect_official and is_train and split != "train":
            short -= 0.1 * len(members[name])
        return short

    # Shuffled before a stable sort: groups of one size come in random order.
    names = sorted(members)
    rng.shuffle(names)
    split_of = {}
    # Groups with the fewest allowed splits first: the others fill what is left.
    for name in sorted(names, key=lambda name: (len(allowed[name]), -len(members[name]))):
        gaps = {split: gap(split, name) for split in allowed[name]}
        split_of[name] = max(gaps, key=lambda split: gaps[split])
        filled[split_of[name]].update(_strata(members[name]))
    return split_of


def split_supports(
    supports: list[Support], shares: dict[str, float], respect_official: bool, seed: int, drops: Drops
) -> tuple[list[Support], list[str], dict[str, str]]:
    """The supports that connect no two splits, the group name of each, and the split of each group name."""
    # A separate generator: another step that draws more numbers must not change the splits.
    rng = random.Random(f"{seed}:splits")
    kept = []
    groups = []
    for support, group in zip(supports, group_supports(supports, shares["train"], respect_official, rng)):
        if group is None:
            record = support.record
            drops[record.source].drop(CUT_REASON, record.id, record.question)
        else:
            kept.append(support)
            groups.append(group)
    return kept, groups, assign_splits(kept, groups, shares, respect_official, rng)


def expected_splits(supports: list[Support], respect_official: bool) -> list[str]:
    """The splits that rows may go to at all: without train where every row is an official dev or test row."""
    if not supports:
        return list(SPLITS)
    allowed = {split for support in supports for split in allowed_splits([support], respect_official)}
    return [split for split in SPLITS if split in allowed]


def parse_shares(text: str) -> dict[str, float]:
    """`0.8,0.1,0.1` -> share by split; UsageError unless the three add up to 1."""
    try:
        shares = [float(part) for part in text.split(",")]
    except ValueError:
        shares = []
    # Written so that a NaN, which compares as false with everything, is refused too.
    if len(shares) != 3 or not abs(sum(shares) - 1) <= 1e-6:
        raise UsageError(f"--split {text}: needs three shares that add up to 1, for example 0.8,0.1,0.1")
    for split, share in zip(SPLITS, shares):
        if not share > 0:
            raise UsageError(f"--split {text}: the share of {split} is {share:g}; each split needs samples")
    return dict(zip(SPLITS, shares))
