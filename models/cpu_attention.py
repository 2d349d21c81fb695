"""Attention on a CPU: the query heads that share a key head as one matrix, in blocks of queries that skip the future.

`sdpa` repeats keys for every query head and, given a mask, also computes what the mask hides; in bfloat16 its CPU kernel is slow besides
(benchmarks/generation.py and benchmarks/sft.py have the figures). Rounding is close to that of transformers' `eager`.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface, DynamicCache
from transformers.cache_utils import DynamicLayer
from transformers.masking_utils import eager_mask

GROUPED = "grouped"
# Query positions of a block: large enough for fast matmuls, small enough that half of the future is skipped and scores stay in cache.
_BLOCK = 64
# Architectures whose attention takes no argument that this one lacks (attention sinks, say), and that the tests compare.
_KNOWN = ("llama", "qwen2", "gemma2")


def _weigh(query, keys, mask, scaling, softcap=None):
    """Queries of a block, stacked and scaled (n_batch, n_stacked, dim), and their softmax weights (n_batch, n_stacked, n_seen).

    query (n_rows, n_key_heads, n_shared, n_block, dim), keys (n_batch = n_rows * n_key_heads, dim, n_seen), mask (n_rows or 1, 1, n_block, n_seen).
    """
    stacked = (query * scaling).flatten(2, 3).flatten(0, 1)
    scores = torch.bmm(stacked, keys)
    if softcap is not None:
        scores = torch.tanh(scores / softcap) * softcap
    # A block at a time, as a converted mask would be kept for the backward pass of every layer.
    if mask.dtype != scores.dtype:
        mask = mask.clamp(min=torch.finfo(scores.dtype).min).to(scores.dtype)
    scores.view(*query.shape[:4], -1).add_(mask[:, :, None])
    return stacked, scores.softmax(-1)


def _blocks(n_queries: int, n_keys: int):
    """(first, last + 1, number of keys that its last query sees) of each block of queries."""
    for start in range(0, n_queries, _BLOCK):
        end = min(start + _BLOCK, n_queries)
        yield start, end, n_keys - n_queries + end


def _mix(query, key, value, mask, scaling, softcap=None):
    """softmax(query key^T * scaling + mask) value, block after block of queries; shapes of `grouped_attention`."""
    (n_rows, n_heads, n_queries, _), (n_key_heads, n_keys) = query.shape, key.shape[1:3]
    query = query.unflatten(1, (n_key_heads, -1))
    keys = key.flatten(0, 1).transpose(1, 2)
    values = value.flatten(0, 1)
    output = query.new_empty(n_rows, n_queries, n_heads, value.shape[3])
    for start, end, n_seen in _blocks(n_queries, n_keys):
        _, weights = _weigh(
            query[:, :, :, start:end], keys[:, :, :n_seen], mask[:, :, start:end, :n_seen], scaling, softcap
        )
        mixed = torch.bmm(weights, values[:, :n_seen])  # (n_batch, n_stacked, dim)
        output[:, start:end] = mixed.view(n_rows, n_heads, end - start, -1).transpose(1, 2)
    return output


class _TrainedAttention(torch.autograd.Function):
    """`_mix` with a backward pass that computes the weights of a block anew (as in Dao et al., 2022), so that none is kept between the passes.

    `eager` repeats keys and values, and writes out scores, scaled scores, masked scores and their float32 softmax one after another.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, scaling):
        ctx.save_for_backward(query, key, value, mask)
        ctx.scaling = scaling
        with torch.autocast(
            "cpu", enabled=False
        ):  # which would compute the softmax in float32 and write it out as such
            return _mix(query, key, value, mask, scaling)

    @staticmethod
    def backward(ctx, grad):
        query, key, value, mask = ctx.saved_tensors
        stacks = query.unflatten(1, (key.shape[1], -1))
        keys = key.flatten(0, 1)
        values = value.flatten(0, 1)
        # sums in float32
        grad_stacks = torch.empty_like(stacks)
        grad_keys = torch.zeros(keys.shape)
        grad_values = torch.zeros(values.shape)
        with torch.autocast("cpu", enabled=False):
            for start, end, n_seen in _blocks(query.shape[2], key.shape[2]):
                block = stacks[:, :, :, start:end]
                seen = keys[:, :n_seen]
                seen_values = values[:, :n_seen]
                scaled, weights = _weigh(
                    block, seen.transpose(1, 2), mask[:, :, start:end, :n_seen], ctx.scaling
                )
                grad_block = (
                    grad[:, start:end].transpose(1, 2).reshape(*scaled.shape[:2], -1)
                )  # (n_batch, n_stacked, dim)
                grad_weights = torch.bmm(grad_block, seen_values.transpose(1, 2))
                grad_scores = torch._softmax_backward_data(grad_weights, weights, -1, weights.dtype)
                grad_stacks[:, :, :, start:end] = torch.bmm(grad_scores, seen).view(block.shape)
                grad_keys[:, :n_seen] += torch.bmm(grad_scores.transpose(1, 2), scaled)
                grad_values[:, :n_seen] += torch.bmm(weights.transpose(1, 2), grad_block)
        grad_query = grad_stacks.mul_(ctx.scaling).view(query.shape)
        return (
            grad_query,
            grad_keys.to(key.dtype).view(key.shape),
            grad_values.to(value.dtype).view(value.shape),
            None,
            None,
        )


