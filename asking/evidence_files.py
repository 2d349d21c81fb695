"""Which files evidence names: the path that was given, and the documents below a folder.

What is left out of a folder is said in one line per file. This module opens no file.
"""

import errno
import os
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from asking.decoding import KIND_OF_SUFFIX
from utils.config import home_path
from utils.errors import DataError, UsageError

# Of a name that is no file, which may be a whole text, this much is said.
_MAX_SHOWN = 60


def files_below(folder: Path, say: Callable[[str], None]) -> Iterator[Path]:
    """The documents below a folder, sorted, without hidden ones; says how many other files there are."""
    others: Counter = Counter()

    def say_skipped(error: OSError) -> None:
        say(f"skipped {error.filename}: cannot be read ({error.strerror})")

    for directory, names, files in os.walk(folder, onerror=say_skipped):
        # In place, so that os.walk goes on in this order and leaves hidden folders out.
        names[:] = sorted(name for name in names if not name.startswith("."))
        for link in filter(os.path.islink, [os.path.join(directory, name) for name in names]):
            say(f"skipped {link}: is a link to a folder; name the folder itself to have it read")
        for file in sorted(files):
            path = Path(directory) / file
            suffix = path.suffix.lower()
            if file.startswith("."):
                continue
            # Nobody may ever write into a pipe, and a device has no end.
            if not os.path.isfile(path):
                say(f"skipped {path}: is no file, but a pipe, a device or a link to nothing")
            elif not _is_below(path, folder):
                say(f"skipped {path}: is a link out of the folder; name the file itself to have it read")
            elif suffix in KIND_OF_SUFFIX:
                yield path
            else:
                others[suffix] += 1
    if others:
        kinds = ", ".join(f"{n} {suffix}" for suffix, n in sorted(others.items()))
        say(f"{folder}: skipped files of other kinds: {kinds}")


def _is_below(path: Path, folder: Path) -> bool:
    """True for a file of this folder: a link in one that was unpacked could name any file of the machine."""
    return path.resolve().is_relative_to(folder.resolve())


def _exists(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:
        # A text in place of a file is longer than any name may be.
        if error.errno == errno.ENAMETOOLONG:
            return False
        raise


def find_evidence(name: str) -> Path:
    """The path of evidence: as given, because it is the user's own, else under FACTUALITY_HOME.

    UsageError for an empty name, DataError for one that is no file and no folder.
    """
    # An empty name would be the working directory with all that is in it.
    if not name.strip():
        raise UsageError("--evidence is empty; give a file, a folder or - for stdin")
    path = Path(os.path.expanduser(name))
    for found in (path, home_path(path)):
        if _exists(found):
            return found
    shown = " ".join(name.split())
    if len(shown) > _MAX_SHOWN:
        shown = f"{shown[:_MAX_SHOWN]}..."
    raise DataError(
        f"--evidence {shown}: no such file or folder; give a file, a folder, or - and the text on stdin"
    )
