"""NQ-Open (Lee et al., 2019): {"question", "answer": [accepted, ...]} a line -> records. Evidence comes from a contexts file or BM25."""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import agree
from evidence.records import Record
from utils.jsonl import read_jsonl


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record a row; the rows have no ids, so the id is a hash of the question."""
    for number, row in read_jsonl(path, on_bad):
        question = row.get("question")
        answers = row.get("answer")
        if not isinstance(question, str) or not isinstance(answers, list) or not answers:
            on_bad(f"{path}:{number}: not an NQ-Open row; expected a question and a list of answers")
            continue
        yield Record(
            id=f"nq_open:{hashlib.sha1(question.encode('utf-8')).hexdigest()[:12]}",
            source="nq_open",
            question=question.strip(),
            answers=tuple(str(answer) for answer in answers),
            answerable=True,
            official_split=official_split,
            # Annotators who read the question in two ways, or a list of which each is a part.
            doubt=""
            if agree([str(answer) for answer in answers])
            else "accepted answers are not variants of one answer",
        )
