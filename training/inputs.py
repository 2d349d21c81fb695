"""Checks of the files, model and template that a training config names.

They run before the model libraries are imported, so a wrong file is named at once.
"""

import importlib.util
from pathlib import Path

from evidence.reserved import data_warnings, refuse_test_data
from models.directories import adapter_base, check_model_name
from training.data_config import made_files
from utils.config import home_path, input_path, nearest
from utils.errors import DataError, UsageError
from utils.run_folders import TRAINED_NAMES, check_new_folder
from utils.schema import check_rows, read_samples
from utils.templates import load_template


def check_inputs(config: dict, merges: bool = False) -> None:
    """DataError or UsageError for the first input of train_sft.py that is not what its key needs.

    A merge reads no training data.
    """
    if not merges:
        check_new_folder(home_path(config["output_dir"]), TRAINED_NAMES)
    data = config["data"]
    files = [("val_path", data["val_path"])]
    if not merges:
        files = [("train_path", data["train_path"]), *files]
        files += [("made_path", name) for name in made_files(data)]
    for key, name in files:
        try:
            check_rows(input_path(name), read_samples)
        except DataError as error:
            # Unlike a flag, a key is not in the command that the user sees.
            raise DataError(f"data.{key}: {error}") from error
    check_model_name(config["model_name"], "--set model_name=DIR")
    check_combination(config)


def check_combination(config: dict) -> None:
    """UsageError for a base model that is an adapter, and for a template whose evidence cannot be shared."""
    refuse_adapter(config["model_name"])
    data = config["data"]
    template = load_template("sft", data["template"])
    # Behind different questions, equal evidence is read differently.
    if data["share_evidence"] and "{question}" in template[: template.index("{evidence}")]:
        raise UsageError(
            f"data.share_evidence: template {data['template']} has the question before the evidence; "
            "set data.template to evidence_first, or to one of your own"
        )


def refuse_adapter(name: str) -> None:
    """UsageError for a base model that is an adapter, wherever the model that it was trained on is."""
    if adapter_base(str(input_path(name))):
        raise is_adapter(name)


def is_adapter(name: str) -> UsageError:
    """The error that says that `model_name` is an adapter."""
    return UsageError(
        f"model_name: {name} is an adapter, which the new one would replace; "
        "merge it first with train_sft.py -c ITS_YAML --merge DIR, then set model_name: DIR"
    )


def check_training_data(config: dict, samples: dict[str, list[dict]], allow_test: bool) -> list[str]:
    """Warnings on the samples of a run, by split; a plan may lack those of val. UsageError for test data."""
    paths = {split: input_path(config["data"][f"{split}_path"]) for split in ("train", "val")}
    return data_warnings(paths, {"val": [], **samples}, allow_test)


def check_made_rows(config: dict, path: Path, rows: list[dict], allow_test: bool) -> list[str]:
    """Warnings on further training rows. UsageError for rows of a test split, beside them or train_path."""
    near = input_path(config["data"]["train_path"])
    warning = refuse_test_data(path, rows, allow_test, near=near)
    return [warning] if warning else []


def check_weights(weights: dict, samples: list[dict]) -> None:
    """UsageError for a weight that applies to no sample: most likely a mistyped source."""
    known = {"answerable", "unanswerable", *(sample["source"] for sample in samples)}
    for key in weights:
        if key not in known:
            raise UsageError(f"data.weights: no sample is of {key!r}{nearest(str(key), known)}")


def check_export() -> None:
    """UsageError if --export lacks its package, with the command that installs it."""
    if importlib.util.find_spec("gguf") is None:
        raise UsageError("--export gguf: the package gguf is not installed; run `pip install gguf`")
