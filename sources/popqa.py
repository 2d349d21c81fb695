"""PopQA (Mallen et al., 2023): popQA.tsv, read by its header -> records.

`possible_answers` and the aliases are JSON lists in a quoted cell. The rows name the subject's Wikipedia
page but have no evidence: it comes from the page pool, or from a contexts file.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import stems
from evidence.records import Record
from utils.errors import DataError
from utils.jsonl import parse_json
from utils.text import tokenize

_COLUMNS = {"id", "subj", "prop", "obj", "s_aliases", "s_wiki_title", "s_pop", "question", "possible_answers"}

# Relations whose answer a page about the subject gives away in other words ("drafted by the Blackhawks" for
# ice hockey): a chunk that names the subject is no negative.
_IMPLIED = {"genre", "occupation", "sport", "religion", "color", "country"}

# Words of which a sentence that states the relation has one. Without them, a chunk with subject and answer
# may be about something else that connects both.
_CUES = {
    "director": "directed",
    "producer": "produced",
    "screenwriter": "screenwriter screenplay written script",
    "composer": "composed music score song opera",
    "author": "author written novel book story poem play published",
    "place of birth": "born",
    "capital": "capital",
    "capital of": "capital",
    "father": "father son daughter child parent",
    "mother": "mother son daughter child parent",
}


def _json_list(row: dict, column: str) -> list[str]:
    """The JSON list in a cell, an empty cell as an empty list; ValueError for anything else."""
    value = parse_json(row[column] or "[]")
    if not isinstance(value, list):
        raise ValueError(f"{column} is not a JSON list but {value!r:.40}")
    return [str(item) for item in value]


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError, TypeError or AttributeError if the row is malformed."""
    answers = _json_list(row, "possible_answers")
    if not answers or not row["question"].strip():
        raise ValueError("no question or no possible answer")

    # A surname alone names other people too, so it is no name for a subject of several words.
    n_words = min(2, len(tokenize(row["subj"])))
    aliases = [alias for alias in _json_list(row, "s_aliases") if len(tokenize(alias)) >= n_words]
    subject = (row["subj"], row["s_wiki_title"], *aliases)

    return Record(
        id=f"popqa:{row['id']}",
        source="popqa",
        question=row["question"].strip(),
        # The object's label is the canonical form when it is among the accepted ones.
        answers=tuple(sorted(answers, key=lambda answer: answer != row["obj"])),
        answerable=True,
        official_split=official_split,
        page_titles=(row["s_wiki_title"],),
        subject=subject,
        names=subject if row["prop"] in _IMPLIED else (),
        cues=stems(_CUES.get(row["prop"], "")),
        metadata={"type": row["prop"], "popularity": int(row["s_pop"])},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per row of the table. DataError for a missing file or a table without the needed columns."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    with open(path, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t")
        missing = _COLUMNS - set(reader.fieldnames or [])
        if missing:
            raise DataError(f"{path}: not a PopQA table, columns missing: {', '.join(sorted(missing))}")
        # Numbered from 2, as an editor shows them: line 1 is the header.
        for number, row in enumerate(reader, 2):
            try:
                record = _to_record(row, official_split)
            except (ValueError, TypeError, AttributeError) as error:
                on_bad(f"{path}:{number}: not a PopQA row ({error})")
                continue
            yield record
