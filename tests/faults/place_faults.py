"""Faults of the place that a stage writes to, for one process: tests/faults/fault_server.py turns them on."""

import errno
import fcntl
import os
import random
import resource
import sys
import time

# What changes a file or a folder. A file that is opened for reading changes nothing.
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.truncate", "os.link", "os.symlink"}


def file_size_limit(n_bytes: int) -> None:
    """No file may become larger."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, n_bytes))


def fail_change(folder: str, last: int, name: str) -> None:
    """From the `last`-th change of a file below a folder on, each fails with the error of this name."""
    number = getattr(errno, name)
    n_seen = 0

    def hook(event: str, args: tuple) -> None:
        nonlocal n_seen
        is_writing = event == "open" and isinstance(args[2], int) and args[2] & (os.O_WRONLY | os.O_RDWR)
        if not is_writing and event not in CHANGES:
            return
        # What is deleted needs no room.
        if not str(args[0]).startswith(folder) or event == "os.remove":
            return
        n_seen += 1
        if n_seen >= last:
            raise OSError(number, os.strerror(number), str(args[0]))

    sys.addaudithook(hook)


# --- what network drives do not do


def _refuse(name: str, path: object = None) -> OSError:
    number = getattr(errno, name)
    return OSError(number, os.strerror(number), str(path) if path else None)


def no_locks(name: str) -> None:
    """The file system has no locks."""

    def refuse(*args) -> None:
        raise _refuse(name)

    fcntl.flock = refuse
    fcntl.lockf = refuse


def no_sync(name: str) -> None:
    """The file system cannot say that a file has reached the disk."""

    def refuse(*args) -> None:
        raise _refuse(name)

    os.fsync = refuse


def no_folder_rename(name: str) -> None:
    """A folder cannot be renamed, as in object stores, and in lower layers of overlays (EXDEV)."""
    original = os.rename

    def rename(source, target, **settings) -> None:
        if os.path.isdir(source):
            raise _refuse(name, source)
        original(source, target, **settings)

    os.rename = rename


def no_replacing(name: str) -> None:
    """A file cannot take the name of one that is there."""
    rename = os.rename
    replace = os.replace

    def refuse_existing(original):
        def move(source, target, **settings) -> None:
            if os.path.lexists(target):
                raise _refuse(name, target)
            original(source, target, **settings)

        return move

    os.rename = refuse_existing(rename)
    os.replace = refuse_existing(replace)


def no_links_and_modes(name: str) -> None:
    """There are no links, modes or times to set."""

    def refuse(path, *args, **settings) -> None:
        raise _refuse(name, path)

    for each in ("link", "symlink", "chmod", "utime", "setxattr"):
        setattr(os, each, refuse)


def slow_listing(seconds: float) -> None:
    """A folder's listing shows a new file some seconds after it was made; its name alone finds it at once."""
    scandir = os.scandir
    started = time.time()
    # Number of a file -> when it was new: the time of its last change is all that is known of it.
    births: dict[int, float] = {}

    def is_shown(entry) -> bool:
        found = entry.stat(follow_symlinks=False)
        born = births.setdefault(found.st_ino, found.st_ctime)
        return born < started or time.time() - born >= seconds

    class Listing:
        def __init__(self, path="."):
            self._entries = scandir(path)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self._entries.close()

        def close(self) -> None:
            self._entries.close()

        def __iter__(self):
            return filter(is_shown, self._entries)

        def __next__(self):
            return next(iter(self))

    os.scandir = Listing
    os.listdir = lambda path=".": [entry.name for entry in Listing(path)]


def shuffled_listing(seed: int) -> None:
    """A folder lists its files in another order."""
    scandir = os.scandir
    rng = random.Random(seed)

    class Listing:
        def __init__(self, path="."):
            with scandir(path) as entries:
                found = list(entries)
            rng.shuffle(found)
            self._entries = iter(found)

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def close(self) -> None:
            pass

        def __iter__(self):
            return self

        def __next__(self):
            return next(self._entries)

    os.scandir = Listing
    os.listdir = lambda path=".": [entry.name for entry in Listing(path)]
