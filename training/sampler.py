"""The order in which training rows reach the model.

It knows which rows belong together and how long they are, not what they say.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch

# Questions that are sorted by length together: enough to fill batches evenly, few enough to keep the order
# random.
_N_SORTED = 64


@dataclass(frozen=True)
class RowOrder:
    """How an epoch orders its rows; the defaults are a plain random order."""

    twins_adjacent: bool = False  # a question's answerable and unanswerable rows beside each other
    answerable_first: float = 0.0  # share of the rows, at the start, that are answerable and have no twin
    n_blocks: int = 1  # how often the data set repeats its rows, each time with the chunks in another order
    n_short: int = 0  # of how many of these blocks it has the rows with short evidence too, behind all blocks
    short_rows: tuple[int, ...] = ()  # of each epoch, how many rows at its start have short evidence
    sort_within: int | None = None  # rows that are sorted by length together; None: runs of 64 questions


def rows_to_sort(batch_size: int, n_accumulated: int, n_processes: int) -> int | None:
    """`RowOrder.sort_within` for batches that are padded to their longest row.

    Runs of 64 questions make an optimizer step long or short as a whole, with more or fewer rows of a source
    whose rows are short (FEVER). Only a step of one batch has no other way to pad little.
    """
    # A batch of one row is never padded.
    if batch_size == 1:
        return 1
    # Those of other processes and those that are accumulated alike: a launch learns what one process does.
    n_batches = n_accumulated * n_processes
    return batch_size * n_batches if n_batches > 1 else None


class TwinSampler(torch.utils.data.Sampler):
    """A random order that keeps the rows of a unit (a question and its twin) adjacent: a batch contains both.

    The share `order.answerable_first` of answerable rows without a twin opens the epoch: a small model learns
    to refuse only once it can find an answer. Where the data set has its rows `order.n_blocks` times (each
    with its own order of chunks), epoch e draws from block e, and its first `order.short_rows[e]` rows, in
    whole units, from the short version of that block. Rows of similar length come together, so that a
    batch pads little: within each run of 64 questions the shorter ones come first (in every second run,
    last), or within `order.sort_within` rows.
    """

    def __init__(
        self,
        units: list[str],
        lengths: list[int],
        answerable: list[bool],
        seed: int,
        order: RowOrder = RowOrder(),
        short_lengths: list[int] | None = None,
    ):
        self.units = units
        self.lengths = lengths
        self.answerable = answerable
        self.seed = seed
        self.order = order
        self.short_lengths = short_lengths or []
        self.n_first = round(order.answerable_first * len(units))
        self.epoch = 0
        self.members: dict[str, list[int]] = {}
        for i, unit in enumerate(units):
            self.members.setdefault(unit, []).append(i)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self) -> Iterator[int]:
        # Seeded by the epoch, so that a resumed run sees the rows in the order of a run that was never cut.
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        members = list(self.members.values())
        order = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]

        first = [rows for rows in order if len(rows) == 1 and self.answerable[rows[0]]][: self.n_first]
        opening = {rows[0] for rows in first}
        rest = [rows for rows in order if rows[0] not in opening]

        short = self._short([*first, *rest])
        lengths = [self.short_lengths[i] if i in short else self.lengths[i] for i in range(len(self))]
        rows: Iterator[int]
        if self.order.sort_within is None:
            rows = itertools.chain(_in_runs(first, lengths), _in_runs(rest, lengths))
        else:
            rows = _within(self.order.sort_within, [*first, *rest], lengths)
        block = self.epoch % self.order.n_blocks
        short_block = self.order.n_blocks + self.epoch % max(1, self.order.n_short)
        for i in rows:
            yield i + len(self) * (short_block if i in short else block)

    def _short(self, order: list[list[int]]) -> set[int]:
        """The rows of this epoch that have short evidence: those of its first units."""
        n_short = sum(self.order.short_rows[self.epoch : self.epoch + 1])
        found: set[int] = set()
        for rows in order:
            if len(found) >= n_short:
                break
            found.update(rows)
        return found


def _longest(rows: list[int], lengths: list[int]) -> int:
    return max(lengths[i] for i in rows)


def _in_runs(order: list[list[int]], lengths: list[int]) -> Iterator[int]:
    """The rows of the units, each run of units sorted by length."""
    for start in range(0, len(order), _N_SORTED):
        run = sorted(order[start : start + _N_SORTED], key=lambda rows: _longest(rows, lengths))
        # Up and down in turns: where two runs meet, a batch has rows of similar length.
        if start // _N_SORTED % 2:
            run.reverse()
        for rows in run:
            yield from rows


def _within(n_rows: int, order: list[list[int]], lengths: list[int]) -> Iterator[int]:
    """The rows in the order of their units, each `n_rows` of them sorted by the lengths of these."""
    keyed = []
    for rows in order:
        keyed += [(_longest(rows, lengths), i) for i in rows]
    for start in range(0, len(keyed), n_rows):
        # By the length alone: the sort is stable, so twins stay beside each other.
        for _, i in sorted(keyed[start : start + n_rows], key=lambda pair: pair[0]):
            yield i


def make_sampler(rows: Any, row_lengths: Callable[..., list[int]], args: Any, order: RowOrder) -> TwinSampler:
    """The sampler of a data set with the columns of `encode_rows`; `args`: those of the trainer."""
    # Every block has the same rows; the sampler adds the offset of the epoch's block.
    n_rows = len(rows) // (order.n_blocks + order.n_short)
    short_lengths = None
    if order.n_short:
        start = n_rows * order.n_blocks
        short_lengths = row_lengths(rows.select(range(start, start + n_rows)))
    rows = rows.select(range(n_rows))
    sort_within = rows_to_sort(
        args.per_device_train_batch_size, args.gradient_accumulation_steps, args.world_size
    )
    return TwinSampler(
        list(rows["unit"] if order.twins_adjacent else rows["id"]),
        row_lengths(rows),
        list(rows["answerable"]),
        args.seed,
        dataclasses.replace(order, sort_within=sort_within),
        short_lengths,
    )
