"""The user's own questions -> records, through the same checks as the public sources.

Two layouts, distinguished row by row:

    sample layout, as build_data.py writes it:
        {"id", "question", "evidence_chunks", "answer", "answer_aliases", "answerable", "support_sets", ...}
    DPR layout:
        {"question", "answers": [accepted, ...], "ctxs": [{"title", "text", "isgold"?}, ...]}
        or positive_ctxs and hard_negative_ctxs in place of ctxs
"""

import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record, dpr_passages
from utils.jsonl import read_jsonl


def _sample_fields(row: dict) -> dict:
    """The record's fields of a row in sample layout. Chunks of one title become one passage's sentences."""
    texts: dict[str, list[str]] = {}
    # Chunk id -> (title, sentence number), which is how gold sets name a sentence.
    lines: list[tuple[str, int]] = []
    for chunk in row["evidence_chunks"]:
        sentences = texts.setdefault(chunk["title"], [])
        lines.append((chunk["title"], len(sentences)))
        sentences.append(chunk["text"])

    gold_sets = []
    for support_set in row["support_sets"]:
        gold_sets.append(tuple(lines[i] for i in support_set))

    metadata = row.get("metadata", {})
    aliases = row["answer_aliases"] or metadata.get("gold_aliases", [])
    answers = [row["answer"], *aliases] if row["answerable"] else aliases
    return {
        "answers": tuple(dict.fromkeys(answers)),
        "answerable": row["answerable"],
        "gold_sets": tuple(gold_sets),
        "passages": tuple(Passage(title, tuple(sentences)) for title, sentences in texts.items()),
        "metadata": {"type": metadata.get("type")},
    }


def _dpr_fields(row: dict) -> dict:
    """The record's fields of a row in DPR layout."""
    return {
        "answers": tuple(str(answer) for answer in row["answers"]),
        "answerable": True,
        "passages": tuple(dpr_passages(row)),
    }


def read_records(
    path: Path, official_split: str, on_bad: Callable[[str], None], source: str
) -> Iterator[Record]:
    """One record per row. `source`: the name that the sources config gives to these files."""
    for number, row in read_jsonl(path, on_bad):
        try:
            fields = _sample_fields(row) if "evidence_chunks" in row else _dpr_fields(row)
            question = row["question"].strip()
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            on_bad(
                f"{path}:{number}: neither in sample layout nor in DPR layout ({error!r}); "
                "see sources/own.py for both"
            )
            continue
        # Rows of an earlier build have the source in their id already.
        row_id = row.get("id") or hashlib.sha1(question.encode("utf-8")).hexdigest()[:12]
        yield Record(
            id=f"{source}:{str(row_id).removeprefix(f'{source}:')}",
            source=source,
            question=question,
            official_split=official_split,
            **fields,
        )
