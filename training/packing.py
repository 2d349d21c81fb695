"""The rows of an optimizer step in few passes of up to a number of tokens; each row is read as if alone.

A pass over one short row leaves a GPU idle, and with quantized weights every pass decodes all of them again.
The sum of the rows' losses, and with it the gradient, is the same however they share passes. This module
knows lengths and columns, neither models nor losses.
"""

import torch

from generation.batches import plan_batches

# What a row has in the columns before it, in each part of a batch with such columns.
_PADDING = {"input_ids": 0, "attention_mask": 0, "labels": -100}


def plan_passes(lengths: list[int], max_tokens: int) -> list[list[int]]:
    """Row indices in passes of at most `max_tokens` tokens without padding; a longer row has its own pass.

    First fit, longest first, which needs at most 11/9 of the fewest possible passes (Johnson, 1973).
    """
    passes: list[list[int]] = []
    n_filled: list[int] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        fitting = (k for k, n in enumerate(n_filled) if n + lengths[i] <= max_tokens)
        k = next(fitting, len(passes))
        if k == len(passes):
            passes.append([])
            n_filled.append(0)
        passes[k].append(i)
        n_filled[k] += lengths[i]
    return passes


def plan_shared_passes(lengths: list[int], max_tokens: int, n_prefix: int) -> list[list[int]]:
    """As `plan_passes`, for rows behind one prefix, padded to the longest row of their pass."""
    return plan_batches(lengths, len(lengths), max_tokens - n_prefix)


def at_least(passes: list[list[int]], n_wanted: int) -> list[list[int]]:
    """The passes, the largest ones halved until there are `n_wanted`, or one for each row."""
    passes = list(passes)
    while len(passes) < n_wanted:
        largest = max(passes, key=len)
        if len(largest) == 1:
            break
        passes.remove(largest)
        passes += [largest[0::2], largest[1::2]]
    return passes


def join(batches: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """The rows of left-padded batches as one batch, padded to the longest row of all."""
    joined = {}
    for key in batches[0]:
        tensors = [batch[key] for batch in batches]
        if key in _PADDING:
            width = max(tensor.shape[1] for tensor in tensors)
            tensors = [_pad(tensor, width, _PADDING[key]) for tensor in tensors]
        joined[key] = torch.cat(tensors)
    return joined


def _pad(tensor: torch.Tensor, width: int, value: int) -> torch.Tensor:
    return torch.nn.functional.pad(tensor, (width - tensor.shape[1], 0), value=value)


def take(batch: dict[str, torch.Tensor], rows: list[int]) -> dict[str, torch.Tensor]:
    """These rows of a batch, without the columns that are padding in each of them."""
    taken = {key: tensor[rows] for key, tensor in batch.items()}
    n_columns = int(taken["attention_mask"].sum(1).max())
    # One column before the first label stays, as in the collator: its position predicts this label.
    has_label = (taken["labels"] != -100).any(0)  # (n_labels,)
    n_labels = len(has_label) - int(has_label.int().argmax()) + 1
    for key, n_kept in (("input_ids", n_columns), ("attention_mask", n_columns), ("labels", n_labels)):
        taken[key] = taken[key][:, -n_kept:]
    return taken
