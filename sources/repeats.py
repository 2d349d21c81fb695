"""Rows of a source that ask the same, whatever their ids: one is kept, and of contradictory ones none.

Two rows ask the same if their questions and the passages that come with them are equal; the same question
about another passage is another question. The row of the strictest official split is kept, whatever the
order of the files: a test row must not be trained on because a training file has it too.
"""

from evidence.drops import DroppedRows
from evidence.records import Record
from utils.jsonl import sha256_value
from utils.schema import verdict_class
from utils.text import normalize_answer, plain_question

# Rows of a split replace equal ones of the splits before it.
_STRICTER = ("any", "train", "dev", "test")


def _asked(record: Record) -> str:
    """A key of what a row asks: its question without regard to case, spaces and the stop at its end."""
    question = plain_question(record.question).rstrip(" .?!")
    return sha256_value([question, *(passage.text_key for passage in record.passages)])[:16]


def _answer_key(answer: str) -> str:
    """An answer as rows are compared: "yes" and "true" are one verdict."""
    return verdict_class(answer) or normalize_answer(answer)


class Repeats:
    """What the rows so far ask, and which of it they answer in two ways."""

    def __init__(self) -> None:
        # What is asked -> the row that is used: answerable, accepted answers, id, strictness of its split.
        self._used: dict[str, tuple[bool, tuple[str, ...], str, int]] = {}
        self._contradictory: set[str] = set()

    def _agrees(self, asked: str, record: Record) -> bool:
        """Whether a row gives the answer of the one that asks the same: one accepted form is enough."""
        answerable, answers, _, _ = self._used[asked]
        if answerable != record.answerable:
            return False
        same = {_answer_key(answer) for answer in answers}
        return not answerable or not same.isdisjoint(_answer_key(answer) for answer in record.answers)

    def drops(self, record: Record, counts: DroppedRows) -> bool:
        """Whether a row repeats or contradicts an earlier one, and is not used; `counts` gets the reason.

        A row that is used may be contradicted or replaced later: `is_used` tells when all rows are read. It
        is counted with the first row that contradicts it, or with the one that replaces it.
        """
        asked = _asked(record)
        strictness = _STRICTER.index(record.official_split)
        row = (record.answerable, record.answers, record.id, strictness)
        if asked not in self._used:
            self._used[asked] = row
            return False
        noun = "claim" if record.is_claim else "question"
        _, _, used_id, used_strictness = self._used[asked]
        if asked in self._contradictory:
            counts.drop(f"contradictory {noun}", record.id, record.question)
        elif not self._agrees(asked, record):
            self._contradictory.add(asked)
            counts.drop(f"contradictory {noun}", used_id, record.question)
            counts.drop(f"contradictory {noun}", record.id, record.question)
        elif strictness > used_strictness:
            counts.drop(f"duplicate {noun}", used_id, record.question)
            self._used[asked] = row
            return False
        else:
            counts.drop(f"duplicate {noun}", record.id, record.question)
        return True

    def is_used(self, record: Record) -> bool:
        """False if another row replaced this one, or answers it otherwise: which is right, nobody knows."""
        asked = _asked(record)
        *_, used_strictness = self._used[asked]
        is_replaced = _STRICTER.index(record.official_split) < used_strictness
        return asked not in self._contradictory and not is_replaced
