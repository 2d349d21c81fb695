"""What a folder is that was named as a model, and whether the weights of a model are complete.

It reads names, small JSON files and the headers of weights; no model library is imported.
"""

import json
from pathlib import Path

from models.fingerprint import is_weights_or_tokenizer
from models.manifest import MANIFEST, damage
from utils.errors import DataError
from utils.input_files import missing_reason, named_files
from utils.jsonl import read_json_object
from utils.recognition import kind_of, signature_kind

# A header names each tensor; that of a model with thousands of them has under 10 MB.
_MAX_HEADER_BYTES = 100 << 20
_WEIGHTS = ("*.safetensors", "*.bin", "*.gguf", "*.pt", "*.pth")

# Files that tell what another folder is, what it is called, and where it belongs.
_FOLDERS = (
    ("reward_head.safetensors", "a reward model of train_rm.py", "it goes to train_rm.py --checkpoint"),
    ("best/reward_head.safetensors", "a run of train_rm.py", "its heads go to train_rm.py --checkpoint"),
    ("processed/*.jsonl", "data of build_data.py", "name processed/test.jsonl with --test-data"),
    ("t*.jsonl", "data of build_data.py", "name its test.jsonl with --test-data"),
    ("preferences_*.jsonl", "preferences of make_prefs.py", "they go to train_rm.py --prefs-dir"),
    ("gens_*.jsonl", "a cache of candidates", "make_prefs.py --cache-sig takes its name"),
    ("sft_*.txt", "prompt templates", "name one of them with --template"),
    ("snapshots/*/config.json", "a cache of the hub", "name the model by its hub id"),
    ("tokenizer*.json", "a tokenizer without a model", "copy the config and the weights too"),
)


def _other_folder(path: Path) -> tuple[str, str]:
    """(what a folder without a model is, where it belongs)."""
    # The run's directory instead of one of its checkpoints is the usual mistake.
    inside = sorted(found.name for found in path.glob("checkpoint-*"))
    if inside:
        best = path / ("checkpoint-best" if "checkpoint-best" in inside else inside[-1])
        return "a run of train_sft.py", f"it has {', '.join(inside)}: name one of them, such as {best}"
    for pattern, what, remedy in _FOLDERS:
        if next(path.glob(pattern), None):
            return what, remedy
    names = named_files(path)
    return (f"a folder with {names}" if names else "a folder without files"), "name a model's folder"


def folder_problem(path: Path) -> str | None:
    """Why a path is not the folder of a model or of a PEFT checkpoint, with the next step; None if it is."""
    if path.is_file():
        kind = kind_of(path)
        what = kind.what if kind else "a file"
        remedy = kind.remedy if kind else "name the folder of a model"
        if any(path.match(pattern) for pattern in _WEIGHTS):
            remedy = f"name its folder: {path.parent}"
        return f"{path}: found {what}, expected the folder of a model; {remedy}"
    has_config = (path / "adapter_config.json").is_file() or (path / "config.json").is_file()
    # A reward head has a config.json of its own.
    if has_config and not (path / "reward_head.safetensors").is_file():
        return checkpoint_problem(path) or weights_problem(path)
    what, remedy = _other_folder(path)
    wanted = "neither an adapter (adapter_config.json) nor a model (config.json)"
    return f"{path}: found {what} and {wanted}; {remedy}"


# --- checkpoints of a training stage


def checkpoint_problem(folder: Path) -> str | None:
    """Why the checkpoint of a training stage is not what was written; None if it is, and for other models."""
    remedy = "copy it again, name another checkpoint, or train it again"
    if not (folder / MANIFEST).is_file():
        # Without it nothing says how the checkpoint must be prompted, and a kill while saving leaves none.
        is_of_a_run = folder.name.startswith("checkpoint-") and (folder.parent / MANIFEST).is_file()
        return f"{folder}: {MANIFEST} is missing, so it is not complete; {remedy}" if is_of_a_run else None
    if problem := damage(folder, is_weights_or_tokenizer):
        return f"{folder}: damaged: {problem}; {remedy}"
    # The others may be edited, but not torn.
    for name in read_json_object(folder / MANIFEST).get("files", {}):
        if not name.endswith("config.json"):
            continue
        if not (folder / name).is_file():
            return f"{folder}: damaged: {name} is missing; {remedy}"
        read_json_object(folder / name)
    return None


# --- weights


def header_problem(path: Path) -> str | None:
    """Why a safetensors file is not complete; None if its size is the one that its header gives."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        head = handle.read(256)
        kind = signature_kind(head)
        if kind and kind.name != "safetensors":
            return f"found {kind.what}, expected weights; {kind.remedy}"
        n_header = int.from_bytes(head[:8], "little")
        if size < 8 or n_header > min(size - 8, _MAX_HEADER_BYTES):
            return f"incomplete weights ({size} bytes); copy or download the file again"
        handle.seek(8)
        raw = handle.read(n_header)
    try:
        header = json.loads(raw)
        ends = [tensor["data_offsets"][1] for name, tensor in header.items() if name != "__metadata__"]
    except (ValueError, KeyError, TypeError, AttributeError):
        return "damaged weights; copy or download the file again"
    wanted = 8 + n_header + max(ends, default=0)
    if size != wanted:
        return f"incomplete weights ({size} of {wanted} bytes); copy or download the file again"
    return None


def weights_problem(folder: Path) -> str | None:
    """Why the weights in the folder of a model or checkpoint cannot be loaded; None if they can."""
    weights = [path for pattern in _WEIGHTS for path in sorted(folder.glob(pattern))]
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = read_json_object(index).get("weight_map") or {}
        # A cache of the hub has links in the folder, but names no other folder.
        outside = sorted(name for name in set(named.values()) if Path(str(name)).name != name)
        if outside:
            return f"{folder}: names weights outside of it ({outside[0]!r:.60}); copy them into the folder"
        missing = sorted(name for name in set(named.values()) if not (folder / name).is_file())
        if missing:
            return f"{folder}: lacks {', '.join(missing[:3])} of its weights; copy the whole folder"
    if not weights and not index.is_file():
        return f"{folder}: has a config but no weights (*.safetensors); copy the whole folder"
    for path in folder.glob("*.safetensors"):
        if problem := header_problem(path):
            return f"{path}: {problem}"
    return None


def check_model_folder(path: Path) -> None:
    """DataError unless `path` is the folder of a model or of a PEFT checkpoint, with complete weights."""
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path}: {missing_reason(path)}")
    if problem := folder_problem(path):
        raise DataError(problem)
