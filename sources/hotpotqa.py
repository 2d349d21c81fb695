"""HotpotQA (Yang et al., 2018): distractor and fullwiki JSON -> records.

Each row of the list:

    {"_id", "question", "answer", "type", "level",
     "supporting_facts": [[title, sentence number], ...],
     "context": [[title, [sentence, ...]], ...]}

In the fullwiki files, the context is retrieved and may lack a supporting page.
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record
from sources.json_list import read_json_list


def _passages(row: dict) -> tuple[Passage, ...]:
    passages = []
    for title, sentences in row["context"]:
        passages.append(Passage(title, tuple(sentence.strip() for sentence in sentences)))
    return tuple(passages)


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. KeyError, TypeError, ValueError or AttributeError if the row is malformed."""
    passages = _passages(row)
    facts = tuple(dict.fromkeys((title, line) for title, line in row["supporting_facts"]))
    answer = row["answer"].strip()

    n_sentences = {passage.title: len(passage.sentences) for passage in passages}
    is_missing = any(title not in n_sentences for title, _ in facts)
    if not is_missing:
        # A known flaw of the data: some sentence numbers are beyond the end of their page.
        facts = tuple((title, line) for title, line in facts if line < n_sentences[title])

    # "Are A and B both plants?": the page of A alone may prove the no, so the row is neither answerable for
    # sure nor unanswerable.
    doubt = ""
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
