"""Leakage groups and the split by group."""

import math
import random
from collections import Counter, deque

import numpy as np
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import CountVectorizer

from evidence.support import Support
from utils.text import shingles

SPLITS = ("train", "val", "test")
# Questions of one template about two things ("Which body of water lies at the end of the ...?") reach 0.81 and are no duplicates.
NEAR_DUPLICATE = 0.9
# A group of more than this share of all rows cannot be moved between the splits as a whole.
LARGE_GROUP = 0.05


def _rarest(counts: csr_matrix, threshold: float) -> csr_matrix:
    """Each row's rarest shingles, just so many that two rows as similar as `threshold` must share one of them.

    The prefix filter of set similarity joins (Chaudhuri et al., 2006): |x| - ceil(threshold |x|) + 1 shingles in one global order.
    """
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    rank = np.empty(counts.shape[1], dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))
    sizes = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), sizes)
    order = np.lexsort((rank[counts.indices], rows))
    place = np.arange(len(order)) - counts.indptr[:-1][rows]
    kept = place < (sizes - np.ceil(threshold * sizes - 1e-9) + 1)[rows]
    indices = counts.indices[order][kept]
    return csr_matrix((np.ones(len(indices), dtype=np.int32), (rows[kept], indices)), shape=counts.shape)


def near_duplicates(questions: list[str], threshold: float = NEAR_DUPLICATE) -> list[tuple[int, int]]:
    """Index pairs whose word 1- and 2-gram sets have at least this Jaccard similarity, exactly."""
    if len(questions) < 2:
        return []
    counts = (
        CountVectorizer(analyzer=lambda q: sorted(shingles(q)), binary=True, dtype=np.int32)
        .fit_transform(questions)
        .tocsr()
    )
    sizes = np.diff(counts.indptr)
    rarest = _rarest(counts, threshold)
    by_shingle = rarest.T.tocsr()
    pairs = []
    for start in range(0, len(questions), 1024):
        near = (rarest[start : start + 1024] @ by_shingle).tocoo()
        rows = near.row + start
        columns = near.col
        rows, columns = rows[rows < columns], columns[rows < columns]
        for part in range(0, len(rows), 100_000):
            i = rows[part : part + 100_000]
            j = columns[part : part + 100_000]
            shared = np.asarray(counts[i].multiply(counts[j]).sum(axis=1)).ravel()
            similar = shared >= threshold * (sizes[i] + sizes[j] - shared) - 1e-9
            pairs += zip(i[similar].tolist(), j[similar].tolist())
    return pairs


def _components(rows: list[int], keys: list[frozenset]) -> list[list[int]]:
    """Rows that are connected by shared keys, as sorted lists."""
    parent = {i: i for i in rows}

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first: dict = {}
    for i in rows:
        for key in keys[i]:
            a = find(i)
            b = find(first.setdefault(key, i))
            parent[max(a, b)] = min(a, b)  # the root is the lowest row, whatever order a set of keys has
    found: dict[int, list[int]] = {}
    for i in rows:
        found.setdefault(find(i), []).append(i)
    return list(found.values())


def _components_without(rows: list[int], keys: list[frozenset], dropped: set[int]) -> list[list[int]]:
    return _components([i for i in rows if i not in dropped], keys)


def _divided(rows: list[int], keys: list[frozenset], is_held_out: list[bool]) -> set[int]:
    """Rows to drop so that no key is shared by held-out and other rows: a key goes to the side that has more rows with it."""
    votes: Counter = Counter()
    for i in rows:
        votes.update(dict.fromkeys(keys[i], 1 if is_held_out[i] else -1))
    sides = {i: {votes[key] >= 0 for key in keys[i]} for i in rows}
    # A row that may go to train may also go to the other side, with all of its keys.
    return {i for i in rows if len(sides[i]) > 1 or (is_held_out[i] and sides[i] == {False})}


