"""The order in which training rows reach the model.

It knows which rows belong together and how long they are, not what they say.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

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
    with its own order of chunks), epoch e draws from block e. Rows of similar length come together, so that a
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
    ):
        self.units = units
        self.lengths = lengths
        self.answerable = answerable
        self.seed = seed
        self.order = order
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

        offset = self.epoch % self.order.n_blocks * len(self.units)
        rows: Iterator[int]
        if self.order.sort_within is None:
            rows = itertools.chain(self._in_runs(first), self._in_runs(rest))
        else:
            rows = self._within(self.order.sort_within, [*first, *rest])
        for i in rows:
            yield offset + i

    def _longest(self, rows: list[int]) -> int:
        return max(self.lengths[i] for i in rows)

    def _in_runs(self, order: list[list[int]]) -> Iterator[int]:
        for start in range(0, len(order), _N_SORTED):
            run = sorted(order[start : start + _N_SORTED], key=self._longest)
            # Up and down in turns: where two runs meet, a batch has rows of similar length.
            if start // _N_SORTED % 2:
                run.reverse()
            for rows in run:
                yield from rows

    def _within(self, n_rows: int, order: list[list[int]]) -> Iterator[int]:
        """The rows in the order of their units, each `n_rows` of them sorted by the lengths of these."""
        keyed = []
        for rows in order:
            keyed += [(self._longest(rows), i) for i in rows]
        for start in range(0, len(keyed), n_rows):
            # By the length alone: the sort is stable, so twins stay beside each other.
            for _, i in sorted(keyed[start : start + n_rows], key=lambda pair: pair[0]):
                yield i
