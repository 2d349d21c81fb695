"""NQ-Open (Lee et al., 2019): JSONL of {"question", "answer": [accepted, ...]} -> records.

The rows have no evidence: it comes from a contexts file (contexts.py), or from a search of the wiki pages
while they pass (page_search.py).
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import agree
from evidence.records import Record
from sources.fields import answers, bad, field, question_text
from sources.json_list import parse_rows


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    question = question_text(row, "question")
    accepted = answers(field(row, "answer"), "answer")
    if not accepted:
        raise bad("answer", "a list of accepted answers", accepted)
    # Different answers: the annotators read the question in two ways, or each named a part of a list.
    doubt = "" if agree(accepted) else "accepted answers are not variants of one answer"
    digest = hashlib.sha1(row["question"].encode("utf-8"), usedforsecurity=False).hexdigest()
    return Record(
        id=f"nq_open:{digest[:12]}",
        source="nq_open",
        question=question,
        answers=tuple(accepted),
        answerable=True,
        official_split=official_split,
        doubt=doubt,
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per row; the rows have no ids, so the id is a hash of the question."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not an NQ-Open row")
