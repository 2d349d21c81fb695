"""Errors that end a stage: a one-line message with the cause and the next step, and an exit code."""


class StageError(Exception):
    """The run failed (exit 1)."""

    exit_code = 1


class UsageError(StageError):
    """A flag, a YAML key or a directory made with other settings is in the way (exit 2)."""

    exit_code = 2


class DataError(StageError):
    """An input is bad or missing (exit 3)."""

    exit_code = 3
