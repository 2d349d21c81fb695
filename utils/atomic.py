"""Files that are complete or absent: a temporary file that takes its name once it is whole.

It knows nothing about what is written.
"""

import contextlib
import errno
import functools
import hashlib
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from utils.errors import StageError

# Errors that the system reports without the file.
_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ESTALE, errno.ENOTCONN)
# What a network drive answers that cannot do what it is asked.
CANNOT = (errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS)


@functools.cache
def own_host() -> str:
    """A name for this machine in the names of files: eight characters, none of them special."""
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]


@contextlib.contextmanager
def disk_errors_named(path: Path) -> Iterator[None]:
    """Adds the file to the error of a full disk, a quota or a lost drive."""
    try:
        yield
    except OSError as error:
        if error.errno in _OF_DISK and error.filename is None:
            error.filename = str(path)
        raise


def sync_file(handle: IO) -> None:
    """Wait until a file has reached the disk, where the file system can tell."""
    try:
        os.fsync(handle.fileno())
    except OSError as error:
        if error.errno not in (*CANNOT, errno.EINVAL):
            raise


def _take_name(temporary: Path, path: Path) -> None:
    """Rename a file. StageError where the file system cannot replace one that is there."""
    try:
        os.replace(temporary, path)
    except OSError as error:
        # What is asked of it is legal: both are files in one folder.
        if error.errno not in (*CANNOT, errno.EEXIST, errno.EXDEV):
            raise
        raise StageError(
            f"{path}: this file system cannot replace a file in one step ({error.strerror}); set "
            "FACTUALITY_HOME to a local disk, and copy what is complete from there"
        ) from error


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w"):
    """Open a temporary file; on success flush, fsync and rename it to `path`, on failure leave nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Two processes that write one output must not delete each other's temporary file, also of two machines.
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{own_host()}.tmp")
    try:
        encoding = None if "b" in mode else "utf-8"
        with disk_errors_named(path), open(temporary, mode, encoding=encoding) as handle:
            yield handle
            handle.flush()
            sync_file(handle)
        _take_name(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
