"""FlashAttention 2 on a CPU: its functions as their documentation defines them, in plain float32 torch.

transformers' own code around them runs as it does on a GPU: it takes padding and holes out of the rows.
"""

import inspect
import math
import sys
import types

import torch
from transformers import modeling_flash_attention_utils as around


def attend(query, key, value, scale, window, softcap):
    """One row: causal attention, aligned at the last query and key. (n, heads, dim) each."""
    n_queries, n_heads, dim = query.shape
    n_keys = len(key)
    key, value = (x.repeat_interleave(n_heads // x.shape[1], dim=1) for x in (key, value))
    scores = torch.einsum("qhd,khd->hqk", query, key) * (scale or 1 / math.sqrt(dim))
    if softcap:
        scores = softcap * torch.tanh(scores / softcap)
    distance = torch.arange(n_queries)[:, None] + (n_keys - n_queries) - torch.arange(n_keys)
    hidden = distance < 0
    if window[0] >= 0:
        hidden |= distance > window[0]
    weights = scores.masked_fill(hidden, -math.inf).softmax(-1)
    return torch.einsum("hqk,khd->qhd", weights, value)


def options_of(causal=False, dropout_p=0.0, softmax_scale=None, window_size=(-1, -1), softcap=0.0):
    assert causal and dropout_p == 0
    return softmax_scale, window_size, softcap


def flash_attn_varlen_func(q, k, v, cu_seqlens_q, cu_seqlens_k, **options):
    del options["max_seqlen_q"], options["max_seqlen_k"]
    parts = []
    for i in range(len(cu_seqlens_q) - 1):
        of_queries = slice(cu_seqlens_q[i], cu_seqlens_q[i + 1])
        of_keys = slice(cu_seqlens_k[i], cu_seqlens_k[i + 1])
        parts.append(attend(q[of_queries], k[of_keys], v[of_keys], *options_of(**options)))
    return torch.cat(parts)


def flash_attn_func(q, k, v, **options):
    return torch.stack([attend(*row, *options_of(**options)) for row in zip(q, k, v)])


# transformers passes on what a function names, and drops the rest without a word.
NAMES = [*inspect.signature(options_of).parameters, "max_seqlen_q", "max_seqlen_k"]
SIGNATURE = inspect.Signature([inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY) for name in NAMES])
for function in (flash_attn_func, flash_attn_varlen_func):
    vars(function)["__signature__"] = SIGNATURE


def pretend_flash(monkeypatch) -> None:
    """Until the end of a test, transformers finds these functions as the package `flash_attn`."""
    functions = {
        "flash_attn_func": flash_attn_func,
        "flash_attn_varlen_func": flash_attn_varlen_func,
        "flash_attn_with_kvcache": None,
    }
    padding = types.SimpleNamespace(pad_input=around._pad_input, unpad_input=around._unpad_input)
    monkeypatch.setitem(sys.modules, "flash_attn", types.SimpleNamespace(**functions))
    monkeypatch.setitem(sys.modules, "flash_attn.bert_padding", padding)
    monkeypatch.setattr(around, "is_flash_attn_2_available", lambda **options: True)
    # What it has loaded by now stays loaded for the process, and a later test would get these.
    for name in vars(around):
        if name.startswith("_flash_") or name in ("_pad_fn", "_unpad_fn", "_process_flash_kwargs_fn"):
            monkeypatch.setattr(around, name, getattr(around, name))
    monkeypatch.setattr(around, "_loaded_implementation", None)


def use_flash(model):
    """The model with FlashAttention 2, which its class would refuse to load on a CPU."""
    model.config.get_text_config()._attn_implementation = "flash_attention_2"
    return model
