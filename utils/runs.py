"""run.json, the manifest of an output directory: what made it, and whether a rerun may resume it.

Also the few lines of text that every stage prints about its run. It knows nothing about what a stage does.
"""

import importlib.metadata
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from utils.aside import drop_aside, has_no_output, restore_aside, set_aside
from utils.config import portable_path
from utils.jsonl import sha256_file, sha256_value, write_json
from utils.own_files import RUN
from utils.progress import print_line
from utils.public import public_value, public_word
from utils.run_changes import changed_settings, refuse_changed
from utils.run_folders import check_new_folder, check_replaced_folder
from utils.shapes import read_shaped

# Packages whose version can change a number. Versions are read from metadata, so none of them is imported for
# this.
_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "vllm",
    "datasets",
    "scikit-learn",
    "scipy",
    "numpy",
)


def _git_commit() -> str | None:
    """The commit of the code, None outside a git checkout or without git."""
    # The folder of this code: the working directory may belong to another repository.
    here = Path(__file__).resolve().parent
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, cwd=here, capture_output=True, text=True, check=False)
    except OSError:
        return None
    return done.stdout.strip() or None


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def _hash_directory(path: Path) -> str:
    """Hash over the names and contents of all files below a directory."""
    # Relative names, so that a directory keeps its hash when it moves.
    files = {}
    for file in sorted(path.rglob("*")):
        if file.is_file():
            files[str(file.relative_to(path))] = sha256_file(file)
    return sha256_value(files)


def hash_inputs(paths: list[Path]) -> dict[str, str]:
    """SHA-256 per path, of a file or of a whole directory; keys as `portable_path` names them.

    A missing path has no hash.
    """
    hashes = {}
    for path in map(Path, paths):
        if path.is_dir():
            hashes[portable_path(path)] = _hash_directory(path)
        elif path.is_file():
            hashes[portable_path(path)] = sha256_file(path)
    return hashes


def own_command() -> list[str]:
    """The words of the command that this process runs, without passwords and places of this machine."""
    return [Path(sys.argv[0]).name, *map(public_word, sys.argv[1:])]


def describe_run(settings: dict, inputs: dict[str, str], seed: int | None, **facts) -> dict:
    """The manifest of a run that starts: command, settings, versions, input hashes and the given facts.

    It travels with the outputs: paths start at FACTUALITY_HOME or `~`, and addresses have no passwords.
    """
    return {
        "status": "running",
        "command": own_command(),
        "settings": public_value(settings),
        "seed": seed,
        "inputs": inputs,
        "git_commit": _git_commit(),
        "packages": _package_versions(),
        "python": platform.python_version(),
        "started": _now(),
        **facts,
    }


def open_run_dir(
    run_dir: Path,
    run: dict,
    overwrite: bool,
    defaults: dict | None = None,
    names: tuple[str, ...] | None = None,
) -> str:
    """Claim a directory for a run. Returns "new", "resume" (unfinished) or "complete" (nothing to do).

    Two runs are the same when their settings and the contents of their inputs and models are, wherever these
    are (`utils/run_changes.py`); settings that an earlier version did not have count with their `defaults`.
    A directory without any output is new. UsageError for a directory made with other settings, unless
    `overwrite`, which clears it. `overwrite` also clears a complete run, which is kept aside until the new
    one is complete (`utils/aside.py`), but an unfinished one with the same settings is resumed either way.
    `names`: what the stage writes there (`utils/run_folders.py`). With them, UsageError for a new folder that
    has data, a model or another run in it, and for one whose clearing would delete anything else.
    The manifest is written with status "running"; `close_run_dir` marks it complete.
    """
    # A kill leaves it to the next run.
    restore_aside(run_dir)
    manifest = run_dir / "run.json"
    # Of a run that stopped before its first output nothing can be lost.
    if not manifest.is_file() or has_no_output(run_dir):
        if names:
            check_new_folder(run_dir, names)
        write_json(manifest, run)
        return "new"

    old = read_shaped(manifest, RUN)
    changed = changed_settings(old, run, defaults)
    is_complete = old.get("status") == "complete"
    # Resumed even with `overwrite`: its checkpoints were made with exactly these settings.
    if not changed and not is_complete:
        write_json(manifest, run)
        return "resume"
    if overwrite:
        if names:
            check_replaced_folder(run_dir, names, old, run)
        set_aside(run_dir, is_complete)
        write_json(manifest, run)
        return "new"
    refuse_changed(run_dir, changed)
    return "complete"


def write_progress(run_dir: Path, progress: dict) -> None:
    """Write how far an unfinished run is into the manifest of its directory."""
    manifest = run_dir / "run.json"
    write_json(manifest, {**read_shaped(manifest, RUN), "progress": progress})


def close_run_dir(run_dir: Path, run: dict, **facts) -> None:
    """Write the manifest last, with status "complete", the end time and the counts of the run."""
    # A directory is complete when this file says so, and it is replaced in one step.
    end = {"status": "complete", "finished": _now()}
    write_json(run_dir / "run.json", {**run, **facts, **end})
    drop_aside(run_dir)


def format_seconds(seconds: float) -> str:
    """`1h05m` from an hour on, else `4m09s`."""
    seconds = round(seconds)
    if seconds >= 3600:
        return f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
    return f"{seconds // 60}m{seconds % 60:02d}s"


def format_drops(drops: Mapping[str, int]) -> str:
    """`dropped 61: margin 40, same text 21`, or `dropped 0`."""
    total = sum(drops.values())
    detail = ", ".join(f"{reason} {n}" for reason, n in drops.items() if n)
    return f"dropped {total}: {detail}" if total else "dropped 0"


def note(text: str) -> None:
    """Print progress, a fallback or the next command to stderr: stdout is for results."""
    print_line(text)
