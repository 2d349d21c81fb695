"""Leakage groups, and the split by whole groups.

Rows that share a support page or ask nearly the same question must land in one split, or a model could have
seen a test row's evidence in training. In Wikipedia's graph of shared pages, almost all rows are connected;
such a group is cut by dropping the few rows that connect its parts (`group_supports`).
"""

import math
import random
from collections import Counter, deque

from evidence.duplicates import near_duplicates
from evidence.support import Support

SPLITS = ("train", "val", "test")

# A group with more than this share of all rows is too large to be moved between the splits as a whole.
LARGE_GROUP = 0.05

# Small data sets may have larger groups: below this number of rows, a group is never cut.
_MIN_LARGE = 50

# What connects two rows: ("page", title), ("question", number of a near-duplicate) or ("row", its own
# number).
Keys = frozenset[tuple[str, str]]


def _components(rows: list[int], keys: list[Keys]) -> list[list[int]]:
    """The rows in groups that are connected by shared keys, each group sorted (union-find)."""
    parent = {i: i for i in rows}

    def find(i: int) -> int:
        while parent[i] != i:
            # Path halving keeps the chains short.
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict[tuple[str, str], int] = {}
    for i in rows:
        for key in keys[i]:
            a = find(i)
            b = find(first.setdefault(key, i))
            # The root is the lowest row, so the order in which a set yields its keys does not matter.
            parent[max(a, b)] = min(a, b)

    found: dict[int, list[int]] = {}
    for i in rows:
        found.setdefault(find(i), []).append(i)
    return list(found.values())


def _components_without(rows: list[int], keys: list[Keys], dropped: set[int]) -> list[list[int]]:
    return _components([i for i in rows if i not in dropped], keys)


def _divided(rows: list[int], keys: list[Keys], is_held_out: list[bool]) -> set[int]:
    """Rows to drop so that held-out and other rows share no key; a key goes where more of its rows are."""
    votes: Counter = Counter()
    for i in rows:
        votes.update(dict.fromkeys(keys[i], 1 if is_held_out[i] else -1))

    dropped = set()
    for i in rows:
        sides = {votes[key] >= 0 for key in keys[i]}
        is_torn = len(sides) > 1
        # Only a held-out row is bound to a side; another may join the held-out rows with all of its keys.
        is_on_wrong_side = is_held_out[i] and sides == {False}
        if is_torn or is_on_wrong_side:
            dropped.add(i)
    return dropped


def _breadth_first(rows: list[int], keys: list[Keys], start: int) -> list[int]:
    """The rows that are connected with `start`, nearest first."""
    members: dict[tuple[str, str], list[int]] = {}
    for i in rows:
        for key in keys[i]:
            members.setdefault(key, []).append(i)

    order = [start]
    queue = deque([start])
    used: set[tuple[str, str]] = set()
    seen = {start}
    while queue:
        # Sorted: a set's own order changes with the hash seed of the process.
        for key in sorted(keys[queue.popleft()] - used):
            used.add(key)
            fresh = [i for i in members[key] if i not in seen]
            seen.update(fresh)
            order += fresh
            queue.extend(fresh)
    return order


def _rim(rows: list[int], keys: list[Keys], share: float, rng: random.Random) -> set[int]:
    """Rows to drop so that the rim of a large group, about `share` of its rows, falls off in small pieces.

    The rim is what a breadth-first walk from a random row reaches last. Of it, the rows that share a key
    with the core are dropped.
    """
    order = _breadth_first(rows, keys, rng.choice(rows))
    n_core = math.ceil(len(order) * (1 - share))
    core_keys = frozenset().union(*(keys[i] for i in order[:n_core]))
    return {i for i in order[n_core:] if keys[i] & core_keys}


def _is_official_held_out(support: Support) -> bool:
    return support.record.official_split in ("dev", "test")


def _keys_of(supports: list[Support]) -> list[Keys]:
    """Keys that connect each row with others: its support pages and its near-duplicate questions."""
    found: list[set[tuple[str, str]]] = []
    for support in supports:
        found.append({("page", page) for page in support.pages})
    for i, j in near_duplicates([support.record.query for support in supports]):
        found[i].add(("question", str(i)))
        found[j].add(("question", str(i)))
    # A row without any key forms a group alone.
    return [frozenset(own or {("row", str(i))}) for i, own in enumerate(found)]


def group_supports(
    supports: list[Support], train_share: float, respect_official: bool, rng: random.Random
) -> list[str | None]:
    """One group name per support, None for rows to drop.

    Rows that share a support page or are near-duplicate questions get the same name. A group that is too
    large for a split is cut: first its official held-out rows from the others, then its rim from the rest.
    """
    keys = _keys_of(supports)
    is_held_out = [respect_official and _is_official_held_out(support) for support in supports]
    n_large = max(_MIN_LARGE, LARGE_GROUP * len(supports))

    parts: list[list[int]] = []
    for rows in _components(list(range(len(supports))), keys):
        n_held_out = sum(is_held_out[i] for i in rows)
        if len(rows) > n_large and 0 < n_held_out < len(rows):
            parts += _components_without(rows, keys, _divided(rows, keys, is_held_out))
        else:
            parts.append(rows)

    groups: list[list[int]] = []
    for part in parts:
        # A part with official held-out rows stays whole: its rim could not go to train.
        if len(part) > n_large and not any(is_held_out[i] for i in part):
            groups += _components_without(part, keys, _rim(part, keys, 1 - train_share, rng))
        else:
            groups.append(part)

    names: list[str | None] = [None] * len(supports)
    for group in groups:
        name = min(supports[i].record.id for i in group)
        for i in group:
            names[i] = name
    return names


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
        return respect_official and any(_is_official_held_out(support) for support in members[name])

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
