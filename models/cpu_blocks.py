"""Blocks of queries, and the keys that each may see: the others' scores are not computed.

It knows places in a sequence, not what attention makes of them (models/cpu_attention.py).
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch

# Query positions per block: large enough for fast matmuls, small enough to skip most of the future and to
# keep the scores in the processor's cache.
_BLOCK = 128
# Parts of a tree (`tree_blocks`) skip most of what their queries do not see without being cut.
_TREE_BLOCK = 256


class Block(NamedTuple):
    """Neighboring queries `start` to `end`, and the keys that their last one may see: (start, end) each."""

    start: int
    end: int
    seen: list[tuple[int, int]]


def causal_blocks(n_queries: int, n_keys: int) -> Iterator[Block]:
    """The blocks of the last `n_queries` positions of a sequence of `n_keys`."""
    for start in range(0, n_queries, _BLOCK):
        end = min(start + _BLOCK, n_queries)
        yield Block(start, end, [(0, n_keys - n_queries + end)])


def tree_blocks(owners: list[tuple[int, int]]) -> list[Block]:
    """The blocks of a sequence of parts that see each other as the nodes of a tree do: those above them.

    `owners`: of each token its group and its row, -1 for what belongs to all groups or all rows of its group.
    """
    blocks: list[Block] = []
    # Of each part so far, its owner and where it is.
    parts: list[tuple[tuple[int, int], tuple[int, int]]] = []
    end = 0
    for owner, tokens in itertools.groupby(owners):
        group, row = owner
        start = end
        end += len(list(tokens))
        above = [place for of, place in parts if of in ((-1, -1), (group, -1))]
        for first in range(start, end, _TREE_BLOCK):
            last = min(first + _TREE_BLOCK, end)
            blocks.append(Block(first, last, [*above, (start, last)]))
        parts.append((owner, (start, end)))
    return blocks


def take(x: torch.Tensor, places: list[tuple[int, int]], dim: int) -> torch.Tensor:
    """The places of a dimension, one behind another."""
    taken = [x.narrow(dim, start, end - start) for start, end in places]
    return taken[0] if len(taken) == 1 else torch.cat(taken, dim)


def add(total: torch.Tensor, places: list[tuple[int, int]], taken: torch.Tensor) -> None:
    """What belongs to the places of `total` (n_batch, n_keys, dim) is added there: `take` turned around."""
    lengths = [end - start for start, end in places]
    for (start, end), part in zip(places, taken.split(lengths, 1)):
        total[:, start:end] += part
