"""The record beside a lock: which run has it (host, process, start, command), and its last sign of life.

`utils/locks.py` decides with it whom a lock keeps out. This module knows nothing about the system's locks.
"""

import contextlib
import os
import shlex
import socket
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

from utils.atomic import disk_errors_named
from utils.errors import DataError
from utils.jsonl import dump_row, read_json_object, write_json

_BEAT_SECONDS = 20
# A run on another machine without a sign of life for this long was killed, or its machine is gone.
_STALE_SECONDS = 120
# A command of this many characters is enough to recognize it.
_MAX_COMMAND = 160
# Seconds to wait for the record of a run that has just taken the lock.
_WAIT_FOR_RECORD = 3


def _is_elsewhere(record: dict) -> bool:
    return record["host"] != socket.gethostname()


def _is_fresh(record: dict) -> bool:
    return time.time() - record["seen"] < _STALE_SECONDS


def is_alive(pid: int) -> bool:
    """Whether a process of this machine exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        # It belongs to another user.
        return True
    return True


def _own_command() -> str:
    """The command of this process, cut at a word if it is long."""
    command = shlex.join(["python", Path(sys.argv[0]).name, *sys.argv[1:]])
    return textwrap.shorten(command, _MAX_COMMAND, placeholder=" ...", break_on_hyphens=False)


class LockRecord:
    """The record file at `path`, and what this process writes there while it has the lock."""

    def __init__(self, path: Path):
        self.path = path
        self.own = {
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
            "command": _own_command(),
            # Tells this record from any other, also of the same process.
            "token": uuid.uuid4().hex,
        }
        self._is_over = threading.Event()
        self._heart: threading.Thread | None = None

    # --- as it is on disk

    def _read(self) -> dict:
        """The record of whoever has the lock; empty if there is none, or if it is just being written."""
        try:
            return read_json_object(self.path)
        except DataError:
            return {}

    def is_ours(self) -> bool:
        return self._read().get("token") == self.own["token"]

    def is_of_living_neighbor(self) -> bool:
        """Whether a run on another machine has it that gave a sign of life a short time ago."""
        record = self._read()
        return bool(record) and _is_elsewhere(record) and _is_fresh(record)

    def is_of_dead_run(self) -> bool:
        """Whether the run that wrote it is over, as far as can be known from here."""
        record = self._read()
        if record and not _is_elsewhere(record):
            return not is_alive(record["pid"])
        if record:
            return not _is_fresh(record)
        # It is being written, or a kill tore it: then it gets no sign of life. Or it was removed just now.
        with contextlib.suppress(FileNotFoundError):
            return not _is_fresh({"seen": self.path.stat().st_mtime})
        return False

    def describe(self) -> str:
        """The run that has the lock and, if it may be over, what to do then."""
        record = self._read()
        # A run that took the lock this moment writes its record next: it is waited for, to be named.
        given_up = time.monotonic() + _WAIT_FOR_RECORD
        while not record and time.monotonic() < given_up:
            time.sleep(0.05)
            record = self._read()
        if not record:
            return "another run that is just starting"
        who = f"process {record['pid']} on {record['host']}, started {record['started']}: {record['command']}"
        if not _is_elsewhere(record):
            # The system's lock of a dead process is free, unless a child inherited it.
            is_over = not is_alive(record["pid"])
            return f"{who} (it is over, but a process that it started is not)" if is_over else who
        age = time.time() - record["seen"]
        return f"{who} (last sign of life {age:.0f} s ago; if that run is over, delete {self.path})"

    # --- as this process writes it

    def _now(self) -> dict:
        return self.own | {"seen": time.time()}

    def create(self) -> bool:
        """Write the record if there is none. Of several processes one succeeds, on every file system."""
        is_made = False
        try:
            with disk_errors_named(self.path), open(self.path, "x", encoding="utf-8") as handle:
                is_made = True
                handle.write(dump_row(self._now()))
        except FileExistsError:
            return False
        except OSError:
            # An empty record would keep the next run out for minutes.
            if is_made:
                self.path.unlink(missing_ok=True)
            raise
        return True

    def write(self) -> None:
        """Write the record in place of any other."""
        write_json(self.path, self._now())

    def keep_fresh(self) -> None:
        """Give signs of life until `remove`."""
        self._heart = threading.Thread(target=self._beat, daemon=True)
        self._heart.start()

    def _beat(self) -> None:
        while not self._is_over.wait(_BEAT_SECONDS):
            # A failed beat is no reason to end the run; the next one may succeed.
            with contextlib.suppress(OSError):
                # As text: a synchronized drive may not pass on the time of a file.
                if self.is_ours():
                    self.write()

    def remove(self) -> None:
        self._is_over.set()
        if self._heart:
            self._heart.join()
        if self.is_ours():
            self.path.unlink(missing_ok=True)
