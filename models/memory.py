"""The memory of the device: what is free, how many tokens fit into it, and how it is given back."""

import gc

import torch

from models.footprint import MAX_BATCH_TOKENS, Passes, row_bytes
from models.hardware import device, has_cuda
from models.shape import shape_of_config

# The rest is for what the arithmetic leaves out, and for holes between tensors.
_USED_SHARE = 0.8


def free_memory() -> int | None:
    """Bytes that this process can still take on its GPU; None on a CPU."""
    if not has_cuda():
        return None
    n_free, _ = torch.cuda.mem_get_info(device())
    # What the allocator keeps of freed tensors serves new ones.
    return n_free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


def batch_tokens(model, width: int, n_logits: int) -> int:
    """Tokens of a batch without gradients that fit into the free memory, of rows of at most `width` tokens.

    At least one row, and at most MAX_BATCH_TOKENS, also on a CPU. `n_logits`: positions of a row whose logits
    are read in one pass.
    """
    n_free = free_memory()
    if n_free is None:
        return MAX_BATCH_TOKENS
    config = model.config.get_text_config()
    shape = shape_of_config(config.to_dict())
    if shape is None:
        return MAX_BATCH_TOKENS
    half = model.dtype != torch.float32
    # The weights are loaded: how many bits they have does not matter here.
    passes = Passes(shape, 16, half, config._attn_implementation, on_gpu=True)
    n_rows = int(_USED_SHARE * n_free / row_bytes(passes, width, n_logits))
    return min(MAX_BATCH_TOKENS, max(n_rows, 1) * width)


def describe_memory() -> str:
    """The device of this process and, of a GPU, its free and whole memory, for an error."""
    if not has_cuda():
        return "this machine"
    _, n_all = torch.cuda.mem_get_info(device())
    return f"{torch.cuda.get_device_name()} ({(free_memory() or 0) / 1e9:.1f} of {n_all / 1e9:.1f} GB free)"


def release_memory() -> None:
    """Free what deleted models and failed passes occupied."""
    # Modules and hooks refer to each other, so a model waits for the garbage collector.
    gc.collect()
    if has_cuda():
        torch.cuda.empty_cache()
