"""Complete and torn checkpoint directories: how one is marked, and which of a run's can be used.

It knows whether a checkpoint can be trusted, not what is in it.
"""

import shutil
from pathlib import Path

from models.manifest import MANIFEST, damage, describe_files
from utils.atomic import sync_file
from utils.errors import DataError
from utils.jsonl import read_json_object, write_json
from utils.own_files import RUN
from utils.replacing import finish_swap
from utils.runs import note
from utils.shapes import read_shaped

# No part of what makes a checkpoint complete: it may be written again, with more metrics.
CARD = "README.md"
# What a run ends with, beside its numbered checkpoints.
BEST = "checkpoint-best"
FINAL = "checkpoint-final"

# The Trainer's own checkpoints are not atomic: a torn newest one raises, and a missing optimizer.pt resumes
# in silence with a fresh optimizer. So a manifest with the size and hash of every file is written last, and
# decides.


def mark_whole(directory: Path, facts: dict) -> None:
    """Write the manifest of a checkpoint, with what its files are, after these have reached the disk."""
    paths = sorted(path for path in directory.iterdir() if path.is_file())
    paths = [path for path in paths if path.name not in (MANIFEST, CARD)]
    for path in paths:
        with open(path, "rb") as handle:
            sync_file(handle)
    write_json(directory / MANIFEST, {**facts, **describe_files(paths), "status": "complete"})


def checkpoint_damage(directory: Path, sizes_only: bool = False) -> str | None:
    """Why a checkpoint cannot be used; None if it can. With `sizes_only`, a quick look."""
    return damage(directory, lambda name: name != CARD, sizes_only)


def is_whole(directory: Path) -> bool:
    """True if the manifest exists, and every file that it names has the size that it names."""
    return checkpoint_damage(directory, sizes_only=True) is None


def step_of(directory: Path) -> int:
    """The step of a numbered checkpoint; -1 for another one."""
    number = directory.name.removeprefix("checkpoint-")
    return int(number) if number.isdecimal() else -1


def _numbered(output_dir: Path) -> list[Path]:
    """All `checkpoint-<step>` directories, oldest first."""
    return sorted((path for path in output_dir.glob("checkpoint-*") if step_of(path) >= 0), key=step_of)


def numbered_checkpoints(output_dir: Path) -> list[Path]:
    """Complete `checkpoint-<step>` directories, oldest first; torn ones are ignored."""
    return list(filter(is_whole, _numbered(output_dir)))


def save_points(checkpoints: list[Path], save_steps: float, last_step: int, n_wanted: int) -> list[Path]:
    """The last `n_wanted` checkpoints at planned steps; where a run was stopped does not count."""
    planned = [path for path in checkpoints if step_of(path) % save_steps == 0 or step_of(path) == last_step]
    return planned[-n_wanted:] if n_wanted else []


# --- which of them a run uses


def newest_checkpoint(output_dir: Path, wanted: bool, must_exist: bool) -> str | None:
    """The latest complete checkpoint to resume from, with a note; None to start from the beginning.

    A damaged one is named and passed over, and a damaged checkpoint-best made good. DataError if there is
    none and it `must_exist`, or if it is not `wanted` and the directory has checkpoints of an unknown run.
    """
    checkpoints = _numbered(output_dir)
    if not wanted:
        _refuse_unknown(output_dir, checkpoints)
        return None
    for path in reversed(checkpoints):
        if problem := checkpoint_damage(path):
            note(f"{path} cannot be used ({problem})")
            continue
        _mend_best(output_dir)
        note(f"resuming from {path}")
        return str(path)
    if must_exist:
        raise DataError(f"{output_dir}: no complete checkpoint to resume from; run without --resume")
    if checkpoints:
        note("no checkpoint can be used, so training starts from the beginning")
        _drop_best(output_dir)
    return None


def _refuse_unknown(output_dir: Path, checkpoints: list[Path]) -> None:
    """DataError for checkpoints in a directory that counts as new: nothing says what they were made with."""
    named = [path for path in (output_dir / BEST, output_dir / FINAL) if path.is_dir()]
    if found := [*checkpoints, *named]:
        names = ", ".join(path.name for path in found[:3])
        # Its manifest says that this run has started, and the next try would take them for its own.
        (output_dir / MANIFEST).unlink(missing_ok=True)
        raise DataError(
            f"{output_dir}: has {names}, but {MANIFEST}, which says how they were made, is missing; continue "
            "them with --resume if they are of these settings, or move them away"
        )


def _drop_best(output_dir: Path) -> None:
    """Make checkpoint-best count as absent, so that the next evaluation writes it."""
    (output_dir / BEST / MANIFEST).unlink(missing_ok=True)


def _mend_best(output_dir: Path) -> None:
    """A damaged checkpoint-best is copied from the checkpoint of its step, else left to later evaluations."""
    best = output_dir / BEST
    finish_swap(best)
    problem = checkpoint_damage(best) if best.is_dir() else None
    if problem is None:
        return
    if (best / MANIFEST).is_file() and "readable" not in problem:
        manifest = read_json_object(best / MANIFEST)
        same = output_dir / f"checkpoint-{manifest.get('step')}"
        if same.is_dir():
            for name in manifest["files"]:
                if (same / name).is_file():
                    shutil.copy(same / name, best / name)
            if checkpoint_damage(best) is None:
                note(f"{best} was damaged ({problem}); restored from {same.name}")
                return
    note(f"{best} cannot be used ({problem}); the best evaluation from here on takes its place")
    _drop_best(output_dir)


def check_finished(output_dir: Path) -> None:
    """DataError if a complete run has lost what it ended with: there is nothing to resume then."""
    for name in (BEST, FINAL):
        directory = output_dir / name
        # A loss that never was a number leaves no best checkpoint.
        has_none = name == BEST and read_shaped(output_dir / MANIFEST, RUN).get("best") is None
        if has_none and not directory.exists():
            continue
        if problem := checkpoint_damage(directory):
            raise DataError(
                f"{directory}: {problem}, though its run is complete; train it again with --overwrite, or "
                "copy the directory from where it is whole"
            )
