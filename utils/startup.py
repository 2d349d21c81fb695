"""How a stage's process starts and ends: mistakes in the flags first, every expected error as one line.

A script calls `before_imports` between its flags and the imports that take seconds (torch, transformers), and
`run_main` at its end. This module knows nothing about what a stage does.
"""

import atexit
import errno
import logging
import os
import re
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from utils.allocator import restart_with_jemalloc
from utils.errors import StageError, is_out_of_memory
from utils.launch import is_first_process, process_count

ROOT = Path(__file__).resolve().parent.parent
# What a full disk looks like where a library reports it in its own way: safetensors and tokenizers give the
# number of the system's error, torch only says that it wrote less than it wanted.
_SYSTEM_ERROR = re.compile(r"\(os error (\d+)\)")
_FULL_DISK = ("no space left on device", "storagefull", "streamwriter failed writing", "unexpected pos")
_DISK_IS_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NOT_ALLOWED = (errno.EROFS, errno.EACCES, errno.EPERM)
_IS_LOST = (errno.EIO, errno.ESTALE, errno.ENOTCONN)
_INTERRUPTED = "interrupted: finished work is saved; rerun the same command to continue"
_OUT_OF_MEMORY = (
    "out of memory; use a smaller batch size, load the model in 4 or 8 bits, or allow fewer tokens per row"
)
_MB = 1 << 20


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# --- errors that no stage raises itself


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


def describe_os_error(error: OSError) -> str:
    """One line: the path, the reason, and what to do."""
    path = str(error.filename) if error.filename else None
    if path is None and error.errno in _DISK_IS_FULL:
        # A library wrote it, and did not say where: most likely below the home.
        path = _home()
    where = f"{path}: " if path else ""
    reason = error.strerror or _first_line(error)
    if error.errno in _DISK_IS_FULL:
        return f"{where}{reason}{_free_space(path)}; make room, or set FACTUALITY_HOME to another disk"
    if error.errno in _NOT_ALLOWED:
        return f"{where}{reason}; choose a place that you may read and write, or set FACTUALITY_HOME to one"
    if error.errno in _IS_LOST:
        return f"{where}{reason}; check that this drive is connected, then rerun the same command"
    return f"{where}{reason}"


def _system_error(error: BaseException) -> OSError | None:
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


def _is_own(module: str | None) -> bool:
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
    return f"a package cannot be imported ({_first_line(error):.200}); install it with `{command}`"


def _describe(error: BaseException) -> tuple[str, int] | None:
    """(message, exit code) of an error that is no bug; None for a bug."""
    if isinstance(error, StageError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        # The shell's own code for a command that SIGINT ended: 128 + 2.
        return str(error) or _INTERRUPTED, 130
    if isinstance(error, OSError):
        return f"error: {describe_os_error(error)}", 1
    if isinstance(error, ImportError) and not _is_own(error.name):
        return f"error: {describe_import_error(error)}", 1
    if is_out_of_memory(error):
        return f"error: {_OUT_OF_MEMORY} ({_first_line(error):.80})", 1
    if of_disk := _system_error(error):
        return f"error: {describe_os_error(of_disk)}", 1
    return None


def _end(error: BaseException) -> None:
    """Print an expected error as one line and exit with its code; returns for a bug."""
    if isinstance(error, BrokenPipeError):
        # `| head` has read enough. Closing stderr keeps Python from reporting the broken pipe at exit.
        sys.stderr.close()
        sys.exit(1)
    described = _describe(error)
    if described is None:
        return
    message, code = described
    if os.environ.get("FACTUALITY_DEBUG"):
        traceback.print_exception(error)
    # Ctrl-C reaches every process of a launch; one of them says what to do.
    if code != 130 or is_first_process():
        print(message, file=sys.stderr)
    sys.exit(code)


def _on_uncaught(kind, error, trace) -> None:
    """The process's excepthook: errors while a script imports are told like those of its run."""
    _end(error)
    sys.__excepthook__(kind, error, trace)


def tell_errors_in_one_line() -> None:
    """From here on, an expected error that nothing catches is one line, also during imports."""
    # A debugger or a notebook has a hook of its own.
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _on_uncaught


# --- start and end


def _quiet_libraries() -> None:
    """Keep the model libraries from printing while they are imported. Set variables win."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Each attempt to reach the hub would be two lines; the error at the end says enough.
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    # It offers to install kernels for 4-bit passes on a CPU, even where nothing is loaded in 4 bits.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def before_imports(check: Callable[[], object], trains: bool = False) -> None:
    """Run a script's checks of its command line. A mistake, or --help, ends the process here.

    A script that `trains` begins again with a better malloc, where there is one (utils/allocator.py).
    Also decides how the process ends from here on: SIGTERM takes the path of Ctrl-C, and an expected error is
    one line even during the imports that follow.
    """
    # Before anything is said, which would be said twice.
    if trains:
        restart_with_jemalloc()
    # `kill` and a job scheduler's time limit send SIGTERM.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    tell_errors_in_one_line()
    _quiet_libraries()
    check()


def _leave_launch() -> None:
    """End this process of an `accelerate launch`, whose work is done, without taking Python down first.

    Threads of torch.distributed outlive the work. One that needs Python while it goes down is stopped in the
    middle, which aborts the process ("terminate called without an active exception"). Two launches of one CI
    run ended so, and the launcher then reports a failure of what has succeeded.
    """
    # What Python would have done: they close the connections to the other processes, in order.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def run_main(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage's `main` on the command line's arguments, and exit with the code of its error.

    An expected error (StageError, OSError, a missing package, an interrupt) prints one line; with
    FACTUALITY_DEBUG set, its traceback too. Any other exception keeps its traceback: it is a bug.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(None)
        if process_count() > 1:
            _leave_launch()
    except BaseException as error:
        _end(error)
        raise
