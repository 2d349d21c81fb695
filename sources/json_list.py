"""Reads a JSON list of objects one row at a time, because raw files of this layout can be larger than memory.

It knows nothing about what the rows mean; the readers of the sources do.
"""

import codecs
import re
from collections.abc import Iterator
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import MAX_LINE_BYTES, STRICT_JSON, open_bytes

_READ_CHARS = 1 << 20
_BETWEEN_ROWS = re.compile(r"[\s,]*")


def _skip_separator(buffer: str, place: int) -> int:
    """The first position from `place` on that is neither white space nor a comma."""
    match = _BETWEEN_ROWS.match(buffer, place)
    return match.end() if match else place


def _rows(text: codecs.StreamReader) -> Iterator[dict]:
    """The rows of an open list. ValueError where the text is no JSON list."""
    buffer = text.read(_READ_CHARS).lstrip()
    if not buffer.startswith("["):
        raise ValueError("it does not start with [")

    place = 1
    while True:
        place = _skip_separator(buffer, place)
        if place < len(buffer) and buffer[place] == "]":
            return
        try:
            row, place = STRICT_JSON.raw_decode(buffer, place)
        except ValueError:
            # The row may continue beyond the buffer. One longer than any real row is damage, and would fill
            # memory.
            more = text.read(_READ_CHARS)
            if not more or len(buffer) - place > MAX_LINE_BYTES:
                raise
            buffer = buffer[place:] + more
            place = 0
            continue
        yield row


def read_json_list(path: str | Path) -> Iterator[tuple[int, dict]]:
    """(row number from 1, row) of a JSON list of objects, .json or .json.gz, in constant memory.

    DataError names the first row that cannot be parsed.
    """
    number = 0
    with open_bytes(path) as handle:
        try:
            for row in _rows(codecs.getreader("utf-8")(handle)):
                number += 1
                yield number, row
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: row {number + 1} is not valid JSON ({error}); expected a JSON list of objects"
            ) from error
