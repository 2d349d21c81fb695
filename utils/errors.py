"""What a stage says when it stops: one line that names the thing and the next step, and an exit code."""

import signal
import sys
from collections.abc import Callable


class StageError(Exception):
    """The run failed (exit 1)."""

    exit_code = 1


class UsageError(StageError):
    """A flag, a YAML key or a directory's settings do not fit (exit 2)."""

    exit_code = 2


class DataError(StageError):
    """An input is bad or missing (exit 3)."""

    exit_code = 3


def run_main(main: Callable[[list[str] | None], None]) -> None:
    """Run a stage: SIGTERM counts as an interrupt, a StageError prints its line and sets the exit code."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        main(None)
    except StageError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept; run the same command again to go on", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
