"""How many faults a test tries: a few in `make test`, many with FACTUALITY_FAULTS=full."""

import os


def count(short: int, full: int) -> int:
    is_full = os.environ.get("FACTUALITY_FAULTS") == "full"
    return full if is_full else short
