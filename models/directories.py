"""What a model's directory is: a PEFT checkpoint, a full model, or neither, with the checkpoints nearby.

Reads small JSON files alone: no model library is imported, so that a wrong path is told at once.
"""

import difflib
import re
from pathlib import Path

from models.embedded_models import EMBEDDED_MODELS
from models.folders import check_model_folder
from utils.config import input_path
from utils.errors import DataError
from utils.hub_names import split_revision
from utils.input_files import home_hint
from utils.jsonl import read_json_object

# An owner and a name, or a name alone.
_HUB_ID = r"([\w.-]+/)?[\w.-]+"


def missing_checkpoint(path: Path) -> str:
    """The message for a path without a checkpoint: it names the checkpoints nearby."""
    if hint := home_hint(path):
        return f"{path}: no such checkpoint; {hint}"
    folder = path.parent
    present = sorted(folder.glob("checkpoint-*")) or sorted(folder.glob("[!.]*/checkpoint-best"))
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
    check_model_folder(path)
    return str(path)


def is_path(name: str) -> bool:
    """True for a name that cannot be a hub id, which is a name alone or an owner and a name."""
    return name.startswith((".", "/", "~")) or split_revision(name)[0].count("/") > 1


def check_model_name(name: str) -> None:
    """DataError for a model that is no hub id, no folder of a model or checkpoint, and no embedded model."""
    path = input_path(name)
    if name in EMBEDDED_MODELS:
        return
    hub_id, revision = split_revision(name)
    if revision and hub_id in EMBEDDED_MODELS:
        raise DataError(f"{name}: an embedded model has one version; write {hub_id}")
    if path.exists() or path.is_symlink():
        check_model_folder(path)
    elif is_path(name):
        raise DataError(missing_checkpoint(path))
    elif close := difflib.get_close_matches(name.lower(), EMBEDDED_MODELS, n=1, cutoff=0.8):
        raise DataError(f"{name}: no such model; did you mean {close[0]}?")
    elif not re.fullmatch(_HUB_ID, split_revision(name)[0]):
        raise DataError(
            f"{name!r}: neither a folder nor a hub id, such as google/gemma-2-9b or google/gemma-2-9b@COMMIT"
        )
