"""Rows of token ids as batches: which run together, and how they are padded.

This module knows lengths alone, neither models nor what the tokens mean.
"""

import torch

from generation.transfers import on_device
from models.footprint import MAX_BATCH_TOKENS
from utils.batched import batched


def plan_batches(
    lengths: list[int], batch_size: int, max_tokens: int = MAX_BATCH_TOKENS, n_rows: list[int] | None = None
) -> list[list[int]]:
    """Indices in batches of at most `batch_size` rows and `max_tokens` tokens, padding included.

    A batch has one index at least. Longest first: a batch pads little, and memory peaks at once. `n_rows[i]`
    is the number of rows of index i (default: 1).
    """
    batches: list[list[int]] = []
    n_filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        n_new = n_rows[i] if n_rows else 1
        # The first index of a batch is its longest, so every row of the batch is padded to that length.
        is_full = not batches or n_filled + n_new > batch_size
        if is_full or (n_filled + n_new) * lengths[batches[-1][0]] > max_tokens:
            batches.append([])
            n_filled = 0
        batches[-1].append(i)
        n_filled += n_new
    return batches


def split_units(units: list[list[int]], size: int) -> list[list[int]]:
    """The same indices in units of at most `size`; indices of different units stay apart."""
    parts: list[list[int]] = []
    for unit in units:
        parts += batched(unit, size)
    return parts


def share_prompts(suffixes: list[list[int]], batch_size: int) -> list[list[int]]:
    """Units of at most `batch_size` indices with equal suffixes: one reading serves all rows of a unit."""
    same: dict[tuple[int, ...], list[int]] = {}
    for i, suffix in enumerate(suffixes):
        same.setdefault(tuple(suffix), []).append(i)
    return split_units(list(same.values()), batch_size)


def pad_left(rows: list[list[int]], pad_id: int, device) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (n_rows, width); the width is that of the longest row.

    Left padding: the last position of every row is the token to continue from.
    """
    width = max(map(len, rows))
    ids = on_device([[pad_id] * (width - len(row)) + row for row in rows], device)
    mask = on_device([[0] * (width - len(row)) + [1] * len(row) for row in rows], device)
    return ids, mask


def place_rows(rows: list[list[int]], places: list[int], n_rows: int, pad_id: int) -> list[list[int]]:
    """`n_rows` rows, those given at their places; the others read a token of padding."""
    placed = [[pad_id]] * n_rows
    for row, place in zip(rows, places):
        placed[place] = row
    return placed


def hide_last(mask: torch.Tensor, n_hidden: list[int]) -> torch.Tensor:
    """A mask (n_rows, width) without the last `n_hidden[i]` columns of row i."""
    if not any(n_hidden):
        return mask
    n_shown = mask.shape[1] - on_device(n_hidden, mask.device)
    columns = torch.arange(mask.shape[1], device=mask.device)
    return mask * (columns < n_shown[:, None])


def positions_behind(mask: torch.Tensor, n_columns: int) -> torch.Tensor:
    """Position ids of the last `n_columns` columns of a mask (n_rows, width), holes not counted."""
    # Padding in front of the first token would be at -1; it is masked, but must not be out of range.
    return (mask.cumsum(1) - 1).clamp(min=0)[:, -n_columns:]


def last_positions(ids: torch.Tensor, n_kept: int) -> torch.Tensor:
    """`logits_to_keep` for the last `n_kept` positions of `ids` (batch, seq_len).

    As indices, not as a number: the model then copies these hidden states, where a number gives it a strided
    view, for which the CPU's matmul copies the whole output matrix once per row (15% of a training step on
    the reference machine).
    """
    return torch.arange(ids.shape[1] - n_kept, ids.shape[1], device=ids.device)
