"""Leakage groups: the rows that must be in one split.

Rows that share a support page or ask nearly the same question must land in one split, or a model could have
seen a test row's evidence in training. In Wikipedia's graph of shared pages, almost all rows are connected;
such a group is cut by dropping the few rows that connect its parts (`group_supports`). Rows that all share
one page cannot be cut: they stay whole, however many they are.
"""

import math
import random
from collections import Counter, deque

from evidence.duplicates import near_duplicates
from evidence.support import Support
from utils.text import tokenize

# A group with more than this share of all rows is too large to be moved between the splits as a whole.
LARGE_GROUP = 0.05

# Small data sets may have larger groups: below this number of rows, a group is never cut.
_MIN_LARGE = 50

# A large group is cut at most so often, while its core has more than this share of the rows too many.
_MAX_CUTS = 4
_MIN_RIM = 0.02

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


def _torn(rows: list[int], keys: list[Keys], apart: set[int], bound: set[int]) -> set[int]:
    """Rows to drop so that those `apart` and the others share no key.

    A key goes to the side that has more of its rows, and a row to the side that has all of its keys: rows
    with keys of both sides are dropped. `bound` rows of `apart` may not change sides.
    """
    votes: Counter = Counter()
    for i in rows:
        votes.update(dict.fromkeys(keys[i], 1 if i in apart else -1))

    dropped = set()
    for i in rows:
        sides = {votes[key] >= 0 for key in keys[i]}
        is_on_wrong_side = i in bound and sides == {False}
        if len(sides) > 1 or is_on_wrong_side:
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


def _without_rim(rows: list[int], keys: list[Keys], share: float, rng: random.Random) -> list[list[int]]:
    """The groups of a large group after its rim, about `share` of its rows, is cut off.

    The rim is what a breadth-first walk from a random row reaches last. Rows at its edge change sides, so it
    is cut again where the core is still too large.
    """
    core = rows
    pieces: list[list[int]] = []
    for _ in range(_MAX_CUTS):
        n_kept = len(core) + sum(map(len, pieces))
        n_rim = math.floor(len(core) - (1 - share) * n_kept)
        if n_rim < _MIN_RIM * n_kept:
            break
        order = _breadth_first(core, keys, rng.choice(core))
        rim = set(order[len(order) - n_rim :])
        parts = _components_without(core, keys, _torn(core, keys, rim, set()))
        parts.sort(key=len)
        core = parts.pop()
        pieces += parts
    return [core, *pieces]


def _loose(title: str) -> str:
    """A title without regard to case and punctuation: in a user's own files "Old_Mill" is the old mill."""
    return " ".join(tokenize(title.replace("_", " ")))


def _pages_of(supports: list[Support]) -> list[set[tuple[str, str]]]:
    """Keys of the pages of each row. Of a user's own, spellings of a title are one, and so are texts.

    A text is a key only where it has several titles: one that says the same as the title would tear groups.
    """
    ours = [support for support in supports if not support.record.titles_name_pages]
    theirs = frozenset().union(*(s.pages for s in supports if s.record.titles_name_pages))
    # The lowest of several, whatever the order of the set.
    titles: dict[str, str] = {}
    titles_of: dict[str, set[str]] = {}
    for page in sorted(theirs) + sorted(frozenset().union(*(support.pages for support in ours))):
        titles.setdefault(_loose(page), page)
    for support in ours:
        for chunk in [chunk for chunks in support.sets for chunk in chunks]:
            titles_of.setdefault(chunk.words, set()).add(_loose(chunk.title))

    found = []
    for support in supports:
        pages = support.pages
        keys = {("page", page) for page in pages}
        if not support.record.titles_name_pages:
            keys = {("page", page if page in theirs else titles[_loose(page)]) for page in pages}
            words = {chunk.words for chunks in support.sets for chunk in chunks}
            keys |= {("text", text) for text in words if len(titles_of[text]) > 1}
        found.append(keys)
    return found


def _keys_of(supports: list[Support]) -> list[Keys]:
    """Keys that connect each row with others: its support pages and its near-duplicate questions."""
    found = _pages_of(supports)
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
    officials = [support.record.official_split if respect_official else "any" for support in supports]
    held_out = {i for i, official in enumerate(officials) if official in ("dev", "test")}
    n_large = max(_MIN_LARGE, LARGE_GROUP * len(supports))

    parts: list[list[int]] = []
    for rows in _components(list(range(len(supports))), keys):
        apart = held_out.intersection(rows)
        if len(rows) > n_large and 0 < len(apart) < len(rows):
            parts += _components_without(rows, keys, _torn(rows, keys, apart, apart))
        else:
            parts.append(rows)

    groups: list[list[int]] = []
    for part in parts:
        n_held_out = len(held_out.intersection(part))
        is_bound_to_test = any(officials[i] == "test" for i in part)
        if len(part) > n_large and not n_held_out:
            groups += _without_rim(part, keys, 1 - train_share, rng)
        elif len(part) > n_large and 2 * n_held_out > len(held_out) and not is_bound_to_test:
            # None of it may go to train, so one of val and test would get almost all, the other nothing.
            groups += _without_rim(part, keys, 0.5, rng)
        else:
            groups.append(part)

    names: list[str | None] = [None] * len(supports)
    for group in groups:
        name = min(supports[i].record.id for i in group)
        for i in group:
            names[i] = name
    return names
