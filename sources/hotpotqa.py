"""HotpotQA (Yang et al., 2018): distractor and fullwiki JSON -> records.

Each row of the list:

    {"_id", "question", "answer", "type", "level",
     "supporting_facts": [[title, sentence number], ...],
     "context": [[title, [sentence, ...]], ...]}

In the fullwiki files, the context is retrieved and may lack a supporting page.
"""

import functools
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record, told_apart
from sources.fields import (
    bad,
    field,
    full_text,
    identifier,
    items,
    optional_text,
    question_text,
    text,
    title_text,
    whole_number,
)
from sources.json_list import parse_rows
from utils.schema import is_label_answer, verdict_class
from utils.text import holds_answer

# Two paragraphs of one title, as converters of other data sets write them: the facts name only the title. Or
# two titles that differ in case alone, where the fact has neither of them.
_AMBIGUOUS = "supporting fact may mean two paragraphs of one title"


def _pair(value, name: str) -> tuple:
    """The two items of a list, titles and what belongs to them. ValueError for anything else."""
    if len(items(value, name)) != 2:
        raise bad(name, "a list of two items", value)
    return value[0], value[1]


def _passages(context) -> tuple[Passage, ...]:
    passages = []
    # Without any page to read, every question would be unanswerable.
    if not items(context, "context"):
        raise bad("context", "a list of [title, sentences]", context)
    for i, entry in enumerate(context):
        name = f"context[{i}]"
        title, sentences = _pair(entry, name)
        stripped = []
        for sentence in items(sentences, f"sentences of {name}"):
            stripped.append(text(sentence, f"sentence of {name}").strip())
        passages.append(Passage(title_text(title, f"title of {name}"), tuple(stripped)))
    return told_apart(passages)


def _facts(value) -> list[tuple[str, int]]:
    """The supporting facts as (title, sentence number). ValueError for none, or another shape."""
    facts = []
    for i, entry in enumerate(items(value, "supporting_facts")):
        name = f"supporting_facts[{i}]"
        title, line = _pair(entry, name)
        facts.append((title_text(title, f"title of {name}"), whole_number(line, f"sentence of {name}")))
    if not facts:
        raise bad("supporting_facts", "a list of [title, sentence number]", value)
    return facts


def _meant(named: list[Passage], lines: list[int], answer: str) -> Passage | None:
    """The passage of a title that facts with these sentence numbers mean; None if that cannot be told."""
    if len(named) == 1:
        return named[0]
    # Several facts may mean one paragraph each.
    if len(lines) > 1:
        return None
    long_enough = [passage for passage in named if lines[0] < len(passage.sentences)]
    if len(long_enough) == 1:
        return long_enough[0]
    if is_label_answer(answer):
        return None
    with_answer = [passage for passage in long_enough if holds_answer(passage.sentences[lines[0]], [answer])]
    return with_answer[0] if len(with_answer) == 1 else None


def _loose(title: str) -> str:
    """A title without what copies of the data change: case, and underscores in place of spaces."""
    return " ".join(title.replace("_", " ").split()).casefold()


def _pages_of(facts: list[tuple[str, int]], passages: tuple[Passage, ...], answer: str) -> dict[str, str]:
    """Title -> page of the passage that the facts with this title mean, without those that cannot be told.

    A title without any passage is its own page; one in another spelling counts where no passage has it as it
    is written.
    """
    lines_of: dict[str, list[int]] = {}
    for title, line in facts:
        lines_of.setdefault(title, []).append(line)
    named_so: dict[str, list[Passage]] = {}
    named_alike: dict[str, list[Passage]] = {}
    for passage in passages:
        named_so.setdefault(passage.title, []).append(passage)
        named_alike.setdefault(_loose(passage.title), []).append(passage)
    pages = {}
    for title, lines in lines_of.items():
        named = named_so.get(title) or named_alike.get(_loose(title), [])
        if not named:
            pages[title] = title
        elif meant := _meant(named, lines, answer):
            pages[title] = meant.page
    return pages


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    passages = _passages(field(row, "context"))
    named = _facts(field(row, "supporting_facts"))
    answer = full_text(field(row, "answer"), "answer")

    pages = _pages_of(named, passages, answer)
    facts = tuple(dict.fromkeys((pages.get(title, title), line) for title, line in named))
    n_sentences = {passage.page: len(passage.sentences) for passage in passages}
    is_missing = any(page not in n_sentences for page, _ in facts)

    doubt = "" if len(pages) == len({title for title, _ in named}) else _AMBIGUOUS
    # A known flaw of the data. Without that fact, a question of two hops would pass as one of a single hop.
    if any(line >= n_sentences.get(page, line + 1) for page, line in facts):
        doubt = "supporting fact beyond the end of its page"
    # "Are A and B both plants?": the page of A alone may prove the no, so the row is neither answerable for
    # sure nor unanswerable.
    if is_missing and verdict_class(answer) == "refuted":
        doubt = "answer no may be provable without the missing page"

    return Record(
        id=f"hotpotqa:{identifier(field(row, '_id'), '_id')}",
        source="hotpotqa",
        question=question_text(row, "question"),
        answers=(answer,),
        answerable=not is_missing,
        official_split=official_split,
        gold_sets=(facts,),
        doubt=doubt,
        passages=passages,
        metadata={"type": optional_text(row, "type"), "level": optional_text(row, "level")},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per row. A gold page that is missing from the context makes the question unanswerable."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not a HotpotQA row")
