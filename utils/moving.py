"""Folders that take another name, also where the file system cannot rename them.

An object store that is mounted as a drive has no such operation, and neither has the lower layer of an
overlay, as in a container's image. There a folder is copied, what makes it complete last, and then deleted.
This module knows nothing about what is in a folder.
"""

import errno
import shutil
from pathlib import Path

from utils.atomic import CANNOT, atomic_write

# Without these a folder does not count as complete: copied last and deleted first.
_DECIDING = ("run.json", "manifest.json", "config.json")


def _copy_file(source: Path, target: Path) -> None:
    # Neither modes nor times, which not every drive can set.
    with open(source, "rb") as read, atomic_write(target, "wb") as written:
        shutil.copyfileobj(read, written)


def _copy(source: Path, target: Path) -> None:
    last = [source / name for name in _DECIDING if (source / name).is_file()]
    for path in sorted(source.rglob("*")):
        copied = target / path.relative_to(source)
        if path.is_dir():
            copied.mkdir(parents=True, exist_ok=True)
        elif path not in last:
            _copy_file(path, copied)
    for path in last:
        _copy_file(path, target / path.name)


def delete_folder(folder: Path) -> None:
    """Delete a folder, first what makes it complete: a cut leaves none that looks so."""
    for name in _DECIDING:
        (folder / name).unlink(missing_ok=True)
    shutil.rmtree(folder)


def move_folder(source: Path, target: Path) -> None:
    """Rename a folder to a name that is free, or copy and delete it where that cannot be done."""
    try:
        source.rename(target)
        return
    except OSError as error:
        if error.errno not in (*CANNOT, errno.EXDEV):
            raise
    try:
        target.mkdir(parents=True, exist_ok=True)
        _copy(source, target)
    except BaseException:
        shutil.rmtree(target, ignore_errors=True)
        raise
    delete_folder(source)
