"""FeverSymmetric v0.2 (Schuster et al., 2019): pairs of claim and evidence sentence -> records.

Each line of the file:

    {"id", "label": SUPPORTS | REFUTES, "claim", "evidence": one sentence}

Each claim comes with two sentences, of which one supports and one refutes it, and each sentence with two such
claims: neither alone tells the verdict. The file names no pages, so the sentences have no title.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import names_in
from evidence.queries import CLAIM_QUESTION
from evidence.records import Passage, Record
from sources.fever import read_verdict, unescape
from sources.fields import field, full_text, identifier, question_text
from sources.json_list import parse_rows
from utils.text import LABEL_ALIASES


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    claim = unescape(question_text(row, "claim"))
    sentence = unescape(full_text(field(row, "evidence"), "evidence"))
    passage = Passage("", (sentence,), is_gold=True)
    return Record(
        id=f"fever_symmetric:{identifier(field(row, 'id'), 'id')}",
        source="fever_symmetric",
        question=CLAIM_QUESTION.format(claim=claim),
        answers=tuple(LABEL_ALIASES[read_verdict(row)]),
        answerable=True,
        official_split=official_split,
        gold_sets=(((passage.page, 0),),),
        passages=(passage,),
        # Another sentence that names what the claim is about may judge it too.
        names=names_in(claim),
        metadata={"type": row["label"], "claim": claim},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per pair."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not a FeverSymmetric pair")