def _behind_prefix(query, key, value, mask, scaling, n_prefix):
    """Attention of a packed sequence (see `pack_rows`): a prefix that sees itself, and rows that see the prefix and themselves."""
    n_rows, _, n_queries, _ = mask.shape
    future = torch.full((n_prefix, n_prefix), torch.finfo(mask.dtype).min, dtype=mask.dtype).triu(1)
    prefix = [x[:, :, :n_prefix] for x in (query, key, value)]  # (1, n_heads, n_prefix, dim)
    rows = [
        x[0, :, n_prefix:].unflatten(1, (n_rows, n_queries)).transpose(0, 1) for x in (query, key, value)
    ]  # (n_rows, n_heads, n_queries, dim)
    keys, values = (
        torch.cat([first.expand(n_rows, -1, -1, -1), rest], 2) for first, rest in zip(prefix[1:], rows[1:])
    )
    mixed = _TrainedAttention.apply(rows[0], keys, values, mask, scaling)
    return torch.cat(
        [
            _TrainedAttention.apply(*prefix, future[None, None], scaling),
            mixed.reshape(1, n_rows * n_queries, *mixed.shape[2:]),
        ],
        1,
    )


def grouped_attention(
    module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, n_prefix=0, **kwargs
):
    """softmax(query key^T * scaling + mask) value. query (batch, n_heads, n_queries, dim), key and value (batch, n_key_heads, n_keys, dim).

    `attention_mask` (batch or 1, 1, n_queries, n_keys) is added to the scores and causal: the last query sees all keys, the one before
    it no later key than its own. With `n_prefix` the one row is a prefix and packed rows, and the mask is theirs (`pack_rows`).
    Returns (batch, n_queries, n_heads, dim) and no weights.
    """
    if n_prefix or (softcap is None and torch.is_grad_enabled() and query.requires_grad):
        # Weights in float32 under autocast give queries and keys in float32 beside values in bfloat16.
        query = query.to(value.dtype)
        key = key.to(value.dtype)
        if n_prefix:
            return _behind_prefix(query, key, value, attention_mask, scaling, n_prefix), None
        return _TrainedAttention.apply(query, key, value, attention_mask, scaling), None
    return _mix(query, key, value, attention_mask, scaling, softcap), None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)


def use_grouped_attention(model):
    """Switch a model on a CPU from `sdpa` or `eager` to the attention of this module; elsewhere, and with dropout, nothing changes."""
    dropout = getattr(model.config, "attention_dropout", 0.0)
    if (
        model.device.type == "cpu"
        and model.config.model_type in _KNOWN
        and model.config._attn_implementation in ("sdpa", "eager")
        and not dropout
    ):
        model.set_attn_implementation(GROUPED)
    return model


def takes_packed(model) -> bool:
    """True when `pack_rows` fits the model: this module's attention in every layer, no soft-capping, no sliding window."""
    config = model.config.get_text_config()
    plain = all(type(layer) is DynamicLayer for layer in DynamicCache(config=config).layers)
    return (
        config._attn_implementation == GROUPED
        and plain
        and not getattr(config, "attn_logit_softcapping", None)
    )


def pack_rows(prefix: list[int], input_ids: torch.Tensor, mask: torch.Tensor) -> dict:
    """Arguments of a forward pass that reads [prefix][row][row]... as one sequence, so that each layer runs once and the prefix once.

    `input_ids` and `mask` (n_rows, n_queries) are left-padded rows without the prefix. Hidden state of row i at its position k comes
    at n_prefix + i * n_queries + k of the one row.
    """
    (n_rows, n_queries), n_prefix = input_ids.shape, len(prefix)
    seen = torch.ones(n_queries, n_queries, dtype=torch.bool).tril() & mask.bool()[:, None]
    seen = torch.cat(
        [seen.new_ones(n_rows, n_queries, n_prefix), seen], 2
    )  # (n_rows, n_queries, n_prefix + n_queries)
    positions = n_prefix + (mask.cumsum(1) - 1).clamp(min=0)
    return {
        "input_ids": torch.cat([torch.tensor(prefix), input_ids.flatten()])[None],
        "position_ids": torch.cat([torch.arange(n_prefix), positions.flatten()])[None],
        "attention_mask": torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)[
            :, None
        ],
        "n_prefix": n_prefix,
        "use_cache": False,
    }
