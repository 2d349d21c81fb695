"""The size of a fault test: short in `make test`, full with FACTUALITY_FAULTS=full in the environment."""

import os


def count(short: int, full: int) -> int:
    """How many times a test breaks something."""
    is_full = os.environ.get("FACTUALITY_FAULTS") == "full"
    return full if is_full else short
