"""The folder of a run: the names that its stage writes there, and what else is in it.

`--overwrite` deletes such a folder as a whole, so it must have nothing of others: another run below it, data,
a model, a user's notes. It knows names, not what is in the files of a run.
"""

import contextlib
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

from utils.errors import DataError, UsageError
from utils.jsonl import read_json_object

# What the two stages write that train a model, also those of earlier versions.
TRAINED_NAMES = (
    *("run.json", "train_ids.txt", "training_history.json", "loss_curve.png", "calibration.json"),
    *("README.md", "reference.safetensors", "checkpoint-*"),
)
# What train_rm.py writes.
REWARD_NAMES = (
    *("run.json", "split.json", "training_history.json", "validation.json", "curves.png", "calibration.png"),
    *("README.md", "train_ids.txt", "best", "final", "checkpoint-*", "features", "lora"),
)
# What build_data.py writes.
BUILD_NAMES = (
    *("run.json", "audit.json", "README.md"),
    *("train.jsonl", "train_made.jsonl", "val.jsonl", "test.jsonl"),
)
# Curves of a tracker, and what desktops and notebooks leave: no run is refused for them.
_LEFT_BY_TOOLS = ("runs", "report.html", ".ipynb_checkpoints", "desktop.ini", "Thumbs.db", "__pycache__")
# The stages whose folders have the same names.
_STAGES = ("train_sft.py", "train_dpo.py", "train_rm.py")

# A file that tells what is in its folder, and what that is.
_RUN_MARKS = ("run.json", "manifest.json", "trainer_state.json")
_MODEL_MARKS = ("config.json", "adapter_config.json", "*.safetensors", "*.gguf", "*.bin", "*.pt", "*.pth")
_DATA_MARKS = ("*.jsonl", "*.jsonl.gz", "*.parquet")
# Deep enough for checkpoints/sft/<name>/, seen from the folder above them.
_MAX_DEPTH = 3


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _is_run(folder: Path) -> bool:
    """Whether a folder is that of a whole run: the manifest of a checkpoint has no command."""
    with contextlib.suppress(OSError, DataError):
        return "command" in read_json_object(folder / "run.json")
    return False


def _is_own(path: Path, names: tuple[str, ...]) -> bool:
    """Whether an entry of a run's folder is one that the run, or a tool of its user, writes."""
    if path.name.startswith("."):
        # Partial and former folders of the run; hidden files are those of desktops and locks.
        hidden = tuple(f".{name}*" for name in names)
        return not path.is_dir() or _matches(path.name, (*hidden, *_LEFT_BY_TOOLS))
    if _matches(path.name, _LEFT_BY_TOOLS):
        return _first_valuable(path, 0) is None
    return _matches(path.name, names) and not _is_run(path)


def _kind(path: Path) -> str | None:
    """What a file belongs to that nobody wants to lose; None for any other."""
    marks = {"a run": _RUN_MARKS, "a model": _MODEL_MARKS, "data": _DATA_MARKS}
    return next((kind for kind, patterns in marks.items() if _matches(path.name, patterns)), None)


def _first_valuable(path: Path, depth: int) -> tuple[Path, str] | None:
    """The first file at or below a path that belongs to a run, a model or data, and to which."""
    if path.is_symlink() or depth > _MAX_DEPTH:
        return None
    if not path.is_dir():
        kind = _kind(path)
        return (path, kind) if kind else None
    inside: list[Path] = []
    with contextlib.suppress(OSError):
        inside = sorted(path.iterdir(), key=lambda found: (found.is_dir(), found.name))
    found = (_first_valuable(each, depth + 1) for each in inside)
    return next((each for each in found if each), None)


def _others(folder: Path, names: tuple[str, ...]) -> Iterator[Path]:
    """The entries of a folder that no run of these names writes."""
    for path in sorted(folder.iterdir()):
        if not _is_own(path, names):
            yield path


def check_new_folder(folder: Path, names: tuple[str, ...]) -> None:
    """UsageError for a folder without a run in which something else is: another run, a model or data.

    A run that starts there would mix its files with them, and `--overwrite` would delete them.
    """
    if not folder.is_dir() or (folder / "run.json").is_file():
        return
    for path in _others(folder, names):
        if found := _first_valuable(path, 0):
            place, kind = found
            raise UsageError(
                f"output_dir: {folder} has {kind} in it ({place.relative_to(folder)}), and a run needs a "
                f"folder of its own; name another one, such as {folder / 'run'}"
            )


def check_replaced_folder(folder: Path, names: tuple[str, ...], old: dict, new: dict) -> None:
    """UsageError if `--overwrite` would delete more than a run of this stage.

    `old` and `new` are the manifests of the run that is there, and of the one that takes its place.
    """
    scripts = [(manifest.get("command") or [""])[0] for manifest in (old, new)]
    if scripts[0] != scripts[1] and set(scripts) <= set(_STAGES):
        raise UsageError(
            f"{folder} has a run of {scripts[0]}, which --overwrite of {scripts[1]} does not delete; "
            "write to another folder, or move that run away"
        )
    path = next(_others(folder, names), None)
    if path is None:
        return
    found = _first_valuable(path, 0)
    what = f" ({found[1]})" if found else ""
    raise UsageError(
        f"{folder} has {path.name}{what}, which no run of this stage writes and --overwrite would delete; "
        "move it away, or write to another folder"
    )
