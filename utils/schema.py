"""Reading the rows that travel between stages, and drawing some of them.

Every row is checked when it is read (`utils/rules.py`), so code behind a reader indexes fields without
asking.
"""

import functools
import os
import random
from collections.abc import Callable
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_jsonl
from utils.pair_rules import COMPLETION_FIELDS, completion_problem, preference_problem
from utils.recognition import check_kind
from utils.rules import has_gold, question_problem, sample_problem
from utils.text import verdict_of

# About a second of reading.
_MAX_CHECKED_BYTES = 32 << 20


def is_label_answer(answer: str) -> bool:
    """True for yes/no and verdict answers, which are classes and not spans of the evidence."""
    return verdict_class(answer) is not None


def verdict_class(answer: str) -> str | None:
    """`supported` for yes, true and their like, `refuted` for no and false; None for any other text."""
    return verdict_of(answer)


def _read_checked(
    path: str | Path, kind: str, problem_of: Callable[[dict], str | None], remedy: str
) -> list[dict]:
    """All rows of a file. DataError, ending in `remedy`: a bad row, a repeated id, or no rows at all.

    A file that is plainly of another `kind` is named as what it is.
    """
    check_kind(Path(path), kind)
    rows = []
    line_of: dict[str, int] = {}
    for number, row in read_jsonl(path):
        problem = problem_of(row)
        if problem is None and row["id"] in line_of:
            problem = f"duplicate id {row['id']!r}, first seen on line {line_of[row['id']]}"
        if problem:
            raise DataError(f"{path}:{number}: {problem}; {remedy}")
        line_of[row["id"]] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: the file has no rows; {remedy}")
    return rows


def read_samples(path: str | Path) -> list[dict]:
    """All samples of a file, checked. DataError names file, line, rule and value."""
    return _read_checked(path, "samples", sample_problem, "rebuild it with build_data.py")


def read_questions(path: str | Path) -> list[dict]:
    """All rows of a file of samples, of questions with evidence alone (without gold), or of both, checked.

    A question gets the fields of a sample, with null for `answer` and `answerable`; of its own it needs id,
    question and evidence_chunks. DataError names file, line, rule and value.
    """

    def problem_of(row: dict) -> str | None:
        return sample_problem(row) if has_gold(row) else question_problem(row)

    remedy = "a sample is built with build_data.py, a question without gold has id, question, evidence_chunks"
    rows = _read_checked(path, "samples", problem_of, remedy)
    return [row if has_gold(row) else _with_empty_gold(row) for row in rows]


def _with_empty_gold(row: dict) -> dict:
    """A question without gold in the fields of a sample. Its pairs are a group of their own by default."""
    given = {name: value for name, value in row.items() if value is not None}
    no_lists: dict[str, list] = {"support_sets": [], "support_spans": [], "hard_negatives": []}
    no_gold = {"answer": None, "answer_aliases": [], "answerable": None, **no_lists}
    return {"source": "questions", "group": row["id"], "metadata": {}, **given, **no_gold}


def read_preferences(path: str | Path) -> list[dict]:
    """All preference rows of a file, checked. DataError names file, line, rule and value."""
    return _read_checked(path, "preferences", preference_problem, "rebuild it with make_prefs.py")


def read_completion_rows(path: str | Path) -> list[dict]:
    """Rows to be scored, with the fields id, question, evidence_chunks and completion.

    DataError names file, line, field and value of the first bad row.
    """
    check_kind(Path(path), "completions")
    rows = []
    for number, row in read_jsonl(path):
        if problem := completion_problem(row):
            raise DataError(f"{path}:{number}: {problem}")
        # Ids may repeat here: one sample may have several completions to rank.
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: the file has no rows; each needs {', '.join(COMPLETION_FIELDS)}")
    return rows


@functools.cache
def _read_once(path: Path, version: tuple[int, int], read: Callable[[Path], list]) -> None:
    read(path)


def check_rows(path: Path, read: Callable[[Path], list]) -> None:
    """Read a file with `read` for its errors alone: a stage calls it before the imports that take seconds.

    A version of a file is checked once per process, and a very large file only when it is used.
    """
    # Not Path.is_file, which raises for a folder that may not be entered.
    if os.path.isfile(path):
        found = path.stat()
        if found.st_size > _MAX_CHECKED_BYTES:
            return
        _read_once(path, (found.st_size, found.st_mtime_ns), read)
    else:
        read(path)


def unit_of(sample: dict) -> str:
    """What names the samples that belong together: a question, its twin, and the rows made of both.

    `metadata.unit` of a made row, `metadata.twin_of` of a twin, else the sample's own id.
    """
    metadata = sample["metadata"]
    return metadata.get("unit") or metadata.get("twin_of") or sample["id"]


def pick_samples(samples: list[dict], n_wanted: int | None, seed: int) -> list[dict]:
    """At most `n_wanted` samples in file order, sampled with `seed`. A twin is drawn with its original.

    The last pair may be cut to keep the number. 0 or None picks all.
    """
    if not n_wanted or n_wanted >= len(samples):
        return list(samples)
    by_question: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        by_question.setdefault(unit_of(sample), []).append(i)

    pairs = list(by_question.values())
    random.Random(seed).shuffle(pairs)
    picked: list[int] = []
    for pair in pairs:
        picked += pair
    # In file order, so that the order of the rows does not depend on the seed.
    return [samples[i] for i in sorted(picked[:n_wanted])]
