"""HotpotQA (Yang et al., 2018): distractor and fullwiki JSON -> records.

Each row of the list:

    {"_id", "question", "answer", "type", "level",
     "supporting_facts": [[title, sentence number], ...],
     "context": [[title, [sentence, ...]], ...]}

In the fullwiki files, the context is retrieved and may lack a supporting page.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record, told_apart
from sources.json_list import read_json_list
from utils.schema import is_label_answer
from utils.text import holds_answer

# Two paragraphs of one title, as converters of other data sets write them: the facts name only the title.
_AMBIGUOUS = "supporting fact may mean two paragraphs of one title"


def _passages(row: dict) -> tuple[Passage, ...]:
    passages = []
    for title, sentences in row["context"]:
        passages.append(Passage(title, tuple(sentence.strip() for sentence in sentences)))
    return told_apart(passages)


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


def _pages_of(facts: list[tuple[str, int]], passages: tuple[Passage, ...], answer: str) -> dict[str, str]:
    """Title -> page of the passage that the facts with this title mean, without those that cannot be told.

    A title without any passage is its own page.
    """
    pages = {}
    for title in dict.fromkeys(title for title, _ in facts):
        named = [passage for passage in passages if passage.title == title]
        if not named:
            pages[title] = title
        elif meant := _meant(named, [line for other, line in facts if other == title], answer):
            pages[title] = meant.page
    return pages


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. KeyError, TypeError, ValueError or AttributeError if the row is malformed."""
    passages = _passages(row)
    named = [(title, line) for title, line in row["supporting_facts"]]
    answer = row["answer"].strip()

    pages = _pages_of(named, passages, answer)
    facts = tuple(dict.fromkeys((pages.get(title, title), line) for title, line in named))
    n_sentences = {passage.page: len(passage.sentences) for passage in passages}
    is_missing = any(page not in n_sentences for page, _ in facts)
    if not is_missing:
        # A known flaw of the data: some sentence numbers are beyond the end of their page.
        facts = tuple((page, line) for page, line in facts if line < n_sentences[page])

    # "Are A and B both plants?": the page of A alone may prove the no, so the row is neither answerable for
    # sure nor unanswerable.
    doubt = "" if len(pages) == len({title for title, _ in named}) else _AMBIGUOUS
    if is_missing and answer.lower() == "no":
        doubt = "answer no may be provable without the missing page"

    return Record(
        id=f"hotpotqa:{row['_id']}",
        source="hotpotqa",
        question=row["question"].strip(),
        answers=(answer,),
        answerable=not is_missing,
        official_split=official_split,
        gold_sets=(facts,),
        doubt=doubt,
        passages=passages,
        metadata={"type": row.get("type"), "level": row.get("level")},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per row. A gold page that is missing from the context makes the question unanswerable."""
    for number, row in read_json_list(path):
        try:
            record = _to_record(row, official_split)
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            on_bad(
                f"{path}: row {number} is not a HotpotQA row ({error!r}); "
                "expected _id, question, answer, context"
            )
            continue
        yield record
