"""The base model of a reward head: the one whose features it was trained on, wherever that is now.

Features of another model have another meaning, and where their number is the same nothing else would tell.
"""

import contextlib
from pathlib import Path

from models.base import TrainedOn, is_same_model, own_base
from utils.errors import DataError, UsageError


def _base_of(saved: dict) -> TrainedOn:
    weights = saved.get("base_weights")
    return TrainedOn(saved["base_model"], weights, was_local=False, revision=saved.get("base_revision"))


def base_of_head(folder: Path, saved: dict, given: str) -> str:
    """The model whose features a head reads: `given` if it is that one, which may have moved, else its own.

    DataError if its own is no longer there, or has other weights by now.
    """
    base = _base_of(saved)
    with contextlib.suppress(DataError):
        if is_same_model(given, base):
            return given
    return own_base(str(folder), base, "--set base_model=DIR")


def check_head_base(folder: Path, saved: dict, given: str) -> None:
    """UsageError if `given` is another model than the one whose features a head was trained on."""
    base = _base_of(saved)
    if is_same_model(given, base) is False:
        raise UsageError(
            f"base_model: {given}: {folder} was trained on features of {base.name}, which is another model; "
            "set base_model to that one"
        )
