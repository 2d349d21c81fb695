"""The ids of a source's rows: a row's identity is source, file and id.

Ids that start again in each file are told apart. Rows that ask the same are dropped in `repeats.py`.
"""

import dataclasses
from pathlib import Path

from evidence.records import Record


class RowIds:
    """The ids that a source's rows have so far."""

    def __init__(self) -> None:
        self.n_renamed = 0
        self._taken: set[str] = set()

    def distinct(self, record: Record, path: Path) -> Record:
        """The record, with an id that no earlier one has.

        The first row with an id keeps it. Another one gets the file's name added, so ids do not change when a
        file is added.
        """
        row_id = record.id
        if row_id in self._taken:
            self.n_renamed += 1
            row_id = self._free_id(f"{record.id}@{path.name.split('.')[0]}")
        self._taken.add(row_id)
        return dataclasses.replace(record, id=row_id)

    def _free_id(self, wanted: str) -> str:
        """The wanted id or, if it is taken, the first of `wanted#2`, `wanted#3`, ... that is not."""
        row_id = wanted
        n = 1
        while row_id in self._taken:
            n += 1
            row_id = f"{wanted}#{n}"
        return row_id
