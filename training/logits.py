"""Logits of completions behind a common prefix, computed in four ways that agree up to rounding.

Each function takes rows, `ids` and `mask` (n_rows, n_columns), that are left-padded and come without their
common prefix. It returns the logits at the last `n_labels` positions of every row: (n_rows, n_labels, vocab)
or, with `wanted` (n_rows, n_labels), of the positions that it marks, row after row: (n_wanted, vocab).
Logits of other positions are never computed, which made a training step 1.45 times faster. The functions know
nothing about losses.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from generation.batches import last_positions, positions_behind
from generation.cache import attention_window, expand_cache, prefix_cache, takes_holes
from models.cpu_attention import GROUPED, pack_rows, takes_packed
from models.cpu_blocks import tree_blocks


def logits_after_prefix(model, share_prefix: bool, pack: bool = False) -> Callable:
    """The fastest function below that fits the model.

    `share_prefix`: run the prefix once per batch; `pack`: run no padding, where each row has its own prefix.
    """
    each_with_prefix = row_after_row_logits if pack else whole_row_logits
    # Layers that keep a state in place of keys and values cannot be given to several rows.
    if not share_prefix or not takes_holes(model):
        return each_with_prefix
    # Packed, each layer runs once per batch; with a cache it runs twice, for the prefix and for the rows.
    shared = packed_logits if takes_packed(model) else cached_prefix_logits
    return _WithinWindow(shared, each_with_prefix)


@dataclass(frozen=True)
class _WithinWindow:
    """`shared` for batches that a sliding window hides nothing of, `each_with_prefix` for longer rows."""

    shared: Callable
    each_with_prefix: Callable

    def __call__(
        self,
        model,
        prefix: list[int],
        ids: torch.Tensor,
        mask: torch.Tensor,
        n_labels: int,
        wanted: torch.Tensor | None = None,
    ) -> torch.Tensor:
        fits = len(prefix) + ids.shape[1] <= attention_window(model)
        logits_of = self.shared if fits else self.each_with_prefix
        return logits_of(model, prefix, ids, mask, n_labels, wanted)


def is_packed(logits_of: Callable) -> bool:
    """True for a function of `logits_after_prefix` that reads all rows of a batch as one sequence."""
    return getattr(logits_of, "shared", None) is packed_logits


def kept_logits(model, kept: torch.Tensor, wanted: torch.Tensor | None, **inputs) -> torch.Tensor:
    """Logits of a pass over one sequence at its positions `kept` (n_rows, n_labels), or the wanted of these.

    (n_rows, n_labels, vocab) or (n_wanted, vocab); `inputs` are those of the model.
    """
    if wanted is not None:
        return model(**inputs, logits_to_keep=kept[wanted]).logits[0]
    return model(**inputs, logits_to_keep=kept.flatten()).logits.view(*kept.shape, -1)


def tree_logits(
    model, kept: torch.Tensor, wanted: torch.Tensor | None, owners: list[tuple[int, int]], **inputs
) -> torch.Tensor:
    """`kept_logits` of a sequence that is a tree of parts: its `owners` are those of `tree_blocks`."""
    return kept_logits(model, kept, wanted, blocks=tree_blocks(owners), **inputs)


def packed_logits(
    model,
    prefix: list[int],
    ids: torch.Tensor,
    mask: torch.Tensor,
    n_labels: int,
    wanted: torch.Tensor | None = None,
):
    """One pass over [prefix][row][row]... as one sequence: the prefix runs once. Needs our CPU attention."""
    n_rows, n_columns = ids.shape
    first_columns = len(prefix) + n_columns * torch.arange(n_rows)[:, None]  # (n_rows, 1)
    kept = first_columns + torch.arange(n_columns - n_labels, n_columns)  # (n_rows, n_labels)
    # Row i starts behind the prefix and i padded rows of the same width.
    return kept_logits(model, kept, wanted, **pack_rows(prefix, ids, mask))


def cached_prefix_logits(
    model,
    prefix: list[int],
    ids: torch.Tensor,
    mask: torch.Tensor,
    n_labels: int,
    wanted: torch.Tensor | None = None,
):
    """The prefix runs once, with gradient, and its keys and values serve every row of the batch."""
    n_rows, n_columns = ids.shape
    # The prefix comes before the padding, as the sequence [prefix][pad][row]: one cache then fits every row.
    mask = torch.cat([mask.new_ones(n_rows, len(prefix)), mask], dim=1)  # (n_rows, n_prefix + n_columns)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_behind(mask, n_columns),
        past_key_values=expand_cache(model, prefix_cache(model, prefix), n_rows),
        use_cache=True,
        logits_to_keep=last_positions(ids, n_labels),
    ).logits
    return logits if wanted is None else logits[wanted]


def whole_row_logits(
    model,
    prefix: list[int],
    ids: torch.Tensor,
    mask: torch.Tensor,
    n_labels: int,
    wanted: torch.Tensor | None = None,
):
    """Every row runs with its own copy of the prefix, in one forward pass and without a cache."""
    n_rows = len(ids)
    start = torch.tensor([prefix], device=ids.device).expand(n_rows, -1)
    ids = torch.cat([start, ids], dim=1)  # (n_rows, n_prefix + n_columns)
    # The padding stays between prefix and row, so that the functions above see the same sequence.
    mask = torch.cat([mask.new_ones(n_rows, len(prefix)), mask], dim=1)
    if mask.shape[1] > attention_window(model):
        # A sliding window counts padding as positions: in front of the row it hides nothing.
        order = mask.argsort(dim=1, stable=True)
        ids = ids.gather(1, order)
        mask = mask.gather(1, order)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_behind(mask, mask.shape[1]),
        use_cache=False,
        logits_to_keep=last_positions(ids, n_labels),
    ).logits
    return logits if wanted is None else logits[wanted]


def row_after_row_logits(
    model,
    prefix: list[int],
    ids: torch.Tensor,
    mask: torch.Tensor,
    n_labels: int,
    wanted: torch.Tensor | None = None,
):
    """Whole rows, one behind another in one sequence without padding; positions restart with each row.

    transformers reads the rows' limits from these positions, and shows a row its own tokens alone.
    """
    n_rows = len(ids)
    start = torch.tensor([prefix], dtype=ids.dtype, device=ids.device).expand(n_rows, -1)
    ids = torch.cat([start, ids], dim=1)  # (n_rows, n_prefix + n_columns)
    mask = torch.cat([mask.new_ones(n_rows, len(prefix)), mask], dim=1)
    is_token = mask.bool()
    ends = mask.sum(1).cumsum(0)  # (n_rows,), in the sequence
    # A row shorter than `n_labels` would begin before the sequence; it has no labels there.
    kept = ends[:, None] - n_labels + torch.arange(n_labels, device=ids.device)  # (n_rows, n_labels)
    return kept_logits(
        model,
        kept.clamp(min=0),
        wanted,
        input_ids=ids[is_token][None],
        position_ids=positions_behind(mask, mask.shape[1])[is_token][None],
        use_cache=False,
        **_limits(model, ends),
    )


def _limits(model, ends: torch.Tensor) -> dict:
    """Where rows begin and end, for attention that takes it instead of reading it from the positions."""
    # DDP hides the model's attributes.
    attention = getattr(model, "module", model).config._attn_implementation
    # FlashAttention would read them from the positions in every layer, each time waiting for the GPU.
    if attention != GROUPED and "flash" not in attention:
        return {}
    limits = torch.nn.functional.pad(ends, (1, 0)).to(torch.int32)
    longest = int(limits.diff().max())
    return {
        "cu_seq_lens_q": limits,
        "cu_seq_lens_k": limits,
        "max_length_q": longest,
        "max_length_k": longest,
    }


@torch.no_grad()
def keeps_rows_apart(model, ids: torch.Tensor, tolerance: float) -> bool:
    """Whether the model reads a packed row as it reads the row alone; `ids` (n,) are tokens to try it with.

    `tolerance`: how far logits may differ, as part of the largest. Recurrent models, for example, read on
    from one row into the next.
    """
    first, second = ids.chunk(2)
    n = len(second)
    was_training = model.training
    model.eval()
    rows = torch.stack([first[:n], second])
    mask = torch.ones_like(rows)
    prefix = ids[:1].tolist()
    packed = row_after_row_logits(model, prefix, rows, mask, n)
    alone = whole_row_logits(model, prefix, rows[1:], mask[1:], n)
    model.train(was_training)
    return bool((packed[1] - alone[0]).abs().max() <= tolerance * alone.abs().max())
