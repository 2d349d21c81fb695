"""Replaces a finished output directory only once its successor is complete.

The new files are written into `<name>.new` beside it. A run that fails or is killed leaves the old directory
as it was, and what it had written in `<name>.new`; the next run clears that.
"""

import shutil
from pathlib import Path

from utils.jsonl import write_json
from utils.moving import move_folder
from utils.own_files import RUN
from utils.run_folders import check_replaced_folder
from utils.runs import close_run_dir, open_run_dir
from utils.shapes import read_shaped


def _beside(run_dir: Path, suffix: str) -> Path:
    # A link to another disk is followed: a directory cannot be renamed from one disk to another.
    place = run_dir.resolve()
    return place.with_name(place.name + suffix)


def _swap(new: Path, place: Path, old: Path) -> None:
    # A directory cannot replace another in one step; `_recover` finishes a swap that was cut short.
    move_folder(place, old)
    try:
        move_folder(new, place)
    except BaseException:
        # Interrupted, or refused by the file system: other stages read the data, and repair nothing.
        move_folder(old, place)
        raise
    shutil.rmtree(old)


def _recover(place: Path, old: Path) -> None:
    """Undo or finish the swap of a run that was killed in the middle of it."""
    manifest = "run.json"
    if (old / manifest).is_file() and not (place / manifest).is_file():
        # Where folders are copied and deleted, a part of it may still be there.
        shutil.rmtree(place, ignore_errors=True)
        move_folder(old, place)
    shutil.rmtree(old, ignore_errors=True)


# --- a folder within an output


def _hidden(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def put_in_place(new: Path, folder: Path) -> None:
    """Give a finished folder the name of another one, which is deleted once that is done."""
    finish_swap(folder)
    if folder.exists():
        _swap(new, folder, _hidden(folder))
    else:
        move_folder(new, folder)


def finish_swap(folder: Path) -> None:
    """What a kill within `put_in_place` left undone."""
    _recover(folder, _hidden(folder))


# --- a whole output


def open_replacement(run_dir: Path, run: dict, overwrite: bool, names: tuple[str, ...]) -> tuple[str, Path]:
    """`open_run_dir`'s answer, and the directory to write into.

    That is `run_dir` itself, unless `overwrite` replaces a complete one. UsageError as in `open_run_dir`, and
    if `overwrite` would delete anything but `names`, which the stage writes there.
    """
    _recover(run_dir.resolve(), _beside(run_dir, ".old"))
    manifest = run_dir / "run.json"
    old = read_shaped(manifest, RUN) if overwrite and manifest.is_file() else {}
    if old:
        check_replaced_folder(run_dir, names, old, run)
    if old.get("status") != "complete":
        return open_run_dir(run_dir, run, overwrite), run_dir
    new = _beside(run_dir, ".new")
    if new.exists():
        shutil.rmtree(new)
    write_json(new / "run.json", run)
    return "new", new


def close_replacement(written_dir: Path, run_dir: Path, run: dict, **facts) -> None:
    """Mark the written directory as complete (`close_run_dir`) and put it in the place of `run_dir`."""
    close_run_dir(written_dir, run, **facts)
    if written_dir == run_dir:
        return
    _swap(written_dir, run_dir.resolve(), _beside(run_dir, ".old"))
