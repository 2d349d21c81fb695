"""FEVER (Thorne et al., 2018): claims -> records; the names that FEVER's files and claims use for wiki pages.

Each line of the claims file:

    {"id", "label": SUPPORTS | REFUTES | NOT ENOUGH INFO, "claim",
     "evidence": [[[annotation id, evidence id, page, line], ...], ...]}

Alternative evidence sets are OR, the sentences in one set are AND. The pages are read in wiki_pages.py.
"""

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from evidence.paraphrase import bare_title
from evidence.queries import CLAIM_QUESTION
from evidence.records import Record
from sources.fields import bad, field, full_text, identifier, items, question_text, whole_number
from sources.json_list import parse_rows
from utils.text import LABEL_ALIASES, STOP_WORDS, plain_title, tokenize

_VERDICTS = {"SUPPORTS": "supported", "REFUTES": "refuted"}
_LABELS = (*_VERDICTS, "NOT ENOUGH INFO")

# Brackets and colons as the Penn Treebank and FEVER's page ids write them.
_ESCAPES = {
    "-LRB-": "(",
    "-RRB-": ")",
    "-LSB-": "[",
    "-RSB-": "]",
    "-LCB-": "{",
    "-RCB-": "}",
    "-COLON-": ":",
}

_IS_PLAIN = re.compile(r"[A-Za-z0-9 ]+")

# Longest page name that is looked for in a claim, in words.
_MAX_NAME_WORDS = 8


def unescape(text: str) -> str:
    """FEVER's Penn Treebank escapes and spacing back to running text, Unicode composed (NFC).

    Page names in claims and in the wiki files differ in Unicode normalization, so both go through here.
    """
    if "-" in text:
        for escape, char in _ESCAPES.items():
            text = text.replace(escape, char)
    text = text.replace("``", '"').replace("''", '"').replace(" -- ", " – ")
    # No space behind an opening bracket, nor in front of a closing one, of punctuation or of 's and n't.
    text = re.sub(r"([(\[{]) | ([)\]},.;:!?%]|'s\b|n't\b)", r"\1\2", text)
    return unicodedata.normalize("NFC", " ".join(text.split()))


def page_title(page_id: str) -> str:
    """The running title of a wiki id, `Python_-LRB-language-RRB-` -> `Python (language)`."""
    title = page_id.replace("_", " ")
    # Most of the millions of titles are plain words, which take a tenth of the time this way.
    if _IS_PLAIN.fullmatch(title):
        return " ".join(title.split())
    return plain_title(unescape(title))


def title_key(title: str) -> str:
    """A title as matched against claims: its tokens, without the parenthesis that tells homonyms apart."""
    if title.endswith(")"):
        # From the first space of several on alone: a megabyte of spaces has a million of such places.
        title = re.sub(r"(?<!\s)\s*\([^)]*\)$", "", title)
    return " ".join(tokenize(title))


def named_titles(claims: list[str]) -> set[str]:
    """Keys of the titles that claims may name: runs of up to 8 words from a capital or a digit on."""
    keys: set[str] = set()
    for claim in claims:
        words = re.findall(r"\w+", unicodedata.normalize("NFKC", claim))
        for start, word in enumerate(words):
            if not (word[0].isupper() or word[0].isdigit()):
                continue
            last = min(start + _MAX_NAME_WORDS, len(words))
            keys.update(title_key(" ".join(words[start:end])) for end in range(start + 1, last + 1))
    # "You Only Live Twice" names no page "You".
    return {key for key in keys if not STOP_WORDS.issuperset(key.split())}


def _sentence(item: list, name: str) -> tuple[str, int] | None:
    """(page title, line) of an annotated sentence; None where a claim has none. ValueError if malformed."""
    if len(items(item, name)) != 4:
        raise bad(name, "[annotation id, evidence id, page, line]", item)
    _, _, page, line = item
    if page is None and line is None:
        return None
    return page_title(full_text(page, f"page of {name}")), whole_number(line, f"line of {name}")


def _gold_sets(evidence: list) -> tuple[tuple[tuple[str, int], ...], ...]:
    """The distinct evidence sets as (page title, line) pairs. ValueError for another shape."""
    # A claim may have thousands of sets, so those that were seen are not looked for in a list.
    sets: dict[tuple[tuple[str, int], ...], None] = {}
    for i, evidence_set in enumerate(items(evidence, "evidence")):
        name = f"evidence[{i}]"
        found = [_sentence(item, f"{name}[{k}]") for k, item in enumerate(items(evidence_set, name))]
        # Several annotators may have marked the same sentence.
        pairs = tuple(dict.fromkeys(pair for pair in found if pair))
        if pairs:
            sets.setdefault(pairs)
    return tuple(sets)


def _label(row: dict, labels: Collection[str]) -> str:
    label = field(row, "label")
    if not isinstance(label, str) or label not in labels:
        raise bad("label", " or ".join(labels), label)
    return label


def read_verdict(row: dict) -> str:
    """The verdict of a row with one of FEVER's two deciding labels. ValueError for another label."""
    return _VERDICTS[_label(row, _VERDICTS)]


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    label = _label(row, _LABELS)
    claim = question_text(row, "claim")
    verdict = _VERDICTS.get(label)
    # Some copies leave the key out where there is no evidence.
    sets = _gold_sets(field(row, "evidence") if verdict else row.get("evidence", []))
    titles = tuple(dict.fromkeys(title for pairs in sets for title, _ in pairs))
    return Record(
        id=f"fever:{identifier(field(row, 'id'), 'id')}",
        source="fever",
        question=CLAIM_QUESTION.format(claim=unescape(claim)),
        answers=tuple(LABEL_ALIASES[verdict]) if verdict else (),
        answerable=verdict is not None,
        official_split=official_split,
        gold_sets=sets if verdict else (),
        page_titles=titles,
        # Other pages that name the claim's page may prove the verdict in their own words.
        names=tuple(bare_title(title) for title in titles),
        metadata={"type": label, "claim": claim},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per claim. NOT ENOUGH INFO claims are unanswerable; `pages.name_pages` finds their pages."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not a FEVER claim")
