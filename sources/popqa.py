"""PopQA (Mallen et al., 2023): popQA.tsv by its header -> records. `possible_answers` and the aliases are JSON lists in a cell."""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import stems
from evidence.records import Record
from utils.errors import DataError
from utils.jsonl import parse_json
from utils.text import tokenize

_COLUMNS = {"id", "subj", "prop", "obj", "s_aliases", "s_wiki_title", "s_pop", "question", "possible_answers"}

# Relations whose answer a page on the subject gives away in other words ("drafted by the Blackhawks" for ice hockey).
_IMPLIED = {"genre", "occupation", "sport", "religion", "color", "country"}
# Words of which a sentence on the relation has one.
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
    value = parse_json(row[column] or "[]")
    if not isinstance(value, list):
        raise ValueError(f"{column} is not a JSON list but {value!r:.40}")
    return [str(item) for item in value]


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record a row; the subject's page is `s_wiki_title`."""
    if not Path(path).is_file():
        raise DataError(f"{path}: no such file")
    with open(path, encoding="utf-8", newline="") as handle:
        reader = csv.DictReader(handle, delimiter="\t")
        missing = _COLUMNS - set(reader.fieldnames or [])
        if missing:
            raise DataError(f"{path}: not a PopQA table, columns missing: {', '.join(sorted(missing))}")
        for number, row in enumerate(reader, 2):
            try:
                answers = _json_list(row, "possible_answers")
                # A surname alone names other people too; it is no name for a subject of several words.
                n_words = min(2, len(tokenize(row["subj"])))
                aliases = [alias for alias in _json_list(row, "s_aliases") if len(tokenize(alias)) >= n_words]
                popularity = int(row["s_pop"])
                if not answers or not row["question"].strip():
                    raise ValueError("no question or no possible answer")
            except (ValueError, TypeError, AttributeError) as error:
                on_bad(f"{path}:{number}: not a PopQA row ({error})")
                continue
            yield Record(
                id=f"popqa:{row['id']}",
                source="popqa",
                question=row["question"].strip(),
                # The object's label is the canonical form when it is among the accepted ones.
                answers=tuple(sorted(answers, key=lambda answer: answer != row["obj"])),
                answerable=True,
                official_split=official_split,
                page_titles=(row["s_wiki_title"],),
                subject=(subject := (row["subj"], row["s_wiki_title"], *aliases)),
                names=subject if row["prop"] in _IMPLIED else (),
                cues=stems(_CUES.get(row["prop"], "")),
                metadata={"type": row["prop"], "popularity": popularity},
            )
