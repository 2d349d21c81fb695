"""DPR-layout contexts (Karpukhin et al., 2020), json list or jsonl -> passages by question.

{"question", "answers", "ctxs": [{"title", "text", "isgold"?}, ...]} or {..., "positive_ctxs": [...], "hard_negative_ctxs": [...]}
"""

from pathlib import Path

from evidence.records import Passage, dpr_passages
from sources.json_list import read_json_list
from utils.errors import DataError
from utils.jsonl import read_jsonl
from utils.text import tokenize


def question_key(question: str) -> str:
    return " ".join(tokenize(question))


def read_contexts(path: Path, wanted: set[str]) -> dict[str, list[Passage]]:
    """Passages by `question_key`, for the wanted keys. A passage that the file marks (`positive_ctxs`, `isgold`) is gold."""
    is_lines = Path(path).name.removesuffix(".gz").endswith(".jsonl")
    found: dict[str, list[Passage]] = {}
    for number, row in read_jsonl(path) if is_lines else read_json_list(path):
        try:
            if (key := question_key(row["question"])) in wanted:
                found.setdefault(key, []).extend(dpr_passages(row))
        except (KeyError, TypeError, AttributeError) as error:
            raise DataError(
                f"{path}: row {number} is not in DPR layout ({error!r}); expected question and ctxs with title and text"
            ) from error
    return found
