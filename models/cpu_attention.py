"""Attention for CPUs: the query heads of a key head form one matrix; blocks of queries skip the future.

`sdpa` repeats the keys for every query head and, given a mask, also computes what the mask hides; in bfloat16
its CPU kernel is slow as well (benchmarks/generation.py and benchmarks/sft.py measure both). Rounding is
close to that of transformers' `eager`. This module knows shapes and masks; when it is used is decided in
models/hardware.py.
"""

import functools
import itertools
from typing import NamedTuple

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

from models.cpu_blocks import Block, add, causal_blocks, take
from models.shape import GROUPED_ON_CPU

GROUPED = "grouped"


def _weigh(query, keys, mask, scaling, softcap=None) -> tuple[torch.Tensor, torch.Tensor]:
    """The queries of a block, stacked and scaled, and their softmax weights.

    (n_batch, n_stacked, dim) and (n_batch, n_stacked, n_seen), where n_batch is n_rows * n_key_heads, and
    n_stacked is n_shared * n_block. query (n_rows, n_key_heads, n_shared, n_block, dim), keys (n_batch, dim,
    n_seen), mask (n_rows or 1, 1, n_block, n_seen).
    """
    stacked = (query * scaling).flatten(2, 3).flatten(0, 1)
    scores = torch.bmm(stacked, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    # Converted per block: converted as a whole, it would be kept for the backward pass of every layer.
    if mask.dtype != scores.dtype:
        mask = mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    scores.view(*query.shape[:4], -1).add_(mask[:, :, None])
    return stacked, scores.softmax(-1)


class Scores(NamedTuple):
    """How scores are made: their factor, the bound of Gemma-2, and the blocks of queries (None: causal)."""

    scaling: float
    softcap: float | None = None
    blocks: list[Block] | None = None


def _mix(query, key, value, mask, how: Scores):
    """softmax(query key^T * scaling + mask) value, block after block; shapes as in `grouped_attention`."""
    n_rows, n_heads, n_queries, _ = query.shape
    _, n_key_heads, n_keys, _ = key.shape
    query = query.unflatten(1, (n_key_heads, -1))
    keys = key.flatten(0, 1).transpose(1, 2)
    values = value.flatten(0, 1)
    output = query.new_empty(n_rows, n_queries, n_heads, value.shape[3])
    for start, end, seen in how.blocks or causal_blocks(n_queries, n_keys):
        block = query[:, :, :, start:end]
        block_mask = take(mask[:, :, start:end], seen, 3)
        _, weights = _weigh(block, take(keys, seen, 2), block_mask, how.scaling, how.softcap)
        mixed = torch.bmm(weights, take(values, seen, 1))  # (n_batch, n_stacked, dim)
        output[:, start:end] = mixed.view(n_rows, n_heads, end - start, -1).transpose(1, 2)
    return output


class _TrainedAttention(torch.autograd.Function):
    """`_mix` with a backward pass that recomputes each block's weights and keeps none (Dao et al., 2022).

    `eager` repeats keys and values, and writes out scores, scaled scores, masked scores and their float32
    softmax in turn.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, how):
        ctx.save_for_backward(query, key, value, mask)
        ctx.how = how
        # Autocast would compute the softmax in float32 and write it out as such.
        with torch.autocast("cpu", enabled=False):
            return _mix(query, key, value, mask, how)

    @staticmethod
    def backward(ctx, grad):
        query, key, value, mask = ctx.saved_tensors
        stacks = query.unflatten(1, (key.shape[1], -1))
        keys = key.flatten(0, 1)
        values = value.flatten(0, 1)
        # All blocks of queries add to the gradients of keys and values; bfloat16 sums would lose small terms.
        grad_stacks = torch.empty_like(stacks)
        grad_keys = torch.zeros(keys.shape)
        grad_values = torch.zeros(values.shape)
        with torch.autocast("cpu", enabled=False):
            for start, end, seen in ctx.how.blocks or causal_blocks(query.shape[2], key.shape[2]):
                block = stacks[:, :, :, start:end]
                seen_keys = take(keys, seen, 1)
                seen_values = take(values, seen, 1)
                block_mask = take(mask[:, :, start:end], seen, 3)
                scaled, weights = _weigh(block, seen_keys.transpose(1, 2), block_mask, ctx.how.scaling)
                grad_block = grad[:, start:end].transpose(1, 2)
                grad_block = grad_block.reshape(*scaled.shape[:2], -1)  # (n_batch, n_stacked, dim)
                grad_weights = torch.bmm(grad_block, seen_values.transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                grad_stacks[:, :, :, start:end] = torch.bmm(grad_scores, seen_keys).view(block.shape)
                add(grad_keys, seen, torch.bmm(grad_scores.transpose(1, 2), scaled))
                add(grad_values, seen, torch.bmm(weights.transpose(1, 2), grad_block))
        grad_query = grad_stacks.mul_(ctx.how.scaling).view(query.shape)
        grad_key = grad_keys.to(key.dtype).view(key.shape)
        grad_value = grad_values.to(value.dtype).view(value.shape)
        return grad_query, grad_key, grad_value, None, None


def _behind_prefix(query, key, value, mask, how, n_prefix):
    """Attention of a packed sequence (`pack_rows`): the prefix sees itself, a row sees prefix and itself."""
    n_rows, _, n_queries, _ = mask.shape
    future = torch.full((n_prefix, n_prefix), torch.finfo(mask.dtype).min, dtype=mask.dtype).triu(1)

    def of_prefix(x):
        return x[:, :, :n_prefix]  # (1, n_heads, n_prefix, dim)

    def of_rows(x):
        packed = x[0, :, n_prefix:].unflatten(1, (n_rows, n_queries))
        return packed.transpose(0, 1)  # (n_rows, n_heads, n_queries, dim)

    def behind(x):
        return torch.cat([of_prefix(x).expand(n_rows, -1, -1, -1), of_rows(x)], 2)

    mixed_rows = _TrainedAttention.apply(of_rows(query), behind(key), behind(value), mask, how)
    mixed_prefix = _TrainedAttention.apply(
        of_prefix(query), of_prefix(key), of_prefix(value), future[None, None], how
    )
    mixed_rows = mixed_rows.reshape(1, n_rows * n_queries, *mixed_rows.shape[2:])
    return torch.cat([mixed_prefix, mixed_rows], 1)


def _row_after_row(attend, states, mask, limits: list[int]) -> torch.Tensor:
    """`attend` for rows one behind another, each on its own: no score between two rows is computed.

    `states`: query, key and value of all rows; row i is at `limits[i]` to `limits[i + 1]`.
    """
    mixed = []
    for start, end in itertools.pairwise(limits):
        of_row, _ = attend(*(x[:, :, start:end] for x in states), mask[:, :, start:end, start:end])
        mixed.append(of_row)
    return torch.cat(mixed, 1)


def grouped_attention(module, query, key, value, attention_mask, scaling, **options):
    """softmax(query key^T * scaling + mask) value, with the signature of transformers' attention functions.

    query (batch, n_heads, n_queries, dim), key and value (batch, n_key_heads, n_keys, dim). `attention_mask`
    (batch or 1, 1, n_queries, n_keys) is added to the scores and causal: the last query sees all keys, the
    one before it all but the last. Options: `softcap` bounds the scores (Gemma-2); with `n_prefix` the one
    row is a prefix and packed rows, and the mask belongs to these rows (`pack_rows`); with `cu_seq_lens_q`
    it is rows one behind another, which begin and end there; with `blocks` (models/cpu_blocks.py)
    only their scores are computed. Returns (batch, n_queries, n_heads, dim) and no weights.
    """
    limits = options.pop("cu_seq_lens_q", None)
    if limits is not None:
        attend = functools.partial(grouped_attention, module, scaling=scaling, **options)
        return _row_after_row(attend, (query, key, value), attention_mask, limits.tolist()), None
    how = Scores(scaling, options.get("softcap"), options.get("blocks"))
    n_prefix = options.get("n_prefix", 0)
    if n_prefix or (how.softcap is None and torch.is_grad_enabled() and query.requires_grad):
        # Under autocast, float32 weights give values in bfloat16, but rotary embeddings in float32.
        query = query.to(value.dtype)
        key = key.to(value.dtype)
        if n_prefix:
            return _behind_prefix(query, key, value, attention_mask, how, n_prefix), None
        return _TrainedAttention.apply(query, key, value, attention_mask, how), None
    return _mix(query, key, value, attention_mask, how), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)


def use_grouped_attention(model):
    """The model with its `sdpa` or `eager` attention replaced by that of this module, where it fits.

    It fits models on a CPU, of a known architecture, causal, without dropout in the attention.
    """
    config = model.config
    # An embedding model may have the architecture of a causal one.
    is_causal = not getattr(config, "use_bidirectional_attention", False)
    is_known = config.model_type in GROUPED_ON_CPU and is_causal
    replaces = config._attn_implementation in ("sdpa", "eager") and is_known
    has_dropout = bool(getattr(config, "attention_dropout", 0.0))
    if model.device.type == "cpu" and replaces and not has_dropout:
        model.set_attn_implementation(GROUPED)
    return model


def takes_packed(model) -> bool:
    """True when `pack_rows` fits the model, the length of its window aside: this attention, no soft cap."""
    config = model.config.get_text_config()
    soft_capped = bool(getattr(config, "attn_logit_softcapping", None))
    return config._attn_implementation == GROUPED and not soft_capped


def pack_rows(prefix: list[int], input_ids: torch.Tensor, mask: torch.Tensor) -> dict:
    """Arguments of a forward pass that reads [prefix][row][row]... as one sequence, the prefix once.

    No sliding window may be narrower than prefix and row together: the mask hides only what is behind.
    `input_ids` and `mask` (n_rows, n_queries) are left-padded rows without the prefix. The hidden state of
    row i at its position k is at n_prefix + i * n_queries + k of the sequence.
    """
    n_rows, n_queries = input_ids.shape
    n_prefix = len(prefix)
    seen = torch.ones(n_queries, n_queries, dtype=torch.bool).tril() & mask.bool()[:, None]
    seen_prefix = seen.new_ones(n_rows, n_queries, n_prefix)
    seen = torch.cat([seen_prefix, seen], 2)  # (n_rows, n_queries, n_prefix + n_queries)
    added = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    # Each row continues the prefix, so its positions start there, wherever the row is in the sequence.
    positions = n_prefix + (mask.cumsum(1) - 1).clamp(min=0)
    return {
        "input_ids": torch.cat([torch.tensor(prefix), input_ids.flatten()])[None],
        "position_ids": torch.cat([torch.arange(n_prefix), positions.flatten()])[None],
        "attention_mask": added[:, None],
        "n_prefix": n_prefix,
        "use_cache": False,
    }
