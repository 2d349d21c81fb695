"""DPR-layout contexts (Karpukhin et al., 2020), json list or jsonl -> passages by question.

{"question", "answers", "ctxs": [{"title", "text", "isgold"?}, ...]} or {..., "positive_ctxs": [...], "hard_negative_ctxs": [...]}
"""

from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_json, read_jsonl
from utils.records import Passage
from utils.text import split_sentences, tokenize


def question_key(question: str) -> str:
    return " ".join(tokenize(question))


def _passages(row: dict) -> list[Passage]:
    marked = [(ctx, bool(ctx.get("isgold"))) for ctx in row.get("ctxs", [])]
    marked += [(ctx, True) for ctx in row.get("positive_ctxs", [])[:3]]
    marked += [(ctx, False) for key in ("hard_negative_ctxs", "negative_ctxs") for ctx in row.get(key, [])[:10]]
    return [Passage(ctx["title"], tuple(split_sentences(ctx["text"])), gold) for ctx, gold in marked if ctx["text"].strip()]


def read_contexts(path: Path) -> dict[str, list[Passage]]:
    """Passages by `question_key`. A passage that the file marks (`positive_ctxs`, `isgold`) is gold."""
    numbered = read_jsonl(path) if Path(path).suffix == ".jsonl" else enumerate(read_json(path), 1)
    found: dict[str, list[Passage]] = {}
    for number, row in numbered:
        try:
            found.setdefault(question_key(row["question"]), []).extend(_passages(row))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: row {number} is not in DPR layout ({error!r}); expected question and ctxs with title and text") from error
    return found
