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

from evidence.records import Passage, Record, dpr_passages, told_apart
from utils.jsonl import read_jsonl


def _sample_fields(row: dict) -> dict:
    """The record's fields of a row in sample layout. Each chunk is a passage of one sentence: it stays whole.

    ValueError where chunk ids and `answerable` contradict each other or the chunks.
    """
    chunks = [Passage(chunk["title"], (chunk["text"],)) for chunk in row["evidence_chunks"]]
    passages = told_apart(chunks)
    page_of = {passage.text_key: passage.page for passage in passages}
    if not isinstance(row["answerable"], bool) or (row["support_sets"] and not row["answerable"]):
        raise ValueError(f"answerable is {row['answerable']!r} but support_sets is {row['support_sets']!r}")

    gold_sets = []
    for support_set in row["support_sets"]:
        if not all(i in range(len(chunks)) for i in support_set):
            raise ValueError(f"support set {support_set} but only chunks 0-{len(chunks) - 1} exist")
        gold_sets.append(tuple((page_of[chunks[i].text_key], 0) for i in support_set))

    metadata = row.get("metadata", {})
    aliases = row["answer_aliases"] or metadata.get("gold_aliases", [])
    answers = [row["answer"], *aliases] if row["answerable"] else aliases
    return {
        "answers": tuple(dict.fromkeys(answers)),
        "answerable": row["answerable"],
        "gold_sets": tuple(gold_sets),
        "passages": passages,
        "metadata": {"type": metadata.get("type")},
    }


def _dpr_fields(row: dict) -> dict:
    """The record's fields of a row in DPR layout. Without any answer, the row is unanswerable (SQuAD 2.0)."""
    answers = tuple(str(answer) for answer in row["answers"])
    return {
        "answers": answers,
        "answerable": any(answer.strip() for answer in answers),
        "passages": dpr_passages(row),
    }


def read_records(
    path: Path, official_split: str, on_bad: Callable[[str], None], source: str
) -> Iterator[Record]:
    """One record per row. `source`: the name that the sources config gives to these files."""
    for number, row in read_jsonl(path, on_bad):
        try:
            fields = _sample_fields(row) if "evidence_chunks" in row else _dpr_fields(row)
            question = row["question"].strip()
        except (KeyError, TypeError, AttributeError, ValueError) as error:
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
            # A title may be that of a whole handbook.
            titles_name_pages=False,
            **fields,
        )
