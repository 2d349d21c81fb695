"""How a stage's process starts and ends: mistakes in the flags first, every expected error as one line.

A script calls `before_imports` between its flags and the imports that take seconds (torch, transformers), and
`run_main` at its end. This module knows nothing about what a stage does.
"""

import atexit
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable

from utils.allocator import restart_with_jemalloc
from utils.errors import StageError, Terminated, is_out_of_memory
from utils.launch import is_first_process, process_count
from utils.system_errors import (
    describe_import_error,
    describe_os_error,
    disk_error,
    first_line,
    is_own_module,
)
from utils.terminal import guard_stdout, literal

_INTERRUPTED = "interrupted: finished work is saved; rerun the same command to continue"
_OUT_OF_MEMORY = (
    "out of memory; use a smaller batch size, load the model in 4 or 8 bits, or allow fewer tokens per row"
)


# --- errors that no stage raises itself


def _describe(error: BaseException, interrupted: str) -> tuple[str, int] | None:
    """(message, exit code) of an error that is no bug; None for a bug."""
    if isinstance(error, StageError):
        return f"error: {error}", error.exit_code
    if isinstance(error, KeyboardInterrupt):
        # The shell's own codes for a command that a signal ended, which schedulers know: 128 + its number.
        number = signal.SIGTERM if isinstance(error, Terminated) else signal.SIGINT
        return str(error) or interrupted, 128 + number
    if isinstance(error, OSError):
        return f"error: {describe_os_error(error)}", 1
    if isinstance(error, ImportError) and not is_own_module(error.name):
        return f"error: {describe_import_error(error)}", 1
    if is_out_of_memory(error):
        return f"error: {_OUT_OF_MEMORY} ({first_line(error):.80})", 1
    if of_disk := disk_error(error):
        return f"error: {describe_os_error(of_disk)}", 1
    return None


def _end(error: BaseException, interrupted: str = _INTERRUPTED) -> None:
    """Print an expected error as one line and exit with its code; returns for a bug."""
    if isinstance(error, BrokenPipeError):
        # `| head` has read enough. Closing stderr keeps Python from reporting the broken pipe at exit.
        sys.stderr.close()
        sys.exit(1)
    described = _describe(error, interrupted)
    if described is None:
        return
    message, code = described
    if os.environ.get("FACTUALITY_DEBUG"):
        traceback.print_exception(error)
    # Ctrl-C reaches every process of a launch; one of them says what to do.
    if not isinstance(error, KeyboardInterrupt) or is_first_process():
        # It may quote a file of others.
        print(literal(message), file=sys.stderr)
    sys.exit(code)


def _on_sigterm(number, frame):
    raise Terminated


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
    signal.signal(signal.SIGTERM, _on_sigterm)
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


def run_main(main: Callable[[list[str] | None], None], interrupted: str = _INTERRUPTED) -> None:
    """Run a stage's `main` on the command line's arguments, and exit with the code of its error.

    An expected error (StageError, OSError, a missing package, an interrupt) prints one line; with
    FACTUALITY_DEBUG set, its traceback too. Any other exception keeps its traceback: it is a bug.
    `interrupted`: what is said at Ctrl-C and SIGTERM by a stage that has no work to continue.
    """
    signal.signal(signal.SIGTERM, _on_sigterm)
    guard_stdout()
    try:
        main(None)
        if process_count() > 1:
            _leave_launch()
    except BaseException as error:
        _end(error, interrupted)
        raise
