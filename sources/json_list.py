"""Rows of a JSON list or of JSON lines, one at a time, because raw files can be larger than memory.

It knows nothing about what the rows mean; the readers of the sources do.
"""

import codecs
import itertools
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeVar

from utils.errors import DataError
from utils.jsonl import MAX_LINE_BYTES, open_bytes, read_jsonl, without_mark
from utils.strict_json import decode_anything

_READ_CHARS = 1 << 20
_SPACE = " \t\r\n"
_LIST_OF_OBJECTS = re.compile(rb"\[\s*(\{|$)")
Parsed = TypeVar("Parsed")


def _undecoded(text: str) -> str:
    """The first byte of a text that is no UTF-8, as a message; empty if there is none."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        # `surrogateescape` reads the byte 0x80 as U+DC80, and so on.
        return f"not UTF-8, byte 0x{ord(text[error.start]) - 0xDC00:x}"
    return ""


class _Text:
    """The text of an open list, of which only the part in use is in memory."""

    def __init__(self, reader: codecs.StreamReader):
        self._reader = reader
        self.buffer = ""
        self.place = 0
        self.line = 1

    def grow(self) -> bool:
        """Read more behind the current place; False at the end of the file."""
        more = self._reader.read(_READ_CHARS)
        self.buffer = self.buffer[self.place :] + more
        self.place = 0
        return bool(more)

    def move(self, end: int) -> None:
        """Go to `end` in the buffer."""
        self.line += self.buffer.count("\n", self.place, end)
        self.place = end

    def next_char(self) -> str:
        """Skip white space and return the next character, still to be read; empty at the end of the file."""
        while True:
            end = self.place
            while end < len(self.buffer) and self.buffer[end] in _SPACE:
                end += 1
            self.move(end)
            if end < len(self.buffer):
                return self.buffer[end]
            if not self.grow():
                return ""

    def take(self, wanted: str) -> None:
        """Read one of the wanted characters. ValueError for another."""
        char = self.next_char()
        if not char or char not in wanted:
            found = repr(self.buffer[self.place :][:20]) if char else "the end of the file"
            raise ValueError(f"expected {' or '.join(wanted)}, found {found}")
        self.place += 1

    def value(self) -> tuple[object, str]:
        """(the next value, what is wrong with it). ValueError where no value can be read at all."""
        self.next_char()
        while True:
            value, end, problem = decode_anything(self.buffer, self.place)
            # A value that ends with the buffer may be a number that continues behind it.
            if end is not None and end < len(self.buffer):
                problem = problem or _undecoded(self.buffer[self.place : end])
                self.move(end)
                return value, problem
            # One longer than any real row is damage, and would fill memory.
            if len(self.buffer) - self.place > MAX_LINE_BYTES:
                raise ValueError(problem or "a value without an end")
            if not self.grow():
                raise ValueError(problem or "the list is not closed")


def _rows(text: _Text, path: str | Path, on_bad: Callable[[str], None]) -> Iterator[tuple[str, dict]]:
    """The rows of an open list, each with its place. ValueError where the text is no JSON list."""
    text.take("[")
    if text.next_char() == "]":
        text.take("]")
    else:
        for number in itertools.count(1):
            text.next_char()
            where = f"{path}:{text.line}: row {number}"
            row, problem = text.value()
            if problem:
                on_bad(f"{where}: not a JSON object ({problem})")
            elif isinstance(row, dict):
                yield where, row
            else:
                on_bad(f"{where}: expected a JSON object, found {type(row).__name__}")
            text.take(",]")
            if text.buffer[text.place - 1] == "]":
                break
    if text.next_char():
        raise ValueError(f"more text after the end of the list: {text.buffer[text.place :][:20]!r}")


def _read_list(path: str | Path, on_bad: Callable[[str], None]) -> Iterator[tuple[str, dict]]:
    """The rows of a JSON list, in constant memory; DataError where the rest of the file cannot be read."""
    with open_bytes(path) as handle:
        # Other bytes than UTF-8 are kept until it is known which row they are in.
        text = _Text(codecs.getreader("utf-8-sig")(handle, "surrogateescape"))
        try:
            yield from _rows(text, path, on_bad)
        except ValueError as error:
            raise DataError(
                f"{path}:{text.line}: not a JSON list of objects ({error}); rebuild or download the file"
            ) from error


def _is_open(line: bytes) -> bool:
    """Whether a file's first line begins an object that continues on the next line."""
    if not line.startswith(b"{") or not line.endswith((b"{", b"[", b",")):
        return False
    _, end, _ = decode_anything(line.decode("utf-8", "replace"), 0)
    return end is None


def _is_list(path: str | Path) -> bool:
    """Whether a file contains one JSON list: its beginning tells.

    In a .jsonl file, a list of other values than objects is a bad row. DataError for one object over several
    lines.
    """
    if Path(path).name.lower().removesuffix(".gz").endswith((".csv", ".tsv")):
        problem = "found a table (CSV or TSV), which this source does not read"
        raise DataError(f"{path}:1: {problem}; write its rows as JSON lines")
    with open_bytes(path) as handle:
        head = without_mark(handle.read(_READ_CHARS), str(path)).lstrip()
    # Read as lines, each line of it would count as a malformed row.
    if _is_open(head.split(b"\n", 1)[0].strip()):
        problem = "one JSON object over several lines, such as a raw SQuAD file"
        raise DataError(f"{path}:1: {problem}; write its rows as a JSON list, or one per line")
    is_lines = Path(path).name.removesuffix(".gz").endswith(".jsonl")
    return bool(_LIST_OF_OBJECTS.match(head)) if is_lines else head.startswith(b"[")


def all_rows(path: str | Path, on_bad: Callable[[str], None]) -> Iterator[tuple[str, dict]]:
    """(`file:line`, row) of the objects in a JSON list or in JSON lines."""
    if _is_list(path):
        yield from _read_list(path, on_bad)
        return
    for number, row in read_jsonl(path, on_bad):
        yield f"{path}:{number}", row


def never_empty(
    path: str | Path,
    on_bad: Callable[[str], None],
    read: Callable[[Callable[[str], None]], Iterator[Parsed]],
    what: str = "rows",
) -> Iterator[Parsed]:
    """What `read(on_bad)` yields. DataError for a file without any row, be it good or bad.

    `what`: what its rows are, for the message.
    """
    is_empty = True

    def counted(problem: str) -> None:
        nonlocal is_empty
        is_empty = False
        on_bad(problem)

    for row in read(counted):
        is_empty = False
        yield row
    if is_empty:
        raise DataError(f"{path}: the file has no {what}; remove it from the sources config, or fill it")


def read_rows(path: str | Path, on_bad: Callable[[str], None]) -> Iterator[tuple[str, dict]]:
    """(place, row) of the objects in a JSON list or in JSON lines, also as .gz; the place is `file:line`.

    A row that is no object goes to `on_bad` with its place. DataError for a file that is damaged or has no
    row at all.
    """
    return never_empty(path, on_bad, lambda counted: all_rows(path, counted))


def parse_rows(
    path: str | Path, on_bad: Callable[[str], None], parse: Callable[[dict], Parsed], problem: str
) -> Iterator[Parsed]:
    """What `parse` makes of each row of `read_rows`.

    A row for which it raises a ValueError goes to `on_bad`: its place, `problem` and the error.
    """
    for where, row in read_rows(path, on_bad):
        try:
            parsed = parse(row)
        except ValueError as error:
            on_bad(f"{where}: {problem}: {error}")
            continue
        yield parsed
