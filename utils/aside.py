"""A complete output that is made anew stays until its successor is complete, in a hidden folder beside it.

For outputs that a later run can resume, which are written in their own place. `utils/replacing.py` is for
those that are written beside the old one. A cache in an output, whose files are named after all that changes
them, is no part of what is replaced: it moves to the new run, and back with the old one.
"""

import contextlib
import shlex
import shutil
from collections.abc import Iterator
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_json_object
from utils.moving import move_folder
from utils.progress import print_line

# Of a run, and of a cache of candidates.
_MANIFESTS = ("run.json", "manifest.json")
# A cache that is good for every run of its place: of train_rm.py, what the model read of completions.
_CACHE = "features"
# What a run writes before its first output: there is nothing that another run would lose.
_BEFORE_OUTPUT = {*_MANIFESTS, "train_ids.txt", _CACHE}


def _aside(run_dir: Path) -> Path:
    # A link to another disk is followed: a directory cannot be renamed from one disk to another.
    place = run_dir.resolve()
    return place.with_name(f".{place.name}.old")


def set_aside(run_dir: Path, is_complete: bool) -> None:
    """Clear the place of an output: a complete one is set aside, anything else is deleted."""
    old = _aside(run_dir)
    place = run_dir.resolve()
    if not is_complete:
        # A complete one that was set aside before stays, until there is another.
        _clear(place)
        return
    shutil.rmtree(old, ignore_errors=True)
    move_folder(place, old)
    _move_cache(old, place)
    print_line(f"the run that is replaced stays in {old} until the new one is complete")


def _clear(place: Path) -> None:
    """Delete a directory, but for its cache."""
    if not (place / _CACHE).is_dir():
        shutil.rmtree(place)
        return
    for path in place.iterdir():
        if path.name == _CACHE:
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


def _move_cache(source: Path, target: Path) -> None:
    """Move the cache of an output to the one that takes its place, if it has one."""
    found = source / _CACHE
    wanted = target / _CACHE
    if not found.is_dir() or wanted.exists():
        return
    target.mkdir(parents=True, exist_ok=True)
    move_folder(found, wanted)


def restore_aside(run_dir: Path) -> None:
    """Put back what was set aside, if the run that replaces it has ended without any output."""
    old = _aside(run_dir)
    place = run_dir.resolve()
    if _is_complete(place):
        # A run that was killed while it deleted the old one.
        drop_aside(run_dir)
        return
    if not old.is_dir() or not has_no_output(place):
        return
    _move_cache(place, old)
    shutil.rmtree(place, ignore_errors=True)
    move_folder(old, place)
    print_line(f"{run_dir} is again the run that was to be replaced")


def note_aside(run_dir: Path) -> None:
    """Say how to get back what was set aside, where the run that replaces it has ended without completing."""
    old = _aside(run_dir)
    place = run_dir.resolve()
    if not old.is_dir() or not place.is_dir() or _is_complete(place):
        return
    # Neither of the two is deleted: the unfinished one can still be resumed.
    unfinished = _free_name(place)
    command = f"mv {shlex.quote(str(place))} {shlex.quote(str(unfinished))}"
    command += f" && mv {shlex.quote(str(old))} {shlex.quote(str(place))}"
    print_line(
        f"{run_dir} is not complete; run it again to resume it. The complete run that it replaces is in "
        f"{old} until then. To have that one back: {command}"
    )


def _free_name(place: Path) -> Path:
    """The name for an unfinished run beside its place, where nothing is yet."""
    number = 1
    found = place.with_name(f"{place.name}.unfinished")
    while found.exists():
        number += 1
        found = place.with_name(f"{place.name}.unfinished-{number}")
    return found


def _is_complete(place: Path) -> bool:
    """Whether a manifest in the directory says that its run is complete."""
    for name in _MANIFESTS:
        with contextlib.suppress(OSError, DataError):
            if read_json_object(place / name).get("status") == "complete":
                return True
    return False


def has_no_output(run_dir: Path) -> bool:
    """True for a directory that is missing, or that a run stopped in before its first output."""
    return not run_dir.is_dir() or {path.name for path in run_dir.iterdir()} <= _BEFORE_OUTPUT


def drop_aside(run_dir: Path) -> None:
    """Delete what was set aside for an output that is complete now."""
    old = _aside(run_dir)
    if not old.exists():
        return
    shutil.rmtree(old, ignore_errors=True)
    if old.exists():
        print_line(f"{old} could not be deleted; the run that replaces it is complete, so delete it by hand")


@contextlib.contextmanager
def file_aside(path: Path, is_made_again: bool) -> Iterator[None]:
    """A block that writes a file. The old one is set aside before, and returns if there is no new one."""
    old = path.with_name(f".{path.name}.old")
    if is_made_again and path.exists():
        path.replace(old)
    try:
        yield
    finally:
        if path.exists():
            old.unlink(missing_ok=True)
        elif old.exists():
            old.replace(path)
