"""Contexts in DPR layout (Karpukhin et al., 2020), a JSON list or JSONL -> passages by question.

Each row is one of these:

    {"question", "answers", "ctxs": [{"title", "text", "isgold"?}, ...]}
    {"question", "answers", "positive_ctxs": [...], "hard_negative_ctxs": [...], "negative_ctxs": [...]}

The answers in a row are not used: those of the source's own file count.
"""

from pathlib import Path

from evidence.records import Passage, dpr_passages
from sources.json_list import read_json_list
from utils.errors import DataError
from utils.jsonl import read_jsonl
from utils.text import tokenize


def question_key(question: str) -> str:
    """A question as contexts are found by: its tokens, since files differ in case and question marks."""
    return " ".join(tokenize(question))


def read_contexts(path: Path, wanted: set[str]) -> dict[str, list[Passage]]:
    """Passages by `question_key`, for the wanted keys only: a full file has more than memory.

    A passage that the file marks (`positive_ctxs`, `isgold`) is gold. DataError for a row in another layout.
    """
    is_lines = Path(path).name.removesuffix(".gz").endswith(".jsonl")
    rows = read_jsonl(path) if is_lines else read_json_list(path)
    found: dict[str, list[Passage]] = {}
    for number, row in rows:
        try:
            key = question_key(row["question"])
            if key in wanted:
                found.setdefault(key, []).extend(dpr_passages(row))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: row {number} is not in DPR layout ({error!r}); "
                "expected question and ctxs with title and text"
            ) from error
    return found
