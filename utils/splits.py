"""Leakage groups and the split by group."""

import random
from collections import Counter

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from utils.evidence import Support
from utils.text import shingles

SPLITS = ("train", "val", "test")
NEAR_DUPLICATE = 0.9


def near_duplicates(questions: list[str], threshold: float = NEAR_DUPLICATE) -> list[tuple[int, int]]:
    """Index pairs whose word 1- and 2-gram sets have at least this Jaccard similarity, exactly."""
    if len(questions) < 2:
        return []
    counts = CountVectorizer(analyzer=lambda q: sorted(shingles(q)), binary=True, dtype=np.int32).fit_transform(questions)
    sizes = np.asarray(counts.sum(axis=1)).ravel()
    pairs = []
    for start in range(0, len(questions), 512):
        shared = (counts[start : start + 512] @ counts.T).tocoo()
        rows = shared.row + start
        similar = shared.data >= threshold * (sizes[rows] + sizes[shared.col] - shared.data)
        pairs += [(int(i), int(j)) for i, j in zip(rows[similar], shared.col[similar]) if i < j]
    return pairs


def group_supports(supports: list[Support]) -> list[str]:
    """One group name a support: records that share a support page or are near-duplicate questions share it."""
    parent = list(range(len(supports)))

    def find(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    first_of_page: dict[str, int] = {}
    for i, support in enumerate(supports):
        for page in sorted(support.pages):
            parent[find(i)] = find(first_of_page.setdefault(page, i))
    for i, j in near_duplicates([support.record.question for support in supports]):
        parent[find(i)] = find(j)
    names: dict[int, str] = {}
    for i, support in enumerate(supports):
        root = find(i)
        names[root] = min(names.get(root, support.record.id), support.record.id)
    return [names[find(i)] for i in range(len(supports))]


def assign_splits(supports: list[Support], groups: list[str], shares: dict[str, float], respect_official: bool, rng: random.Random) -> dict[str, str]:
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
        allowed = [split for split in SPLITS if shares[split] > 0 and not (split == "train" and is_held_out(name))]

        def gap(split: str) -> float:
            return sum(n * (shares[split] - filled[split][stratum] / totals[stratum]) / shares[split] for stratum, n in strata.items())

        split_of[name] = max(allowed, key=gap)
        filled[split_of[name]].update(strata)
    return split_of
