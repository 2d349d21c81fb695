"""The peak memory of a process that imports no torch; models/peak_memory.py is for those that do."""

import re
from pathlib import Path


def peak_mb() -> float:
    """Peak memory of this process. `ru_maxrss` would include that of the parent it was forked from."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024
