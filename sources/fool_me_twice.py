"""Fool-Me-Twice (Eisenschlos et al., 2021): claims that players wrote to mislead others -> records.

Each line of the file:

    {"id", "label": SUPPORTS | REFUTES, "text": the claim, "wikipedia_page",
     "gold_evidence": [{"section_header", "text"}, ...],
     "retrieved_evidence": the same, sentences of the page that a search found, the gold ones among them}

The gold sentences belong together; the author of the claim chose them.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import bare_title, stems
from evidence.queries import CLAIM_QUESTION
from evidence.records import Passage, Record, told_apart
from sources.fever import read_verdict
from sources.fields import bad, field, full_text, identifier, items, question_text
from sources.json_list import parse_rows
from utils.text import LABEL_ALIASES, plain_title


def _sentences(row: dict, name: str, title: str, is_gold: bool) -> list[Passage]:
    """The sentences of one list, each a passage by itself: they come from all over the page."""
    passages = []
    for i, item in enumerate(items(field(row, name), name)):
        if not isinstance(item, dict):
            raise bad(f"{name}[{i}]", "an object with text", item)
        text = full_text(field(item, "text"), f"{name}[{i}].text")
        passages.append(Passage(title, (text,), is_gold))
    return passages


def _whole_claim(claim: str, title: str) -> str:
    """The claim, behind the page's title where it names nothing of it: players saw the title."""
    name = bare_title(title)
    return claim if stems(name) & stems(claim) else f"{name}: {claim}"


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    title = plain_title(full_text(field(row, "wikipedia_page"), "wikipedia_page"))
    gold = _sentences(row, "gold_evidence", title, is_gold=True)
    if not gold:
        raise bad("gold_evidence", "a list with a sentence", row["gold_evidence"])
    passages = told_apart([*gold, *_sentences(row, "retrieved_evidence", title, is_gold=False)])
    claim = _whole_claim(question_text(row, "text"), title)
    return Record(
        id=f"fool_me_twice:{identifier(field(row, 'id'), 'id')}",
        source="fool_me_twice",
        question=CLAIM_QUESTION.format(claim=claim),
        answers=tuple(LABEL_ALIASES[read_verdict(row)]),
        answerable=True,
        official_split=official_split,
        gold_sets=(tuple((passage.page, 0) for passage in passages if passage.is_gold),),
        passages=passages,
        page_titles=(title,),
        names=(bare_title(title),),
        metadata={"type": row["label"], "claim": claim},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per claim."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not a Fool-Me-Twice claim")
