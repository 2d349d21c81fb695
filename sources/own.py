"""Your own questions -> records, through the same checks as the public sources. Two layouts, told apart row by row:

sample layout: {"id", "question", "evidence_chunks", "answer", "answer_aliases", "answerable", "support_sets", ...}, as build_data.py writes it
DPR layout:    {"question", "answers": [accepted, ...], "ctxs": [{"title", "text", "isgold"?}, ...]}, or positive_ctxs and hard_negative_ctxs
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record, dpr_passages
from utils.jsonl import read_jsonl


def _sample_record(row: dict) -> dict:
    """The record's fields of a row in sample layout. Chunks of one title become the sentences of one passage."""
    texts: dict[str, list[str]] = {}
    lines = []
    for chunk in row["evidence_chunks"]:
        lines.append((chunk["title"], len(texts.setdefault(chunk["title"], []))))
        texts[chunk["title"]].append(chunk["text"])
    gold_sets = tuple(tuple(lines[i] for i in support_set) for support_set in row["support_sets"])
    aliases = row["answer_aliases"] or row.get("metadata", {}).get("gold_aliases", [])
    return {
        "answers": tuple(dict.fromkeys([row["answer"], *aliases] if row["answerable"] else aliases)),
        "answerable": row["answerable"],
        "gold_sets": gold_sets,
        "passages": tuple(Passage(title, tuple(sentences)) for title, sentences in texts.items()),
        "metadata": {"type": row.get("metadata", {}).get("type")},
    }


def _dpr_record(row: dict) -> dict:
    return {
        "answers": tuple(str(answer) for answer in row["answers"]),
        "answerable": True,
        "passages": tuple(dpr_passages(row)),
    }


def read_records(
    path: Path, official_split: str, on_bad: Callable[[str], None], source: str
) -> Iterator[Record]:
    """One record a row. `source` is the name that the sources config gives to these files."""
    for number, row in read_jsonl(path, on_bad):
        try:
            fields = _sample_record(row) if "evidence_chunks" in row else _dpr_record(row)
            question = row["question"].strip()
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            on_bad(
                f"{path}:{number}: neither in sample layout nor in DPR layout ({error!r}); see sources/own.py for both"
            )
            continue
        row_id = str(row.get("id") or hashlib.sha1(question.encode("utf-8")).hexdigest()[:12]).removeprefix(
            f"{source}:"
        )
        yield Record(
            id=f"{source}:{row_id}", source=source, question=question, official_split=official_split, **fields
        )
