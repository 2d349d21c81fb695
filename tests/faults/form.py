"""The short form of the fault tests, which `make test` runs, and the full one (FACTUALITY_FAULTS=full)."""

import os


def count(short: int, full: int) -> int:
    """How many times a test breaks its promise."""
    return full if os.environ.get("FACTUALITY_FAULTS") == "full" else short
