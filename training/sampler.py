"""The order in which training rows reach the model.

It knows which rows belong together and how long they are, not what they say.
"""

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


class TwinSampler(torch.utils.data.Sampler):
    """A random order that keeps the rows of a unit (a question and its twin) adjacent: a batch contains both.

    `n_first` answerable rows without a twin open the epoch: a small model learns to refuse only once it can
    find an answer. Where the data set has its rows `n_blocks` times (each with its own order of chunks),
    epoch e draws from block e. Within each run of 64 questions the shorter ones come first (in every second
    run, last), so that a batch pads little.
    """

    def __init__(
        self,
        units: list[str],
        lengths: list[int],
        answerable: list[bool],
        n_first: int,
        seed: int,
        n_blocks: int = 1,
    ):
        self.units = units
        self.lengths = lengths
        self.answerable = answerable
        self.n_first = n_first
        self.seed = seed
        self.n_blocks = n_blocks
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

        offset = self.epoch % self.n_blocks * len(self.units)
        for i in [*self._in_runs(first), *self._in_runs(rest)]:
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
