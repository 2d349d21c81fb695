"""Which process of an `accelerate launch` this one is, without importing accelerate, which takes seconds."""

import os


def is_first_process() -> bool:
    """True in the first process of a launch, and in a process without one."""
    return int(os.environ.get("RANK", 0)) == 0
