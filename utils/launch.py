"""What an `accelerate launch` tells its processes, without importing accelerate, which takes seconds."""

import os


def is_first_process() -> bool:
    """True in the first process of a launch, and in a process without one."""
    return int(os.environ.get("RANK", 0)) == 0


def process_count() -> int:
    """The processes of the launch; 1 without one."""
    return int(os.environ.get("WORLD_SIZE", 1))


def trains_sharded() -> bool:
    """True in a process of a launch whose accelerate config says FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"
