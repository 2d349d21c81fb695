"""HotpotQA (Yang et al., 2018): distractor and fullwiki json -> records.

{"_id", "question", "answer", "type", "level", "supporting_facts": [[title, sentence], ...], "context": [[title, [sentence, ...]], ...]}
"""

from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.records import Passage, Record
from sources.json_list import read_json_list


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record a row. A gold page that is missing from the context (fullwiki) makes the question unanswerable."""
    for number, row in read_json_list(path):
        try:
            passages = tuple(
                Passage(title, tuple(s.strip() for s in sentences)) for title, sentences in row["context"]
            )
            facts = tuple(dict.fromkeys((title, line) for title, line in row["supporting_facts"]))
            question = row["question"]
            answer = row["answer"]
            row_id = row["_id"]
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            on_bad(
                f"{path}: row {number} is not a HotpotQA row ({error!r}); expected _id, question, answer, context"
            )
            continue
        lengths = {passage.title: len(passage.sentences) for passage in passages}
        complete = all(line < lengths.get(title, 0) for title, line in facts)
        missing = any(title not in lengths for title, _ in facts)
        if not complete and not missing:
            facts = tuple(
                (title, line) for title, line in facts if line < lengths[title]
            )  # a known flaw: sentence numbers past the end
        yield Record(
            id=f"hotpotqa:{row_id}",
            source="hotpotqa",
            question=question.strip(),
            answers=(answer.strip(),),
            answerable=not missing,
            official_split=official_split,
            gold_sets=(facts,),
            doubt="answer no may be provable without the missing page"
            if missing and answer.strip().lower() == "no"
            else "",
            passages=passages,
            metadata={"type": row.get("type"), "level": row.get("level")},
        )
