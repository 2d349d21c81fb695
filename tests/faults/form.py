"""How often a fault is tried: a few times in `make test`, and many with FACTUALITY_FAULTS=full."""

import os


def count(short: int, full: int) -> int:
    """`full` where the environment asks for it, else `short`."""
    return full if os.environ.get("FACTUALITY_FAULTS") == "full" else short
