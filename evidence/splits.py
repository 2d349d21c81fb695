"""The split by whole groups (groups.py), with each source's share of every split."""

import random
from collections import Counter

from evidence.groups import is_official_held_out
from evidence.support import Support

SPLITS = ("train", "val", "test")


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

    Each goes to the split that is furthest below its share of the group's sources. With `respect_official`,
    a group with an official dev or test row never goes to train.
    """
    members: dict[str, list[Support]] = {}
    for support, group in zip(supports, groups):
        members.setdefault(group, []).append(support)
    totals = _strata(supports)
    filled: dict[str, Counter] = {split: Counter() for split in SPLITS}

    def is_held_out(name: str) -> bool:
        return respect_official and any(is_official_held_out(support) for support in members[name])

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
    # Held-out groups first: they may only go to val and test, the others fill what is left.
    for name in sorted(names, key=lambda name: (not is_held_out(name), -len(members[name]))):
        allowed = [split for split in SPLITS if shares[split] > 0]
        if is_held_out(name):
            allowed = [split for split in allowed if split != "train"]
        gaps = {split: gap(split, name) for split in allowed}
        split_of[name] = max(allowed, key=lambda split: gaps[split])
        filled[split_of[name]].update(_strata(members[name]))
    return split_of
