"""Numbers on their way between main memory and the device of a model.

A GPU works through its queue while Python prepares the next pass, unless Python asks for a result: then it
waits for the whole queue. `fetch` is the one question that a pass asks. This module does not know what the
numbers mean.
"""

from collections.abc import Sequence

import torch

from models.float16 import OTHER_PRECISIONS
from utils.errors import NotNumbers, StageError


def is_remote(device: torch.device) -> bool:
    """True where Python can run ahead of the device."""
    return device.type != "cpu"


def on_device(numbers: Sequence, device) -> torch.Tensor:
    """Whole numbers, a list or a list of lists of equal lengths, as a tensor on the device."""
    tensor = torch.tensor(numbers, dtype=torch.long)
    if torch.device(device).type == "cuda":
        # From ordinary memory the copy would wait until the device has done all it was told before.
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


def fetch(tensors: Sequence[torch.Tensor]) -> list[list[float]]:
    """The numbers of 1-D tensors, all in one transfer; token ids survive the way through float64."""
    joined = torch.cat([tensor.double() for tensor in tensors]).tolist()
    lists = []
    start = 0
    for tensor in tensors:
        lists.append(joined[start : start + len(tensor)])
        start += len(tensor)
    return lists


def check_logps(logps: Sequence[float], dtype: torch.dtype) -> None:
    """StageError if one is not a number, as after an overflow in float16; `dtype` is that of the logits."""
    # NaN alone differs from itself.
    if all(logp == logp for logp in logps):
        return
    if dtype == torch.float16:
        raise StageError(
            "the model's logits are not numbers (NaN): a pass overflowed in float16, or the weights are "
            f"damaged; use {OTHER_PRECISIONS}"
        )
    raise NotNumbers(
        "the model's logits are not numbers (NaN): the weights are damaged, or the attention fails on this "
        "device; try --attn-impl eager"
    )


class LateLogps:
    """Log-probabilities that no pass waits for: they stay on the device until the batch is complete."""

    def __init__(self) -> None:
        self._values: list[torch.Tensor] = []
        # The list and the index in it that each value belongs to.
        self._slots: list[tuple[list, int]] = []
        self._dtype = torch.float32

    def add(self, values: torch.Tensor, slots: list[tuple[list, int]], dtype: torch.dtype) -> None:
        """Keep values (n_slots,) for these slots; `dtype` is that of the logits."""
        self._dtype = dtype
        self._values.append(values)
        self._slots += slots

    def fill(self) -> None:
        """Write every value into its slot. StageError if one is not a number."""
        if not self._slots:
            return
        [logps] = fetch([torch.cat(self._values)])
        check_logps(logps, self._dtype)
        for (numbers, place), logp in zip(self._slots, logps):
            numbers[place] = logp
