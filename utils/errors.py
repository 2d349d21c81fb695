"""Errors that end a stage: a one-line message with the cause and the next step, and an exit code."""

import errno
import signal
import sys
from collections.abc import Callable

# Errors of the place where a stage writes, and no bugs.
_PLACE_ERRORS = frozenset(
    (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST)
)


class StageError(Exception):
    """The run failed (exit 1)."""

    exit_code = 1


class UsageError(StageError):
    """A flag, a YAML key or a directory made with other settings is in the way (exit 2)."""

    exit_code = 2


class DataError(StageError):
    """An input is bad or missing (exit 3)."""

    exit_code = 3


def run_main(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage's `main` on the command line's arguments, and exit with the code of its error.

    A StageError prints one line. Any other exception keeps its traceback: it is a bug, not a user's mistake.
    """
    # `kill` and a job scheduler's time limit send SIGTERM; they then take the same path as Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(None)
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted: finished work is saved; rerun the same command to continue", file=sys.stderr)
        # The shell's own code for a command that SIGINT ended: 128 + 2.
        sys.exit(130)
    except BrokenPipeError:
        # `| head` has read enough. Closing stderr keeps Python from reporting the broken pipe at exit.
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.errno not in _PLACE_ERRORS:
            raise
        place = f"{error.filename}: " if error.filename else ""
        print(f"error: {place}{error.strerror}; make room there, or choose another place", file=sys.stderr)
        sys.exit(1)
