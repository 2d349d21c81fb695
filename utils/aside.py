"""A complete output that is made anew stays until its successor is complete, in a hidden folder beside it.

For outputs that a later run can resume, which are written in their own place. `utils/replacing.py` is for
those that are written beside the old one.
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
# What a run writes before its first output: there is nothing to resume yet.
_BEFORE_OUTPUT = {*_MANIFESTS, "train_ids.txt"}


def _aside(run_dir: Path) -> Path:
    # A link to another disk is followed: a directory cannot be renamed from one disk to another.
    place = run_dir.resolve()
    return place.with_name(f".{place.name}.old")


def set_aside(run_dir: Path, is_complete: bool) -> None:
    """Clear the place of an output: a complete one is set aside, anything else is deleted."""
    old = _aside(run_dir)
    if not is_complete:
        # A complete one that was set aside before stays, until there is another.
        shutil.rmtree(run_dir.resolve())
        return
    shutil.rmtree(old, ignore_errors=True)
    move_folder(run_dir.resolve(), old)
    print_line(f"the run that is replaced stays in {old} until the new one is complete")


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
