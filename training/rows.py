"""The order in which training rows reach the model."""

import random
from collections import Counter
from collections.abc import Callable

import torch

from utils.schema import shuffle_chunks

# Questions that are sorted by length together: enough to fill batches evenly, few enough to keep the order random.
_N_SORTED = 64


class TwinSampler(torch.utils.data.Sampler):
    """Random order in which a question's answerable and unanswerable rows stay neighbours, so that a batch holds the contrast.

    `n_first` answerable rows without a twin open the epoch: a small model learns to refuse only once it can find an answer.
    Where the data set holds `n_rows` rows once per epoch (`n_blocks` of them, each in its own order of chunks), epoch e draws
    from block e. Within each run of 64 questions the shorter ones come first (in every second run, last), so that a batch pads little.
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

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        members = list(self.members.values())
        order = [members[i] for i in torch.randperm(len(members), generator=generator).tolist()]
        offset = self.epoch % self.n_blocks * len(self.units)
        first = [rows for rows in order if len(rows) == 1 and self.answerable[rows[0]]][: self.n_first]
        opening = {rows[0] for rows in first}
        for run in (first, [rows for rows in order if rows[0] not in opening]):
            yield from (offset + i for i in self._in_runs(run))

    def _in_runs(self, order: list[list[int]]):
        for start in range(0, len(order), _N_SORTED):
            run = sorted(
                order[start : start + _N_SORTED], key=lambda rows: max(self.lengths[i] for i in rows)
            )
            for rows in reversed(run) if start // _N_SORTED % 2 else run:
                yield from rows


def encode_epochs(
    samples: list[dict], n_epochs: int, seed: int, encode: Callable
) -> tuple[list[dict], Counter]:
    """The rows of every epoch, block after block: from the second on with the chunks of each sample in a new order.

    A sample dropped in one order (its support cut) is dropped in all, so that the blocks stay alike; it is counted once.
    """
    rng, (rows, drops) = random.Random(seed), encode(samples)
    epochs = [rows] + [
        encode([shuffle_chunks(sample, rng) for sample in samples])[0] for _ in range(n_epochs - 1)
    ]
    blocks = [{row["id"]: row for row in rows} for rows in epochs]
    kept = [sample_id for sample_id in blocks[0] if all(sample_id in block for block in blocks)]
    if n_later := len(blocks[0]) - len(kept):
        drops["dropped in the order of a later epoch"] += n_later
    return [block[sample_id] for block in blocks for sample_id in kept], drops
