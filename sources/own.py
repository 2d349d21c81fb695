"""The user's own questions -> records, through the same checks as the public sources.

Two layouts, distinguished row by row:

    sample layout, as build_data.py writes it:
        {"id", "question", "evidence_chunks", "answer", "answer_aliases", "answerable", "support_sets", ...}
    DPR layout:
        {"question", "answers": [accepted, ...], "ctxs": [{"title", "text", "isgold"?}, ...]}
        or positive_ctxs and hard_negative_ctxs in place of ctxs
"""

import functools
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record, told_apart
from sources.dpr import check_contexts, to_passages
from sources.fields import (
    answers,
    bad,
    field,
    full_text,
    identifier,
    items,
    optional_text,
    question_text,
    title_text,
)
from sources.json_list import parse_rows
from utils.text import REFUSAL, without_entities


def _chunks(row: dict) -> list[Passage]:
    """The chunks of a row in sample layout, each a passage of one sentence, so that it stays whole."""
    chunks = []
    for i, chunk in enumerate(items(row["evidence_chunks"], "evidence_chunks")):
        name = f"evidence_chunks[{i}]"
        if not isinstance(chunk, dict):
            raise bad(name, "an object with title and text", chunk)
        title = title_text(field(chunk, "title", name), f"{name}.title")
        text = full_text(field(chunk, "text", name), f"{name}.text")
        chunks.append(Passage(title, (without_entities(text),)))
    return chunks


def _support_sets(row: dict, n_chunks: int) -> list[list[int]]:
    """The support sets of a row in sample layout. ValueError for an id of no chunk, which may be -1."""
    sets = []
    for support_set in items(field(row, "support_sets"), "support_sets"):
        if not items(support_set, "each of support_sets"):
            raise bad("each of support_sets", "a list of chunk ids", support_set)
        if not n_chunks:
            raise bad("evidence_chunks", "a list of the chunks that support_sets names", [])
        for i in support_set:
            if not isinstance(i, int) or isinstance(i, bool) or not 0 <= i < n_chunks:
                raise bad("support_sets", f"chunk ids 0-{n_chunks - 1}", i)
        sets.append(support_set)
    return sets


def _no_refusal(accepted: list[str], name: str) -> list[str]:
    """The accepted answers. ValueError if one is the refusal, which says that there is no answer."""
    if any(answer.upper() == REFUSAL for answer in accepted):
        raise ValueError(f"{name} has {REFUSAL}, which no question with an answer may have")
    return list(map(without_entities, accepted))


def _accepted(row: dict, is_answerable: bool, metadata: dict) -> list[str]:
    """The accepted answers of a row in sample layout, of an unanswerable one those of the removed answer."""
    aliases = answers(field(row, "answer_aliases"), "answer_aliases")
    if is_answerable:
        # A list of one, since it may be a number.
        given = answers([field(row, "answer")], "answer")
        if not given:
            raise bad("answer", "text that is not empty", row["answer"])
        return _no_refusal([*given, *aliases], "answer")
    return aliases or answers(metadata.get("gold_aliases") or [], "metadata.gold_aliases")


def _marks(metadata: dict) -> dict:
    """What a sample of an evaluation-only build is known by, under any file name."""
    return {name: metadata[name] for name in ("evaluation_only", "canary") if metadata.get(name)}


def _sample_fields(row: dict) -> dict:
    """The record's fields of a row in sample layout.

    ValueError where chunk ids and `answerable` contradict each other or the chunks.
    """
    chunks = _chunks(row)
    passages = told_apart(chunks)
    page_of = {passage.text_key: passage.page for passage in passages}

    is_answerable = field(row, "answerable")
    support_sets = _support_sets(row, len(chunks))
    if not isinstance(is_answerable, bool):
        raise bad("answerable", "true or false", is_answerable)
    if support_sets and not is_answerable:
        raise ValueError(f"answerable is {is_answerable!r} but support_sets is {support_sets!r}")
    metadata = row.get("metadata", {})
    if not isinstance(metadata, dict):
        raise bad("metadata", "an object", metadata)

    gold_sets = []
    for support_set in support_sets:
        gold_sets.append(tuple((page_of[chunks[i].text_key], 0) for i in support_set))
    return {
        "answers": tuple(dict.fromkeys(_accepted(row, is_answerable, metadata))),
        "answerable": is_answerable,
        "gold_sets": tuple(gold_sets),
        "passages": passages,
        "metadata": {"type": optional_text(metadata, "type")} | _marks(metadata),
    }


def _dpr_fields(row: dict) -> dict:
    """The record's fields of a row in DPR layout. Without any answer, the row is unanswerable (SQuAD 2.0)."""
    accepted = _no_refusal(answers(field(row, "answers"), "answers"), "answers")
    return {
        "answers": tuple(accepted),
        "answerable": bool(accepted),
        "passages": to_passages(check_contexts(row, is_own=True)),
    }


def _to_record(row: dict, official_split: str, source: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    fields = _sample_fields(row) if "evidence_chunks" in row else _dpr_fields(row)
    # People copy their rows from web pages.
    question = without_entities(question_text(row, "question"))
    if row.get("id") is None:
        row_id = hashlib.sha1(question.encode("utf-8"), usedforsecurity=False).hexdigest()[:12]
    else:
        row_id = identifier(row["id"], "id")
    return Record(
        # Rows of an earlier build have the source in their id already.
        id=f"{source}:{row_id.removeprefix(f'{source}:')}",
        source=source,
        question=question,
        official_split=official_split,
        # A title may be that of a whole handbook.
        titles_name_pages=False,
        **fields,
    )


def read_records(
    path: Path, official_split: str, on_bad: Callable[[str], None], source: str
) -> Iterator[Record]:
    """One record per row. `source`: the name that the sources config gives to these files."""
    parse = functools.partial(_to_record, official_split=official_split, source=source)
    yield from parse_rows(path, on_bad, parse, "neither in sample layout nor in DPR layout (sources/own.py)")
