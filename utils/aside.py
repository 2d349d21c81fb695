"""A complete output that is made anew stays until its successor is complete, in a hidden folder beside it.

For outputs that a later run can resume, which are written in their own place. `utils/replacing.py` is for
those that are written beside the old one.
"""

import shutil
from pathlib import Path

from utils.moving import move_folder
from utils.progress import print_line


def _aside(run_dir: Path) -> Path:
    # A link to another disk is followed: a directory cannot be renamed from one disk to another.
    place = run_dir.resolve()
    return place.with_name(f".{place.name}.old")


def set_aside(run_dir: Path, is_complete: bool) -> None:
    """Clear the place of an output: a complete one is set aside, anything else is deleted."""
    old = _aside(run_dir)
    if not is_complete:
        # A complete one that was set aside for it stays, until there is another.
        shutil.rmtree(run_dir.resolve())
        return
    shutil.rmtree(old, ignore_errors=True)
    move_folder(run_dir.resolve(), old)
    print_line(f"the run that is replaced stays in {old} until the new one is complete")


def drop_aside(run_dir: Path) -> None:
    """Delete what was set aside for an output that is complete now."""
    old = _aside(run_dir)
    if old.exists():
        shutil.rmtree(old)
