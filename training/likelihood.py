"""The likelihood of completions under a model, as every objective on completions needs it."""

from collections.abc import Callable

import torch
from torch import nn

from models.hardware import token_losses


def completion_nll(model, logits_of: Callable, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(-log p of each row's labels, summed over its tokens; number of these), both (n_rows,).

        -log p(y | x) = sum_t -log p(y_t | x, y_<t)

    Each token is predicted from the position before it; labels (n_rows, n_labels) of -100 are ignored.
    `logits_of(wanted)` gives the logits of the positions that `wanted` (n_rows, n_labels) marks.
    """
    # Position k predicts label k + 1; the last position predicts nothing.
    targets = nn.functional.pad(labels[:, 1:], (0, 1), value=-100)  # (n_rows, n_labels)
    wanted = targets != -100
    nll = token_losses(model, lambda: logits_of(wanted), targets[wanted])  # (n_targets,)
    row = wanted.nonzero()[:, 0]  # (n_targets,), the row of each target
    return nll.new_zeros(len(labels)).index_add(0, row, nll), wanted.sum(1)
