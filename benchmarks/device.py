"""What every benchmark asks of its device: to finish its work before a clock is read, and to start clean.

A GPU computes while Python runs ahead of it, so a time that was read without waiting measures nothing.
"""

import contextlib
import time
from pathlib import Path

import torch

from models.hardware import has_cuda
from models.memory import release_memory

# Writing 5 to it resets the peak of the process (Linux).
_CLEAR_REFS = Path("/proc/self/clear_refs")


def clock() -> float:
    """Seconds on a clock, after the device has finished what it was given."""
    if has_cuda():
        torch.cuda.synchronize()
    return time.perf_counter()


def forget_peak() -> None:
    """Free what deleted models occupied, and start the peak of `peak_memory_gb` at what is in use now."""
    release_memory()
    if has_cuda():
        torch.cuda.reset_peak_memory_stats()
        return
    # A container may forbid it: the peak is then that of everything before, too.
    with contextlib.suppress(OSError):
        _CLEAR_REFS.write_text("5")


def device_name() -> str:
    """The card, or the number of threads."""
    return torch.cuda.get_device_name() if has_cuda() else f"{torch.get_num_threads()} threads"
