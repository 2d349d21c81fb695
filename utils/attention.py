"""Attention on a CPU: the query heads that share a key head as one matrix; for inference in blocks that skip the future.

`sdpa` repeats keys for every query head and, given a mask, also computes what the mask hides; in bfloat16 its CPU kernel is slow besides
(benchmarks/generation.py and benchmarks/sft.py have the figures). Rounding is close to that of transformers' `eager`.
"""

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

GROUPED = "grouped"
# Query positions of a block: large enough for fast matmuls, small enough that half of the future is skipped and scores stay in cache.
_BLOCK = 64
# Architectures whose attention takes no argument that this one lacks (attention sinks, say), and that the tests compare.
_KNOWN = ("llama", "qwen2", "gemma2")


class _TrainedAttention(torch.autograd.Function):
    """softmax(query key^T * scaling + mask) value, in one matrix product each way, forward and backward.

    `eager` repeats keys and values, and writes out scores, scaled scores, masked scores and their float32 softmax one after another.
    """

    @staticmethod
    def forward(ctx, query, key, value, mask, scaling):
        (n_rows, n_heads, n_queries, dim), (n_key_heads, n_keys) = query.shape, key.shape[1:3]
        n_batch, n_stacked = n_rows * n_key_heads, n_heads // n_key_heads * n_queries
        query = query.reshape(n_batch, n_stacked, dim)
        key, value = key.reshape(n_batch, n_keys, dim), value.reshape(n_batch, n_keys, -1)
        mask = mask.expand(n_rows, n_heads, -1, -1).reshape(n_batch, n_stacked, n_keys)
        with torch.autocast("cpu", enabled=False):  # which would compute the softmax in float32 and write it out as such
            weights = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=scaling).softmax(-1)  # (n_batch, n_stacked, n_keys)
            mixed = torch.bmm(weights, value)
        ctx.save_for_backward(query, key, value, weights)
        ctx.scaling, ctx.shape, ctx.n_keys = scaling, (n_rows, n_heads, n_queries, dim), (n_rows, n_key_heads, n_keys, -1)
        return mixed.view(n_rows, n_heads, n_queries, -1).transpose(1, 2).contiguous()

    @staticmethod
    def backward(ctx, grad):
        query, key, value, weights = ctx.saved_tensors
        grad = grad.transpose(1, 2).reshape(*weights.shape[:2], -1)
        with torch.autocast("cpu", enabled=False):
            grad_scores = torch._softmax_backward_data(torch.bmm(grad, value.transpose(1, 2)), weights, -1, weights.dtype)
            grad_query = torch.bmm(grad_scores, key).mul_(ctx.scaling).view(ctx.shape)
            grad_key = torch.bmm(grad_scores.transpose(1, 2), query).mul_(ctx.scaling).view(ctx.n_keys)
            grad_value = torch.bmm(weights.transpose(1, 2), grad).view(ctx.n_keys)
        return grad_query, grad_key, grad_value, None, None


def grouped_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, softcap=None, **kwargs):
    """softmax(query key^T * scaling + mask) value. query (batch, n_heads, n_queries, dim), key and value (batch, n_key_heads, n_keys, dim).

    `attention_mask` (batch or 1, 1, n_queries, n_keys) is added to the scores and causal: the last query sees all keys, the one before
    it no later key than its own. Returns (batch, n_queries, n_heads, dim) and no weights.
    """
    (n_rows, n_heads, n_queries, dim), (n_key_heads, n_keys) = query.shape, key.shape[1:3]
    n_shared = n_heads // n_key_heads
    if softcap is None and torch.is_grad_enabled() and query.requires_grad:
        # Weights in float32 under autocast give queries, keys and mask in float32 beside values in bfloat16.
        dtype = value.dtype
        mask = attention_mask.clamp(min=torch.finfo(dtype).min).to(dtype)
        return _TrainedAttention.apply(query.to(dtype), key.to(dtype), value, mask, scaling), None
    query = query.unflatten(1, (n_key_heads, n_shared))
    keys, values = key.transpose(2, 3).flatten(0, 1), value.flatten(0, 1)
    output = query.new_empty(n_rows, n_queries, n_heads, value.shape[3])
    for start in range(0, n_queries, _BLOCK):
        end = min(start + _BLOCK, n_queries)
        n_seen, n_stacked = n_keys - n_queries + end, n_shared * (end - start)
        stacked = query[:, :, :, start:end].reshape(n_rows * n_key_heads, n_stacked, dim)
        mask = attention_mask[:, :, None, start:end, :n_seen].expand(n_rows, n_key_heads, n_shared, -1, -1).reshape(-1, n_stacked, n_seen)
        if softcap is None:
            scores = torch.baddbmm(mask, stacked, keys[:, :, :n_seen], alpha=scaling)  # (rows * key heads, stacked, seen)
        else:
            scores = torch.tanh(torch.bmm(stacked, keys[:, :, :n_seen]) * scaling / softcap) * softcap + mask
        mixed = torch.bmm(scores.softmax(-1), values[:, :n_seen])
        output[:, start:end] = mixed.view(n_rows, n_heads, end - start, -1).transpose(1, 2)
    return output, None


AttentionInterface.register(GROUPED, grouped_attention)
AttentionMaskInterface.register(GROUPED, eager_mask)


def use_grouped_attention(model):
    """Switch a model on a CPU from `sdpa` or `eager` to the attention of this module; elsewhere, and with dropout, nothing changes."""
    dropout = getattr(model.config, "attention_dropout", 0.0)
    if model.device.type == "cpu" and model.config.model_type in _KNOWN and model.config._attn_implementation in ("sdpa", "eager") and not dropout:
        model.set_attn_implementation(GROUPED)
    return model
