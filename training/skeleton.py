"""Labels of tokens that all completions have, learned from some of the rows only.

Half of a completion's tokens and more are those of its JSON, which a model knows after a few steps. Logits
are computed where labels are (training/logits.py), and for a small model with a large vocabulary they are a
good part of a step. This module knows token ids, not what they say.
"""

import random
from collections import Counter

# A token may be told by this many tokens before it; the beginning of a completion counts as tokens too.
_N_BEFORE = (2, 3, 4)
# What is always followed by the same token, but seldomer than this, may be a rare answer.
_MIN_TIMES = 50


def _contexts(completion: list[int]) -> list[list[tuple]]:
    """Of each token, what comes before it, shortest first."""
    longest = _N_BEFORE[-1]
    opened = [None] * longest + completion
    contexts = []
    for i in range(longest, len(opened)):
        contexts.append([tuple(opened[i - n : i]) for n in _N_BEFORE])
    return contexts


def told_contexts(completions: list[list[int]]) -> set[tuple]:
    """What is followed by the same token wherever it comes, and often."""
    followers: dict[tuple, Counter] = {}
    for completion in completions:
        for contexts, token in zip(_contexts(completion), completion):
            for context in contexts:
                followers.setdefault(context, Counter())[token] += 1
    told = set()
    for context, tokens in followers.items():
        if len(tokens) == 1 and tokens.total() >= _MIN_TIMES:
            told.add(context)
    return told


def skeleton_of(completion: list[int], told: set[tuple]) -> list[bool]:
    """Of each token of a completion, whether it follows what comes before it wherever that comes."""
    return [not told.isdisjoint(contexts) for contexts in _contexts(completion)]


def thin_labels(rows: list[dict], train: list[dict], share: float, seed: int) -> int:
    """Set the labels of rows to the ids of their completion, -100 for its skeleton in all but a share.

    `train`: the rows of one epoch, by which the skeleton is known: a rare answer does not become a part of it
    by being read again. Which rows keep the labels of the skeleton is drawn by `seed`. Returns the number of
    labels taken away.
    """
    # Rows come with all labels, and looking for the skeleton reads all of them.
    if share == 1:
        return 0
    rng = random.Random(seed)
    n_taken = 0
    told_before = told_contexts([row["completion"] for row in train])
    for row in rows:
        labels = row["completion"]
        is_told = skeleton_of(labels, told_before)
        # A row without a label would teach nothing.
        if rng.random() >= share and not all(is_told):
            labels = [-100 if told else token for told, token in zip(is_told, row["completion"])]
        row["labels"] = labels
        n_taken += sum(label == -100 for label in labels)
    return n_taken
