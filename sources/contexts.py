"""Contexts in DPR layout (Karpukhin et al., 2020), a JSON list or JSONL -> passages by question.

Each row is one of these:

    {"question", "answers", "ctxs": [{"title", "text", "isgold"?}, ...]}
    {"question", "answers", "positive_ctxs": [...], "hard_negative_ctxs": [...], "negative_ctxs": [...]}

The answers in a row are not used: those of the source's own file count.
"""

from collections.abc import Callable
from pathlib import Path

from evidence.records import Passage
from sources.dpr import check_contexts, to_passages
from sources.fields import question_text
from sources.json_list import read_rows
from utils.text import tokenize


def question_key(question: str) -> str:
    """A question as contexts are found by: its tokens, since files differ in case and question marks."""
    return " ".join(tokenize(question))


def read_contexts(path: Path, wanted: set[str], on_bad: Callable[[str], None]) -> dict[str, list[Passage]]:
    """Passages by `question_key`, for the wanted keys only: a full file has more than memory.

    A passage that the file marks (`positive_ctxs`, `isgold`) is gold. Rows in another layout go to `on_bad`.
    """
    found: dict[str, list[Passage]] = {}
    for where, row in read_rows(path, on_bad):
        try:
            key = question_key(question_text(row, "question"))
            # Every row is checked, so that the count of bad ones does not depend on the questions drawn.
            checked = check_contexts(row, is_own=False)
        except ValueError as error:
            on_bad(f"{where}: not a row with question and ctxs: {error}")
            continue
        if key in wanted:
            found.setdefault(key, []).extend(to_passages(checked))
    return found
