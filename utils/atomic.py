"""Files that are complete or absent: a temporary file that takes its name once it is whole.

It knows nothing about what is written.
"""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def full_disk_named(path: Path) -> Iterator[None]:
    """Adds the file to the error of a full disk or quota, which the system reports without one."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG) and error.filename is None:
            error.filename = str(path)
        raise


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w"):
    """Open a temporary file; on success flush, fsync and rename it to `path`, on failure leave nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process id keeps two processes that write one output from deleting each other's temporary file.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        encoding = None if "b" in mode else "utf-8"
        with full_disk_named(path), open(temporary, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
