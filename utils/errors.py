"""Errors that end a stage: a one-line message with the cause and the next step, and an exit code."""

_MEMORY_IS_FULL = ("out of memory", "can't allocate memory", "not enough memory", "status_alloc_failed")


class StageError(Exception):
    """The run failed (exit 1)."""

    exit_code = 1


class UsageError(StageError):
    """A flag, a YAML key or a directory made with other settings is in the way (exit 2)."""

    exit_code = 2


class DataError(StageError):
    """An input is bad or missing (exit 3)."""

    exit_code = 3


class OutOfMemory(StageError):
    """A model or one of its rows does not fit the memory (exit 1)."""


class NotNumbers(StageError):
    """The model's logits are not numbers, and no overflow of float16 explains it."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, from `kill` or a scheduler's time limit: ends a stage as Ctrl-C does, but with exit 143."""


def is_out_of_memory(error: BaseException) -> bool:
    """True for the errors with which torch, its CUDA libraries and Python say that the memory is full."""
    # By name and text: torch is not imported where errors are told, and its CPU allocator, cuBLAS and
    # bitsandbytes raise a plain RuntimeError.
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(words in text for words in _MEMORY_IS_FULL)
