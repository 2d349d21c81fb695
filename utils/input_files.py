"""Why a path cannot be read as a file, in one line with the next step: missing, a folder, a link, a pipe.

It looks at names and never into a file; `utils/recognition.py` tells what a file is.
"""

import difflib
import os
import shlex
import stat
from pathlib import Path

# A message names at most this many files of a folder.
_MAX_NAMED = 8
# Where the files of a pipeline are, below the folder that is named in haste.
_USUAL_FOLDERS = ("processed", "data/processed", "prefs", "configs", "configs/demo")
# What tells a folder that FACTUALITY_HOME may name: the stages write these.
_HOME_FOLDERS = ("checkpoints", "data/processed", "prefs")
# Folders with more files are not searched for a similar name.
_MAX_SEARCHED = 2000


def _files_in(folder: Path) -> list[str]:
    """The names of the visible files in a folder, sorted; none if it cannot be listed."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.is_file() and entry.name[0] != "."]
    except OSError:
        return []
    return sorted(names)


def named_files(folder: Path, suffix: str = "") -> str:
    """The first files of a folder with this suffix, and the number of the others; empty without any."""
    names = [name for name in _files_in(folder) if name.endswith(suffix)]
    more = f" and {len(names) - _MAX_NAMED} more" if len(names) > _MAX_NAMED else ""
    return ", ".join(names[:_MAX_NAMED]) + more


def _similar(path: Path) -> Path | None:
    """A file that the path may have meant: of a similar name beside it, or of the same name near it."""
    # A pasted name often ends in a space, a quote or the line end of a Windows file.
    cleaned = path.with_name(path.name.strip(" \r\n\t'\"`,") or path.name)
    if cleaned != path and cleaned.is_file():
        return cleaned
    names = _files_in(path.parent)
    if close := difflib.get_close_matches(path.name, names[:_MAX_SEARCHED], n=1, cutoff=0.75):
        return path.parent / close[0]
    # data/test.jsonl for data/processed/test.jsonl, or the other way round.
    inside = [path.parent / name / path.name for name in _USUAL_FOLDERS]
    above = [path.parent.parent / path.name]
    return next((other for other in inside + above if other.is_file()), None)


def _deepest_folder(path: Path) -> Path:
    """The part of a path that exists."""
    return next((parent for parent in path.parents if parent.exists()), Path("."))


def home_hint(path: Path) -> str | None:
    """What FACTUALITY_HOME should be, if it is not set and a home in this folder has the path; or None."""
    if os.environ.get("FACTUALITY_HOME") or path.is_absolute() or not path.parts:
        return None
    try:
        with os.scandir(".") as entries:
            folders = sorted(entry.name for entry in entries if entry.is_dir() and entry.name[0] != ".")
    except OSError:
        return None
    for folder in folders:
        is_home = any(os.path.isdir(os.path.join(folder, name)) for name in _HOME_FOLDERS)
        found = Path(folder) / path
        # Not Path.exists, which raises for a folder that may not be entered.
        if is_home and os.path.exists(found):
            remedy = f"export FACTUALITY_HOME={shlex.quote(folder)}"
            return f"FACTUALITY_HOME is not set, and {found} exists: {remedy}"
    return None


# The next step where nothing better is known.
STAGE_REMEDY = "run the stage that writes it (README, stage table) or check the path"


def missing_reason(path: Path, remedy: str = STAGE_REMEDY) -> str:
    """Why there is no such file, with the next step, which is `remedy` where nothing better is known."""
    if path.is_symlink():
        return f"is a link to {os.readlink(path)}, which does not exist; correct or replace the link"
    text = str(path)
    if "https:/" in text or "http:/" in text:
        return "no such file; urls are not read here: download it and name the file"
    if "$" in text:
        return "no such file; the shell has not replaced the variable: use double quotes, or export it first"
    if path.name == "-":
        return "no such file; stdin is not read here: write the rows to a file and name it"
    if hint := home_hint(path):
        return f"no such file; {hint}"
    if similar := _similar(path):
        return f"no such file; did you mean {similar}?"
    existing = _deepest_folder(path)
    if existing.is_file():
        return f"no such file, as {existing} is a file and not a folder"
    if existing != path.parent and path.parent != Path("."):
        return f"no such file, and no folder {path.parent}; {remedy}"
    return f"no such file; {remedy}"


def unreadable_reason(path: Path, suffix: str = ".jsonl", remedy: str = STAGE_REMEDY) -> str | None:
    """Why `path` cannot be read as a file, with the next step; None if it can.

    Of a folder, the files with `suffix` are named.
    """
    try:
        mode = os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return missing_reason(path, remedy)
    except OSError as error:
        return f"cannot be read ({error.strerror}); check the path"
    if stat.S_ISDIR(mode):
        names = named_files(path, suffix) or named_files(path)
        return f"is a folder; name the file in it{f': {names}' if names else ', which has no files'}"
    if not stat.S_ISREG(mode):
        return "is a pipe or device, and the file is read more than once; write it to a file and name that"
    if not os.access(path, os.R_OK):
        return "cannot be read (permission denied); `chmod u+r` it, or copy it to a place of your own"
    return None
