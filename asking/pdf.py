"""The bytes of a PDF -> the text of each page, in bounded time and memory.

asking/pdf_child.py reads it, in a process of its own. This module knows the limits and what a user is told;
it knows nothing about PDF.
"""

import importlib.util
import json
import signal
import subprocess
import sys
from pathlib import Path

from utils.errors import DataError, StageError

_INSTALL = "reading PDF needs pypdf; run `pip install -c constraints.txt pypdf`"
_CHILD = Path(__file__).with_name("pdf_child.py")

# A page of text takes 10 to 30 ms and some kilobytes of the file, so a book of 1,000 pages has several times
# what it needs.
SECONDS = 60
_SECONDS_PER_MB = 30
MAX_SECONDS = 600
# Ordinary files of 50 MB need some hundred megabytes.
MEGABYTES = 2048
# The text of a file can have as many characters as any file bytes.
MAX_CHARS = 50 << 20
# The child ends itself; where it cannot, it is ended this many seconds later.
_GRACE = 10

_RULES = {
    "locked": "is protected by a password; save a copy without it",
    "large": f"has over {MAX_CHARS >> 20} million characters of text; split it",
    "memory": f"needs over {MEGABYTES >> 10} GB of memory; open and save it again, or split it",
}


def _seconds_for(data: bytes) -> int:
    return min(SECONDS + _SECONDS_PER_MB * (len(data) >> 20), MAX_SECONDS)


def _run_child(data: bytes, seconds: int) -> tuple[list[bytes], bool]:
    """(lines that the child wrote, whether it ended because its time was over)."""
    limits = [str(number) for number in (seconds, MEGABYTES, MAX_CHARS)]
    command = [sys.executable, str(_CHILD), *limits]
    try:
        done = subprocess.run(
            command,
            input=data,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=seconds + _GRACE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return [], True
    ended_by_alarm = done.returncode < 0 and done.returncode == -getattr(signal, "SIGALRM", 0)
    return done.stdout.splitlines(), ended_by_alarm


def pdf_texts(name: str, data: bytes) -> list[str]:
    """The text of each page. StageError without pypdf, DataError, one line, for a PDF that it cannot read."""
    if importlib.util.find_spec("pypdf") is None:
        raise StageError(f"{name}: {_INSTALL}")
    seconds = _seconds_for(data)
    lines, is_late = _run_child(data, seconds)
    # A text is written in quotation marks, also one that is cut.
    last = json.loads(lines[-1]) if lines and lines[-1].startswith(b"{") else {}
    ended = last.get("ended")
    if ended == "whole":
        return [json.loads(line) for line in lines[:-1]]
    if ended in _RULES:
        raise DataError(f"{name}: {_RULES[ended]}")
    if is_late:
        raise DataError(
            f"{name}: reading it takes over {seconds} seconds; open and save it again, or split it"
        )
    what = last.get("what", "its reader ended early")
    raise DataError(f"{name}: this PDF cannot be read ({what}); open and save it again")
