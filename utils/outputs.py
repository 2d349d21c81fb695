"""Checks that a run can write where it will write, before it spends minutes on what it would write.

It creates nothing, and knows nothing about what is written.
"""

import os
import shutil
from pathlib import Path

from utils.errors import UsageError

# Less than this fails in any case, even for a results file alone.
_LEAST_FREE = 1 << 20


def _check_place(path: Path) -> None:
    """UsageError if a file or folder cannot be created at `path`, whose parents may be missing too."""
    place = path.parent
    while not place.exists() and place != place.parent:
        # A link to nowhere does not exist, and nothing can be created below it.
        if place.is_symlink():
            raise UsageError(f"{path}: {place} is a link to {os.readlink(place)}, which does not exist")
        place = place.parent
    if not place.is_dir():
        raise UsageError(f"{path}: cannot be written, because {place} is a file; choose another path")
    if not os.access(place, os.W_OK | os.X_OK):
        hint = "choose a place that you may write to, or set FACTUALITY_HOME to one"
        raise UsageError(f"{path}: cannot be written, because {place} is read-only here; {hint}")
    disk = shutil.disk_usage(place)
    # /proc and its like have no space at all.
    if not disk.total:
        raise UsageError(f"{path}: cannot be written: {place} cannot store files; choose another path")
    if disk.free < _LEAST_FREE:
        raise UsageError(f"{path}: the disk is full; make room, or set FACTUALITY_HOME to another disk")


def check_file_output(*paths: Path) -> None:
    """UsageError unless each path can be written as a file."""
    for path in paths:
        if path.is_dir():
            raise UsageError(f"{path}: is a folder; name a file to write, such as {path / 'results.json'}")
        _check_place(path)
        if path.exists() and not os.access(path, os.W_OK):
            raise UsageError(f"{path}: exists and is read-only; choose another path")


def check_folder_output(path: Path) -> None:
    """UsageError unless the path can be created as a folder, or is one that can be written to."""
    if path.is_file():
        raise UsageError(f"{path}: is a file; name a folder to write to")
    # Runs keep a lock beside their folder, and what they replace.
    if path.resolve() == path.resolve().parent:
        raise UsageError(f"{path}: is the root of the file system; name a folder below it")
    # The folder itself if it is there: its parent may be read-only.
    _check_place(path / "run.json")


def check_empty_folder(path: Path, flag: str) -> None:
    """UsageError unless the folder that a flag names is new, or has nothing in it."""
    if path.is_dir() and any(path.iterdir()):
        raise UsageError(f"{flag} {path}: the directory is not empty; name a new one")
