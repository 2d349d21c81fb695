"""What a model's directory is: a PEFT checkpoint, a full model, or neither, with the checkpoints nearby.

Reads small JSON files alone: no model library is imported, so that a wrong path is told at once.
"""

import difflib
import re
from pathlib import Path

from models.embedded_models import EMBEDDED_MODELS
from models.folders import check_model_folder
from utils.config import input_path
from utils.errors import DataError, UsageError
from utils.hub_names import split_revision
from utils.input_files import home_hint
from utils.jsonl import read_json_object

# An owner and a name, or a name alone.
_HUB_ID = r"([\w.-]+/)?[\w.-]+"
# Runs that a message names.
_MAX_RUNS = 5


def missing_checkpoint(path: Path, flag: str | None = None) -> str:
    """The message for a path without a checkpoint: it names the checkpoints nearby.

    `flag`: what takes a base model, where the path is that of one, which may have moved.
    """
    if hint := home_hint(path):
        return f"{path}: no such checkpoint; {hint}"
    folder = path.parent
    present = sorted(folder.glob("checkpoint-*")) or sorted(folder.glob("[!.]*/checkpoint-best"))
    if flag and not present:
        return f"{path}: no such checkpoint and no such model; name the folder where it is now with {flag}"
    if not present:
        remedy = "train one with train_sft.py"
        if not folder.is_dir():
            remedy += ", or name a model of the hub with --base-model"
        return f"{path}: no such checkpoint, and none in {folder}; {remedy}"
    best = next((p for p in present if p.name == "checkpoint-best"), present[-1])
    names = ", ".join(str(p.relative_to(folder)) for p in present)
    return f"{path}: no such checkpoint; {folder} has {names}; use {best}"


def adapter_base(name: str) -> str | None:
    """The base model that a PEFT checkpoint directory names; None if `name` is not such a directory."""
    config = Path(name) / "adapter_config.json"
    if not config.is_file():
        return None
    adapter = read_json_object(config)
    base = adapter.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise DataError(f"{config}: base_model_name_or_path must be the name of a model, found {base!r:.60}")
    # PEFT has the revision of a hub model in a key of its own.
    revision = adapter.get("revision")
    return f"{base}@{revision}" if revision and not is_path(base) else base


def _check_folder(path: Path) -> None:
    """DataError for a folder that is no model; in one above runs, the best checkpoints of these are named."""
    is_model = (path / "config.json").exists() or (path / "adapter_config.json").exists()
    if not is_model and not any(path.glob("checkpoint-*")):
        found = sorted([*path.glob("[!.]*/checkpoint-best"), *path.glob("[!.]*/[!.]*/checkpoint-best")])
        if found:
            names = ", ".join(str(best.parent.relative_to(path)) for best in found[:_MAX_RUNS])
            more = f" and {len(found) - _MAX_RUNS} more" if len(found) > _MAX_RUNS else ""
            raise DataError(
                f"{path}: found a folder of runs ({names}{more}), expected one model; name a checkpoint of "
                f"one of them, such as {found[0]}"
            )
    check_model_folder(path)


def check_adapter_dir(name: str) -> str:
    """The directory of a model to evaluate, PEFT checkpoint or full model. DataError if it is neither."""
    path = input_path(name)
    if name in EMBEDDED_MODELS:
        raise DataError(
            f"{name}: is a base model (--base-model); a checkpoint of train_sft.py is needed here, such as "
            "checkpoints/sft/demo/checkpoint-best (make demo trains one)"
        )
    if not path.exists() and not path.is_symlink():
        raise DataError(missing_checkpoint(path))
    _check_folder(path)
    return str(path)


def no_base(model_path: str | None) -> UsageError:
    """The error where a model is compared with its base, and neither it nor a flag names one.

    Of a model that is missing, that is what it says: its files would have named the base.
    """
    needed = "--compare-baseline and --baseline-fewshot need --base-model"
    if model_path and not input_path(model_path).exists():
        try:
            check_adapter_dir(model_path)
        except DataError as error:
            return UsageError(f"--model-path {error} ({needed}, or a checkpoint that names its base)")
    return UsageError(f"{needed}: the model names none")


def is_path(name: str) -> bool:
    """True for a name that cannot be a hub id, which is a name alone or an owner and a name."""
    return name.startswith((".", "/", "~")) or split_revision(name)[0].count("/") > 1


def check_model_name(name: str, flag: str = "--base-model DIR") -> None:
    """DataError for a model that is no hub id, no folder of a model or checkpoint, and no embedded model.

    `flag`: what the name is the value of.
    """
    path = input_path(name)
    if name in EMBEDDED_MODELS:
        return
    hub_id, revision = split_revision(name)
    if revision and hub_id in EMBEDDED_MODELS:
        raise DataError(f"{name}: an embedded model has one version; write {hub_id}")
    if path.exists() or path.is_symlink():
        _check_folder(path)
    elif is_path(name):
        raise DataError(missing_checkpoint(path, flag))
    elif close := difflib.get_close_matches(name.lower(), EMBEDDED_MODELS, n=1, cutoff=0.8):
        raise DataError(f"{name}: no such model; did you mean {close[0]}?")
    elif not re.fullmatch(_HUB_ID, split_revision(name)[0]):
        raise DataError(
            f"{name!r}: neither a folder nor a hub id, such as google/gemma-2-9b or google/gemma-2-9b@COMMIT"
        )
