"""What to say of an error that the system or Python raised: one line, with the path and the next step.

Libraries report a disk's errors in ways of their own, which are read here too. It knows no stage.
"""

import errno
import os
import re
import shutil
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# What a full disk looks like where a library reports it in its own way: safetensors and tokenizers give the
# number of the system's error, torch only says that it wrote less than it wanted.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_DISK = (
    "no space left on device",
    "storagefull",
    "pytorchstreamwriter failed writing",
    "unexpected pos",
)
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
_IS_LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN)
_MB = 1 << 20


def first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _home() -> str:
    return str(Path(os.environ.get("FACTUALITY_HOME", ".")).absolute())


def _free_space(path: str | None) -> str:
    """`(3 MB free)` of the disk that a path is on; empty where that is unknown."""
    place = Path(path or _home()).absolute()
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        return f" ({shutil.disk_usage(place).free // _MB} MB free)"
    except OSError:
        return ""


def _is_output_full() -> bool:
    """Whether what was printed cannot be written: it is still waiting, and fails again."""
    try:
        sys.stdout.flush()
    except OSError:
        return True
    except (ValueError, AttributeError):
        # Closed, or none at all.
        return False
    return False


def describe_os_error(error: OSError) -> str:
    """One line: the path, the reason, and what to do."""
    path = str(error.filename) if error.filename else None
    if path is None and error.errno in _DISK_IS_FULL and _is_output_full():
        return f"standard output: {error.strerror or first_line(error)}; send it to a place with room"
    if path is None and error.errno in _DISK_IS_FULL:
        # A library wrote it, and did not say where: most likely below the home.
        path = _home()
    where = f"{path}: " if path else ""
    reason = error.strerror or first_line(error)
    if error.errno in _DISK_IS_FULL:
        return f"{where}{reason}{_free_space(path)}; make room, or set FACTUALITY_HOME to another disk"
    if error.errno in _NOT_ALLOWED:
        return f"{where}{reason}; choose a place that you may read and write, or set FACTUALITY_HOME to one"
    if error.errno in _IS_LOST:
        return f"{where}{reason}; check that this drive is connected, then rerun the same command"
    return f"{where}{reason}"


def disk_error(error: BaseException) -> OSError | None:
    """The error of the disk that a library reports in its own way; None for any other.

    Libraries do not say which file it was: the error names the home.
    """
    # By name: safetensors is not imported here, and tokenizers raises a plain Exception.
    if type(error).__name__ not in ("RuntimeError", "SafetensorError", "Exception"):
        return None
    home = _home()
    found = _SYSTEM_ERROR.search(str(error))
    number = int(found[1]) if found else 0
    if number in (*_DISK_IS_FULL, *_NOT_ALLOWED, *_IS_LOST):
        return OSError(number, os.strerror(number), home)
    if any(words in str(error).lower() for words in _FULL_DISK):
        return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), home)
    return None


def is_own_module(module: str | None) -> bool:
    """True for a module of this repository: that it is missing is a bug, not a matter of installation."""
    if not module:
        return False
    top = module.partition(".")[0]
    return (ROOT / top).is_dir() or (ROOT / f"{top}.py").is_file()


def describe_import_error(error: ImportError) -> str:
    """One line: what cannot be imported, and how to install it."""
    # The command names this interpreter: `pip` alone may belong to another one.
    command = f"{sys.executable} -m pip install -r {ROOT / 'requirements.txt'}"
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the package {error.name!r} is not installed; install what is needed with `{command}`"
    return f"a package cannot be imported ({first_line(error):.200}); install it with `{command}`"
