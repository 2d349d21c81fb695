"""Rows of a source that ask the same, whatever their ids: one is kept, and of contradictory ones none.

Two rows ask the same if their questions and the passages that come with them are equal; the same question
about another passage is another question.
"""

from evidence.drops import DroppedRows
from evidence.records import Record
from utils.jsonl import sha256_value
from utils.text import normalize_answer


def _asked(record: Record) -> str:
    """A key of what a row asks: its question without regard to case, spaces and the stop at its end."""
    question = " ".join(record.question.casefold().split()).rstrip(" .?!")
    return sha256_value([question, *(passage.text_key for passage in record.passages)])[:16]


class Repeats:
    """What the rows so far ask, and which of it they answer in two ways."""

    def __init__(self) -> None:
        # What is asked -> (answerable, accepted answers, id) of the first row that asks it.
        self._first: dict[str, tuple[bool, tuple[str, ...], str]] = {}
        self._contradictory: set[str] = set()

    def _agrees(self, asked: str, record: Record) -> bool:
        """Whether a row gives the answer of the first row that asks the same: one accepted form is enough."""
        answerable, answers, _ = self._first[asked]
        if answerable != record.answerable:
            return False
        same = {normalize_answer(answer) for answer in answers}
        return not answerable or not same.isdisjoint(normalize_answer(answer) for answer in record.answers)

    def drops(self, record: Record, counts: DroppedRows) -> bool:
        """Whether a row repeats or contradicts an earlier one, and is not used; `counts` gets the reason.

        A row that is used may be contradicted later: `is_contradictory` tells when all rows are read. It is
        counted with the first row that contradicts it.
        """
        asked = _asked(record)
        if asked not in self._first:
            self._first[asked] = (record.answerable, record.answers, record.id)
            return False
        noun = "claim" if record.is_claim else "question"
        if asked in self._contradictory:
            counts.drop(f"contradictory {noun}", record.id, record.question)
        elif self._agrees(asked, record):
            counts.drop(f"duplicate {noun}", record.id, record.question)
        else:
            self._contradictory.add(asked)
            counts.drop(f"contradictory {noun}", self._first[asked][2], record.question)
            counts.drop(f"contradictory {noun}", record.id, record.question)
        return True

    def is_contradictory(self, record: Record) -> bool:
        """Whether another row answers the record's question in another way: which is right, nobody knows."""
        return _asked(record) in self._contradictory
