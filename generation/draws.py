"""One draw from each of several discrete distributions, with one random number each.

A number u in [0, 1) chooses the token at which the sum of the weights so far passes u times the sum of all.
Sums are made in two levels: of blocks of the vocabulary, then within one block. On a CPU, sampling from
262,144 tokens by exponential noise for each of them, as `torch.multinomial` does, took longer than the model.
"""

import torch

_BLOCK = 512


def random_number(generator: torch.Generator, device: torch.device) -> torch.Tensor:
    """The next number of a row's stream: (1,), in [0, 1), float64."""
    return torch.rand(1, dtype=torch.float64, device=device, generator=generator)


def _place(weights: torch.Tensor, shares: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The place in each row at which the sum passes a share of all, and how far into it: 0..1.

    `weights` (n_rows, n), not negative; `shares` (n_rows,) in [0, 1). Places without weight are never chosen.
    """
    sums = weights.cumsum(-1, dtype=torch.float64)
    total = sums[:, -1:].contiguous()
    wanted = shares[:, None] * total
    # Rounding may lift the wanted sum to the total, behind which there are only places without weight.
    last = torch.searchsorted(sums, total)
    # Numbers that are none sort behind all others; whoever draws checks for them.
    last = last.clamp(max=weights.shape[1] - 1)
    place = torch.minimum(torch.searchsorted(sums, wanted, right=True), last)
    of_place = weights.gather(1, place).double()
    before = sums.gather(1, place) - of_place
    inside = ((wanted - before) / of_place).clamp(0, 1)
    return place[:, 0], inside[:, 0]


def draw(weights: torch.Tensor, numbers: torch.Tensor) -> torch.Tensor:
    """The drawn place of each row, (n_rows,).

    `weights` (n_rows, n) need not add up to 1; `numbers` (n_rows,) are in [0, 1).
    """
    n_rows, n = weights.shape
    n_missing = -n % _BLOCK
    # Most vocabularies are whole blocks, and need no copy.
    padded = torch.nn.functional.pad(weights, (0, n_missing)) if n_missing else weights
    blocks = padded.reshape(n_rows, -1, _BLOCK)
    block, inside = _place(blocks.sum(-1), numbers)
    place, _ = _place(blocks[torch.arange(n_rows, device=weights.device), block], inside)
    # Only where the weights are no numbers it is behind them.
    return (block * _BLOCK + place).clamp(max=n - 1)
