"""Progress of long loops: a bar in a terminal or a notebook, plain lines in a log file.

A log file gets a line after 30 seconds without one, with done/total, rate and time left and no control
characters. Of several processes the first one reports. This module knows nothing about what is done.
"""

import contextlib
import io
import os
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

from utils.launch import is_first_process, process_count
from utils.terminal import literal

LOG_SECONDS = 30
# A bar over the bytes of a smaller file would be gone before it is seen.
_MIN_WATCHED_BYTES = 4 << 20
# A terminal shows no bar of a loop that ends sooner, where a first step is quick.
_DELAY_SECONDS = 1
_LOG_FORMAT = "{desc}: {n_fmt}/{total_fmt} ({rate_fmt}), {elapsed} so far, {remaining} left"
_LOG_FORMAT_OPEN = "{desc}: {n_fmt} ({rate_fmt}), {elapsed} so far"

# When a line was last printed: other notes make a line about progress unnecessary.
_LAST_LINE = [0.0]


def draws_bars() -> bool:
    """True where a line can be redrawn: stderr is a terminal, or the output of a notebook's kernel."""
    return sys.stderr.isatty() or type(sys.stderr).__module__.startswith("ipykernel")


def print_line(text: str) -> None:
    """Print a line to stderr, above the bars that are being drawn; nothing in it steers the terminal."""
    _LAST_LINE[0] = time.monotonic()
    # tqdm takes long to import; before the first bar has done so, there is none in the way.
    std = sys.modules.get("tqdm.std")
    with std.tqdm.external_write_mode(sys.stderr) if std else contextlib.nullcontext():
        print(literal(text), file=sys.stderr, flush=True)


def say_in_handler(text: str) -> None:
    """Write a line to stderr from a signal handler, in the first process alone.

    A handler may run in the middle of a `print`, and Python refuses a second one then (RuntimeError).
    """
    if not is_first_process():
        return
    # Not sys.stderr, whose buffer may be in use; and whoever reads it may be gone.
    with contextlib.suppress(OSError):
        os.write(2, f"\n{literal(text)}\n".encode(errors="replace"))


class LogLines:
    """Takes the place of a bar where lines cannot be redrawn. `total` may be unknown (None)."""

    def __init__(self, total: int | None, silent: bool = False, initial: int = 0, **form):
        self.total = total
        self.silent = silent
        self.initial = initial
        # "prefix", "unit" and "unit_scale" as tqdm has them.
        self.form = form
        self.n = initial
        self.started = time.monotonic()

    def __enter__(self) -> "LogLines":
        return self

    def __exit__(self, *exc) -> None:
        self.close()

    def close(self) -> None:
        """Nothing is left to clear."""

    def update(self, n: int = 1) -> None:
        self.n += n
        now = time.monotonic()
        if now - max(self.started, _LAST_LINE[0]) >= LOG_SECONDS and not self.silent:
            print_line(self.line(now - self.started))

    def line(self, elapsed: float) -> str:
        from tqdm.std import tqdm

        line = tqdm.format_meter(
            self.n,
            self.total,
            elapsed,
            initial=self.initial,
            bar_format=_LOG_FORMAT if self.total else _LOG_FORMAT_OPEN,
            **self.form,
        )
        # Rates are padded to one width, for bars.
        return line.replace("( ", "(")


def progress(
    total: int | None, what: str, unit: str, scaled: bool = False, delay: float = 0, initial: int = 0
) -> Any:
    """A context manager with `update(n)`: a bar with rate and time left, or lines in a log file.

    `unit` in the singular; `scaled` writes 1.2M for 1200000; a bar shows after `delay` seconds; `initial`
    of the total were done before.
    """
    # A file's name can contain anything.
    what = literal(what)
    n_processes = process_count()
    share = f" (process 1 of {n_processes})" if n_processes > 1 else ""
    is_first = is_first_process()
    if not is_first or not draws_bars():
        form = {"prefix": what + share, "unit": unit, "unit_scale": scaled}
        return LogLines(total, silent=not is_first, initial=initial, **form)
    # A widget in a notebook that has ipywidgets, else a line of text.
    from tqdm.auto import tqdm

    form = {"desc": what + share, "unit": unit, "unit_scale": scaled}
    return tqdm(total=total, delay=delay, initial=initial, dynamic_ncols=True, **form)


def track(items: Iterable, what: str, unit: str, total: int | None = None) -> Iterator:
    """The items, with progress on those that are done. `total`: their number, if they cannot tell it."""
    if total is None and isinstance(items, Sized):
        total = len(items)
    with progress(total, what, unit, delay=_DELAY_SECONDS) as bar:
        for item in items:
            yield item
            bar.update(1)


class _WatchedFile(io.FileIO):
    """A file whose bytes count as progress when they are read."""

    def __init__(self, path: Path, n_bytes: int):
        super().__init__(path)
        self._left = n_bytes
        self._bar = progress(n_bytes, f"reading {path.name}", "B", scaled=True, delay=_DELAY_SECONDS)

    def readinto(self, buffer) -> int | None:
        n = super().readinto(buffer)
        # A zip's directory is read twice, and no file may look longer than it is.
        counted = min(n or 0, self._left)
        self._left -= counted
        self._bar.update(counted)
        return n

    def close(self) -> None:
        if not self.closed:
            self._bar.close()
        super().close()


def open_watched(path: Path) -> io.BufferedReader:
    """The file opened to read bytes. For a large one, progress shows how much was read."""
    n_bytes = path.stat().st_size
    raw = _WatchedFile(path, n_bytes) if n_bytes >= _MIN_WATCHED_BYTES else io.FileIO(path)
    return io.BufferedReader(raw, 1 << 20)
