"""The most memory that this process has taken: on its GPU if it has one, else in main memory.

It measures, and knows no model: models/estimate.py has the arithmetic of plans.
"""

import sys
from pathlib import Path

import torch

from models.hardware import device, has_cuda

_STATUS = Path("/proc/self/status")


def peak_memory_gb() -> float | None:
    """The peak so far in GB (1e9 bytes); None where the system does not tell.

    On a GPU, of what tensors took: libraries and the allocator's reserve come on top, about 1 GB. None too
    where this process has had no tensor there: vLLM's are in a process of its own.
    """
    n_bytes = torch.cuda.max_memory_allocated(device()) if has_cuda() else _peak_of_process()
    return round(n_bytes / 1e9, 3) if n_bytes else None


def _peak_of_process() -> int | None:
    # Where Linux tells it, not `getrusage`: that starts with the peak of the process that started this one.
    if _STATUS.is_file():
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    # Windows has no such module.
    try:
        import resource
    except ImportError:
        return None
    n = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return n if sys.platform == "darwin" else n * 1024
