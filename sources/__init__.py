"""The data sources: one reader per data set, raw file -> records (`evidence.records.Record`).

A reader is `read_records(path, official_split, on_bad)`: it yields one record per row and hands the
description of a malformed row to `on_bad`, which raises or counts it. Readers verify nothing; support is
found in evidence/.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Record
from sources import fever, hotpotqa, nq_open, own, popqa

Reader = Callable[[Path, str, Callable[[str], None]], Iterator[Record]]

# A new source is one module with `read_records` and one line here (CONTRIBUTING.md).
READERS: dict[str, Reader] = {
    "fever": fever.read_records,
    "hotpotqa": hotpotqa.read_records,
    "nq_open": nq_open.read_records,
    "popqa": popqa.read_records,
}


def reader_of(source: str) -> Reader:
    """The reader of a source; a name that is not in the table is one of the user's own sources."""
    return READERS.get(source) or functools.partial(own.read_records, source=source)