def _rim(rows: list[int], keys: list[frozenset], share: float, rng: random.Random) -> set[int]:
    """Rows to drop so that the rim of a large group falls off in small pieces: of the last `share` of the rows, breadth first
    from a random one, those that share a key with the others."""
    members: dict = {}
    for i in rows:
        for key in keys[i]:
            members.setdefault(key, []).append(i)
    start = rng.choice(rows)
    order = [start]
    queue = deque([start])
    used = set()
    seen = {start}
    while queue:
        for key in sorted(keys[queue.popleft()] - used):
            used.add(key)
            fresh = [i for i in members[key] if i not in seen]
            seen.update(fresh)
            order += fresh
            queue.extend(fresh)
    n_core = math.ceil(len(order) * (1 - share))
    core_keys = frozenset().union(*(keys[i] for i in order[:n_core]))
    return {i for i in order[n_core:] if keys[i] & core_keys}


def group_supports(
    supports: list[Support], train_share: float, respect_official: bool, rng: random.Random
) -> list[str | None]:
    """One group name a support, None for the rows dropped: those that share a support page or are near-duplicate questions share it.

    Without drops, chains of shared pages tie most rows of a full dataset into one group, which no split can hold; such a
    group is cut, official held-out rows from the others first, then its rim from the rest.
    """
    keys = [frozenset(("page", page) for page in support.pages) for support in supports]
    for i, j in near_duplicates([support.record.query for support in supports]):
        keys[i] = keys[i] | {("question", str(i))}
        keys[j] = keys[j] | {("question", str(i))}
    # A row without any key is a group of its own.
    keys = [own or frozenset({("row", str(i))}) for i, own in enumerate(keys)]
    is_held_out = [
        respect_official and support.record.official_split in ("dev", "test") for support in supports
    ]
    n_large = max(50, LARGE_GROUP * len(supports))
    names: list[str | None] = [None] * len(supports)
    for rows in _components(list(range(len(supports))), keys):
        parts = [rows]
        if len(rows) > n_large and 0 < sum(is_held_out[i] for i in rows) < len(rows):
            parts = _components_without(rows, keys, _divided(rows, keys, is_held_out))
        for part in parts:
            is_core = len(part) > n_large and not any(is_held_out[i] for i in part)
            for group in (
                _components_without(part, keys, _rim(part, keys, 1 - train_share, rng)) if is_core else [part]
            ):
                name = min(supports[i].record.id for i in group)
                for i in group:
                    names[i] = name
    return names


def assign_splits(
    supports: list[Support],
    groups: list[str],
    shares: dict[str, float],
    respect_official: bool,
    rng: random.Random,
) -> dict[str, str]:
    """Split by group name: whole groups, largest first, each to the split that is furthest below its share of the group's sources.

    With `respect_official`, a group with an official dev or test row never goes to train.
    """
    members: dict[str, list[Support]] = {}
    for support, group in zip(supports, groups):
        members.setdefault(group, []).append(support)
    totals = Counter((s.record.source, s.record.answerable) for s in supports)
    filled = {split: Counter() for split in SPLITS}
    names = sorted(members)
    rng.shuffle(names)

    def is_held_out(name: str) -> bool:
        return respect_official and any(s.record.official_split in ("dev", "test") for s in members[name])

    split_of = {}
    # Held-out groups first: they may only go to val and test, the others fill what is left.
    for name in sorted(names, key=lambda name: (not is_held_out(name), -len(members[name]))):
        strata = Counter((s.record.source, s.record.answerable) for s in members[name])
        allowed = [
            split for split in SPLITS if shares[split] > 0 and not (split == "train" and is_held_out(name))
        ]

        is_train = respect_official and any(s.record.official_split == "train" for s in members[name])

        def gap(split: str) -> float:
            short = sum(
                n * (shares[split] - filled[split][stratum] / totals[stratum]) / shares[split]
                for stratum, n in strata.items()
            )
            # Official training rows fill another split only where it is short by a tenth more than train.
            return short - (0.1 * len(members[name]) if is_train and split != "train" else 0)

        split_of[name] = max(allowed, key=gap)
        filled[split_of[name]].update(strata)
    return split_of
