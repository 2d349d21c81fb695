"""The memory of the device: what is free, and how it is given back. It does not know what fills it."""

import gc

import torch

from models.hardware import device, has_cuda


def free_memory() -> int | None:
    """Bytes that this process can still take on its GPU; None on a CPU."""
    if not has_cuda():
        return None
    n_free, _ = torch.cuda.mem_get_info(device())
    # What the allocator keeps of freed tensors serves new ones.
    return n_free + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()


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
