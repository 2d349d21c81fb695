"""The data sources: one reader per data set, raw file -> records (`evidence.records.Record`).

A reader is `read_records(path, official_split, on_bad)`: it yields one record per row and hands the
description of a malformed row to `on_bad`, which raises or counts it. Readers verify nothing; support is
found in evidence/.
"""

import difflib
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Record
from sources import clapnq, fever, fever_symmetric, fool_me_twice, hotpotqa, nq_open, own, popqa
from utils.runs import note

Reader = Callable[[Path, str, Callable[[str], None]], Iterator[Record]]

# A new source is one module with `read_records` and one line here (CONTRIBUTING.md).
READERS: dict[str, Reader] = {
    "clapnq": clapnq.read_records,
    "fever": fever.read_records,
    "fever_symmetric": fever_symmetric.read_records,
    "fool_me_twice": fool_me_twice.read_records,
    "hotpotqa": hotpotqa.read_records,
    "nq_open": nq_open.read_records,
    "popqa": popqa.read_records,
}


def reader_of(source: str) -> Reader:
    """The reader of a source; for a name that is not in the table, that of the user's own questions."""
    if source in READERS:
        return READERS[source]
    # Otherwise a new reader that is missing from the table seems to fail on the first line of its file.
    close = difflib.get_close_matches(source.lower().replace("-", "_"), READERS, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    note(f"{source}: read as your own questions (no reader has that name{hint})")
    return functools.partial(own.read_records, source=source)
