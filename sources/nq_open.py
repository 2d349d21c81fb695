"""NQ-Open (Lee et al., 2019): JSONL of {"question", "answer": [accepted, ...]} -> records.

The rows have no evidence: it comes from a contexts file (contexts.py), or from a BM25 search of the page
pool.
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import agree
from evidence.records import Record
from utils.jsonl import read_jsonl


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per row; the rows have no ids, so the id is a hash of the question."""
    for number, row in read_jsonl(path, on_bad):
        question = row.get("question")
        answers = row.get("answer")
        if not isinstance(question, str) or not isinstance(answers, list) or not answers:
            on_bad(f"{path}:{number}: not an NQ-Open row; expected a question and a list of answers")
            continue
        accepted = tuple(str(answer) for answer in answers)
        # Different answers: the annotators read the question in two ways, or each named a part of a list.
        doubt = "" if agree(list(accepted)) else "accepted answers are not variants of one answer"
        yield Record(
            id=f"nq_open:{hashlib.sha1(question.encode('utf-8')).hexdigest()[:12]}",
            source="nq_open",
            question=question.strip(),
            answers=accepted,
            answerable=True,
            official_split=official_split,
            doubt=doubt,
        )
