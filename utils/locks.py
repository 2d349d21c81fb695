"""One run at a time on an output: the second is told who has it, or waits where both can use the result.

The lock of an output is two hidden files beside it, so that a run may delete and replace the output: one
that the operating system frees when a process ends, however it ends; and the record of the run that has it
(`utils/lock_records.py`). Both are gone when the run is over.

The record decides in two cases. Another machine on a shared drive may not see the system's lock: there a
record counts while its sign of life is fresh. And some file systems (Google Drive in Colab, some network
drives) have no locks: there the record itself, created exclusively, is the lock.
"""

import contextlib
import errno
import glob
import os
import time
from collections.abc import Iterator
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout

from utils.atomic import own_host
from utils.errors import UsageError
from utils.lock_records import LockRecord, is_alive
from utils.runs import note

# How long a file system may take to show one process what another wrote.
_SETTLE_SECONDS = 1.0
_POLL_SECONDS = 0.5
# What a file system without locks answers.
_NO_LOCKS = (errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL)

# Folders whose missing locks were noted by this process.
_noted: set[Path] = set()


def _system_lock(path: Path) -> BaseFileLock:
    try:
        # filelock's own substitute would take the file that we created for another run's.
        return FileLock(path, fallback_to_soft=False)
    except TypeError:
        # Earlier versions of filelock have no substitute.
        return FileLock(path)


def drop_temporaries(output: Path) -> None:
    """Delete the temporary files of `utils/atomic.py` that killed processes left at an output and in it.

    Of this machine: of another one on a shared drive, nothing here tells which processes live.
    """
    name = glob.escape(output.name)
    # The second are those of the lock's record, whose own name begins with a dot.
    beside = [*output.parent.glob(f".{name}.*.tmp"), *output.parent.glob(f"..{name}.lock.json.*.tmp")]
    for path in [*beside, *output.glob(".*.tmp"), *output.glob("*/.*.tmp")]:
        process, _, host = path.name.split(".")[-2].partition("-")
        # Of a living one, another stage may be writing into a subfolder.
        if process.isdecimal() and host == own_host() and not is_alive(int(process)):
            path.unlink(missing_ok=True)


def _make_folders(folder: Path) -> list[Path]:
    """Make a folder and those above it. Returns those that were missing, the lowest first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
    return missing


class _Lock:
    """The two files of an output's lock, and what this process has of them."""

    def __init__(self, output: Path):
        # Resolved, so that a run that names its output by a link finds the same lock.
        place = output.resolve()
        self.place = place
        folder = place.parent
        # Of a mounted folder, nothing but its inside may be writable.
        if place.is_dir() and not os.access(folder, os.W_OK):
            folder = place
        self.path = folder / f".{place.name}.lock"
        self.record = LockRecord(folder / f".{place.name}.lock.json")
        self._system_lock: BaseFileLock | None = None
        self._is_held = False
        self._made_folders: list[Path] = []

    def _take_system_lock(self) -> bool:
        """False if another process has it. OSError or NotImplementedError where there are no locks."""
        while True:
            # Open during the comparison: the number of an open file is given to no other file.
            with open(self.path, "a") as handle:
                lock = _system_lock(self.path)
                try:
                    lock.acquire(timeout=0)
                except Timeout:
                    return False
                # A run deletes the file when it ends, and a lock on a deleted file keeps nobody out.
                with contextlib.suppress(FileNotFoundError):
                    if os.path.samestat(os.stat(self.path), os.fstat(handle.fileno())):
                        self._system_lock = lock
                        return True
                lock.release()

    def _take_with_system_lock(self) -> bool:
        if not self._take_system_lock():
            return False
        # On one machine the system's lock tells the truth: the record of a killed run means nothing.
        if self.record.is_of_living_neighbor():
            self._drop_system_lock()
            return False
        # From here on, whatever fails, it is ours to release.
        self._is_held = True
        self.record.write()
        return True

    def _drop_system_lock(self) -> None:
        if self._system_lock:
            self._system_lock.release()
        self._system_lock = None

    def _take_with_record(self) -> bool:
        """Take the lock of a file system without locks: it belongs to whoever creates the record."""
        folder = self.path.parent
        if folder not in _noted:
            _noted.add(folder)
            note(f"{folder} has no file locks; an exclusive file keeps other runs out instead")
        if self.record.create():
            return True
        if not self.record.is_of_dead_run():
            return False
        # Several runs may find the same dead record. The last one to replace it has the lock.
        self.record.write()
        time.sleep(_SETTLE_SECONDS)
        return self.record.is_ours()

    def take(self) -> bool:
        """Take the lock unless another run has it."""
        self._made_folders += _make_folders(self.path.parent)
        try:
            self._is_held = self._take_with_system_lock()
        except (OSError, NotImplementedError) as error:
            if isinstance(error, OSError) and error.errno not in _NO_LOCKS:
                raise
            self._is_held = self._take_with_record()
        if self._is_held:
            # It replaces itself: a file system that cannot do that is noticed now, and not after hours.
            self.record.write()
            self.record.keep_fresh()
            drop_temporaries(self.place)
        return self._is_held

    def release(self) -> None:
        if self._is_held:
            self.record.remove()
            # Deleted while it is held, so that no other run has it yet.
            self.path.unlink(missing_ok=True)
        self._drop_system_lock()
        # A run that wrote nothing leaves nothing.
        for folder in self._made_folders:
            with contextlib.suppress(OSError):
                folder.rmdir()


@contextlib.contextmanager
def output_lock(path: Path) -> Iterator[None]:
    """Have an output, a file or a directory, for oneself. UsageError that names the run that has it."""
    lock = _Lock(path)
    try:
        if not lock.take():
            holder = lock.record.describe()
            raise UsageError(f"{path} is in use by {holder}; wait until it ends, or choose another output")
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def cache_lock(path: Path) -> Iterator[None]:
    """Have a cache for oneself, once another run that fills it is done: both can use what is there then."""
    lock = _Lock(path)
    is_noted = False
    try:
        while not lock.take():
            if not is_noted:
                note(f"waiting for {path}, which is in use by {lock.record.describe()}")
            is_noted = True
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        lock.release()
