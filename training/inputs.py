"""Checks of the files, model and template that a training config names.

They run before the model libraries are imported, so a wrong file is named at once.
"""

import importlib.util

from evidence.reserved import data_warnings
from models.directories import check_model_name
from utils.config import input_path, nearest
from utils.errors import DataError, UsageError
from utils.schema import check_rows, read_samples
from utils.templates import load_template


def check_inputs(config: dict, merges: bool = False) -> None:
    """DataError or UsageError for the first input of train_sft.py that is not what its key needs.

    A merge reads no training data.
    """
    for key in ("val_path",) if merges else ("train_path", "val_path"):
        try:
            check_rows(input_path(config["data"][key]), read_samples)
        except DataError as error:
            # Unlike a flag, a key is not in the command that the user sees.
            raise DataError(f"data.{key}: {error}") from error
    check_model_name(config["model_name"])
    load_template("sft", config["data"]["template"])


def check_training_data(config: dict, samples: dict[str, list[dict]], allow_test: bool) -> list[str]:
    """Warnings on the samples of a run, by split. UsageError for test data, or weights that none of them has.

    A plan may lack the val samples.
    """
    paths = {split: input_path(config["data"][f"{split}_path"]) for split in ("train", "val")}
    warnings = data_warnings(paths, {"val": [], **samples}, allow_test)
    _check_weights(config["data"]["weights"], samples["train"])
    return warnings


def _check_weights(weights: dict, samples: list[dict]) -> None:
    """UsageError for a weight that applies to no sample: most likely a mistyped source."""
    known = {"answerable", "unanswerable", *(sample["source"] for sample in samples)}
    for key in weights:
        if key not in known:
            raise UsageError(f"data.weights: no sample is of {key!r}{nearest(str(key), known)}")


def check_export() -> None:
    """UsageError if --export lacks its package, with the command that installs it."""
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("--export gguf: the package gguf is not installed; run `pip install gguf`")
