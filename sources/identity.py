"""Which rows of a source are the same row: its identity is source, file and id.

Ids that start again in each file are told apart; a row that says the same as an earlier one is dropped.
"""

import dataclasses
from pathlib import Path

from evidence.records import Record
from utils.jsonl import sha256_value

REPEATED = "repeated row"
# Which of the two is right cannot be told; the first one is kept, so that an id always means one row.
CONTRADICTED = "repeated question with other answers"


class RowIds:
    """The ids that a source's rows have so far, and what each of these rows asks and answers."""

    def __init__(self) -> None:
        self.n_renamed = 0
        self._taken: set[str] = set()
        # Id in the file -> the rows with it: (hash of question and passages, hash of question and answers).
        self._rows: dict[str, list[tuple[str, str]]] = {}

    def distinct(self, record: Record, path: Path) -> Record | str:
        """The record, with an id that no earlier one has, or the reason to drop it.

        The first row with an id keeps it. Another question with the same id gets the file's name added, so
        ids do not change when a file is added. The same question may have another answer in other passages.
        """
        question = record.question.casefold()
        asked = sha256_value([question, *(passage.text_key for passage in record.passages)])[:16]
        answered = sha256_value([question, *record.answers])[:16]
        earlier = self._rows.setdefault(record.id, [])
        if answered in {row[1] for row in earlier}:
            return REPEATED
        if asked in {row[0] for row in earlier}:
            return CONTRADICTED

        earlier.append((asked, answered))
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
