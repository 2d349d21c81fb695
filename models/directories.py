"""What a model's directory is: a PEFT checkpoint, a full model, or neither, with the checkpoints nearby.

Reads small JSON files alone: no model library is imported, so that a wrong path is told at once.
"""

import json
from pathlib import Path

from utils.config import input_path
from utils.errors import DataError


def missing_checkpoint(path: Path) -> str:
    """The message for a path without a checkpoint: it names the checkpoints nearby."""
    folder = path.parent
    present = sorted(folder.glob("checkpoint-*")) or sorted(folder.glob("*/checkpoint-best"))
    if not present:
        return f"{path}: no such checkpoint, and none in {folder}; train one with train_sft.py"
    best = next((p for p in present if p.name == "checkpoint-best"), present[-1])
    names = ", ".join(str(p.relative_to(folder)) for p in present)
    return f"{path}: no such checkpoint; {folder} has {names}; use {best}"


def adapter_base(name: str) -> str | None:
    """The base model that a PEFT checkpoint directory names; None if `name` is not such a directory."""
    config = Path(name) / "adapter_config.json"
    if not config.is_file():
        return None
    return json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]


def check_adapter_dir(name: str) -> str:
    """The directory of a model to evaluate, PEFT checkpoint or full model. DataError if it is neither."""
    path = input_path(name)
    if not path.is_dir():
        raise DataError(missing_checkpoint(path))
    if (path / "adapter_config.json").is_file() or (path / "config.json").is_file():
        return str(path)
    hint = "name a directory that train_sft.py wrote"
    # The run's directory instead of one of its checkpoints is the usual mistake.
    inside = sorted(p.name for p in path.glob("checkpoint-*"))
    if inside:
        hint = f"it has {', '.join(inside)}: name one of them"
    raise DataError(
        f"{path}: contains neither an adapter (adapter_config.json) nor a model (config.json); {hint}"
    )
