"""The ids of a source's rows: a row's identity is source, file and id.

Ids that start again in each file are told apart. Rows that ask the same are dropped in `repeats.py`.
"""

import dataclasses
from pathlib import Path

from evidence.records import Record, twin_id


class RowIds:
    """The ids that a source's rows have so far."""

    def __init__(self) -> None:
        self.n_renamed = 0
        self._taken: set[str] = set()

    def distinct(self, record: Record, path: Path) -> Record:
        """The record, with an id that no earlier one has.

        The first row with an id keeps it. Another one gets the file's name added, so ids do not change when a
        file is added. An id is also taken if it is that of another row's twin, as in the rows of an earlier
        build.
        """
        row_id = record.id
        if not self._is_free(row_id):
            self.n_renamed += 1
            row_id = self._free_id(f"{record.id}@{path.name.split('.')[0]}")
        self._taken |= {row_id, twin_id(row_id)}
        return dataclasses.replace(record, id=row_id)

    def _is_free(self, row_id: str) -> bool:
        return self._taken.isdisjoint((row_id, twin_id(row_id)))

    def _free_id(self, wanted: str) -> str:
        """The wanted id or, if it is taken, the first of `wanted#2`, `wanted#3`, ... that is not."""
        row_id = wanted
        n = 1
        while not self._is_free(row_id):
            n += 1
            row_id = f"{wanted}#{n}"
        return row_id
