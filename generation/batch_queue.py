"""Batches that wait for the model, and what becomes of one that does not fit the memory.

It knows lengths and memory, neither models nor what a batch is read for.
"""

import itertools
from collections.abc import Callable, Iterator
from typing import TypeVar

from generation.batches import MAX_BATCH_TOKENS, plan_batches, split_units
from models.memory import describe_memory, release_memory
from utils.errors import OutOfMemory, is_out_of_memory

Done = TypeVar("Done")


def unless_out_of_memory(work: Callable[[list[list[int]]], Done], batch: list[list[int]]) -> Done | None:
    """What `work(batch)` returns; None, with its memory free again, where that was not enough."""
    try:
        return work(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
    # Behind the block, not in it: there the traceback still keeps every tensor of the failed pass, so that
    # nothing would become free.
    release_memory()
    return None


class BatchQueue:
    """Batches that wait for the model, longest first: lists of units, which are lists of row indices.

    `lengths[i]` is the number of tokens that row i may fill. Rows of a unit share a beginning, which is read
    once. No batch has more than `max_tokens` tokens, padding included, unless it is a single row.
    """

    def __init__(
        self,
        units: list[list[int]],
        lengths: list[int],
        batch_size: int,
        max_tokens: int = MAX_BATCH_TOKENS,
    ):
        self.lengths = lengths
        self.batch_size = batch_size
        self.max_tokens = max_tokens
        self._plan(units)

    def _length(self, unit: list[int]) -> int:
        return max(self.lengths[i] for i in unit)

    def _plan(self, units: list[list[int]]) -> None:
        # A unit alone may have too many tokens: rows apart read their beginning again, but fit.
        parts = []
        for unit in units:
            parts += split_units([unit], max(1, self.max_tokens // self._length(unit)))
        units = parts
        lengths = [self._length(unit) for unit in units]
        n_rows = [len(unit) for unit in units]
        self.waiting = []
        for batch in plan_batches(lengths, self.batch_size, self.max_tokens, n_rows):
            self.waiting.append([units[k] for k in batch])

    def run(self, work: Callable[[list[list[int]]], Done]) -> Iterator[Done]:
        """What `work` returns for each batch, never None. Out of memory halves this and all later batches.

        OutOfMemory if a single row does not fit.
        """
        while self.waiting:
            batch = self.waiting.pop(0)
            done = unless_out_of_memory(work, batch)
            if done is None:
                self._put_back_halved(batch)
            else:
                yield done

    def _put_back_halved(self, batch: list[list[int]]) -> None:
        """Plan again with a batch that did not fit; from now on batches have at most half of its tokens."""
        n_half = sum(map(len, batch)) // 2
        if n_half == 0:
            raise OutOfMemory(
                f"out of memory: one row of {self._length(batch[0]):,} tokens does not fit on "
                f"{describe_memory()}; load the model in 4 or 8 bits, or allow fewer tokens per prompt"
            )
        # Later batches are shorter, but would fail too if they had as many tokens.
        self.max_tokens = n_half * self._length(batch[0])
        units = list(itertools.chain(batch, *self.waiting))
        self._plan(split_units(units, n_half))
