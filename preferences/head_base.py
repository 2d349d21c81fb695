"""The base model of a reward head: the one whose features it was trained on, wherever that is now.

Features of another model have another meaning, and where their number is the same nothing else would tell.
"""

import contextlib
from pathlib import Path

from models.base import TrainedOn, is_same_model, local_dir, other_base, own_base
from utils.errors import DataError

_FLAG = "--set base_model="


def _base_of(saved: dict) -> TrainedOn:
    weights = saved.get("base_weights")
    return TrainedOn(saved["base_model"], weights, was_local=False, revision=saved.get("base_revision"))


def base_of_head(folder: Path, saved: dict, given: str) -> str:
    """The model whose features a head reads: `given` if it is that one, which may have moved, else its own.

    DataError if its own is no longer there, or has other weights by now; UsageError if that is told by the
    commit of a model of the hub.
    """
    base = _base_of(saved)
    with contextlib.suppress(DataError):
        if is_same_model(given, base):
            return given
        # Of a local folder `own_base` says it.
        if local_dir(base.name) is None and is_same_model(base.name, base) is False:
            raise other_base(str(folder), base, base.name, _FLAG)
    return own_base(str(folder), base, "--set base_model=DIR")


def check_head_base(folder: Path, saved: dict, given: str) -> None:
    """UsageError if `given` is another model than the one whose features a head was trained on."""
    base = _base_of(saved)
    if is_same_model(given, base) is False:
        raise other_base(str(folder), base, given, _FLAG)
