"""The order in which training rows reach the model."""

import torch


class TwinSampler(torch.utils.data.Sampler):
    """Random order in which a question's answerable and unanswerable rows stay neighbours, so that a batch holds the contrast."""

    def __init__(self, units: list[str], seed: int):
        self.units, self.seed, self.epoch = units, seed, 0
        self.members: dict[str, list[int]] = {}
        for i, unit in enumerate(units):
            self.members.setdefault(unit, []).append(i)

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self.units)

    def __iter__(self):
        generator = torch.Generator().manual_seed(self.seed + self.epoch)
        names = list(self.members)
        for i in torch.randperm(len(names), generator=generator).tolist():
            yield from self.members[names[i]]
