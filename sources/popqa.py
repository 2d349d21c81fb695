"""PopQA (Mallen et al., 2023): popQA.tsv, read by its header -> records.

`possible_answers` and the aliases are JSON lists in a quoted cell. The rows name the subject's Wikipedia
page but have no evidence: it comes from that page, from others that a search of the wiki pages finds, or from
a contexts file.
"""

import csv
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import stems
from evidence.records import Record
from sources.fields import answers, bad, full_text, identifier, items, question_text, whole_number
from sources.json_list import never_empty
from utils.errors import DataError
from utils.jsonl import open_bytes, read_lines
from utils.strict_json import parse_json
from utils.text import plain_title, tokenize

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
    """The JSON list of texts in a cell, an empty cell as an empty list; ValueError for anything else."""
    try:
        value = parse_json(row[column] or "[]")
    except ValueError as error:
        raise ValueError(f"{column} must be a JSON list, found {row[column]!r:.60} ({error})") from error
    return answers(items(value, column), column)


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    accepted = _json_list(row, "possible_answers")
    if not accepted:
        raise bad("possible_answers", "a list of accepted answers", row["possible_answers"])
    for column in ("subj", "prop", "s_wiki_title"):
        full_text(row[column], column)

    name = plain_title(row["subj"])
    title = plain_title(row["s_wiki_title"])
    # A surname alone names other people too, so it is no name for a subject of several words.
    n_words = min(2, len(tokenize(name)))
    aliases = [plain_title(alias) for alias in _json_list(row, "s_aliases")]
    subject = (name, title, *(alias for alias in aliases if len(tokenize(alias)) >= n_words))

    return Record(
        id=f"popqa:{identifier(row['id'], 'id')}",
        source="popqa",
        question=question_text(row, "question"),
        # The object's label is the canonical form when it is among the accepted ones.
        answers=tuple(sorted(accepted, key=lambda answer: answer != row["obj"])),
        answerable=True,
        official_split=official_split,
        page_titles=(title,),
        subject=subject,
        names=subject if row["prop"] in _IMPLIED else (),
        cues=stems(_CUES.get(row["prop"], "")),
        metadata={"type": row["prop"], "popularity": whole_number(row["s_pop"], "s_pop")},
    )


def _cells(line: str) -> list[str]:
    """The cells of one line. ValueError for a quote that does not end on it, or a cell over csv's limit.

    Each line is parsed alone: in a whole file, one quote too many would swallow the lines up to the next.
    """
    if "\0" in line:
        raise ValueError("it contains a zero byte")
    try:
        return next(csv.reader([line], delimiter="\t", strict=True))
    except csv.Error as error:
        raise ValueError(f"its cells cannot be told apart ({error})") from error


def _header(lines: Iterator[tuple[int, str]], path: Path) -> list[str]:
    """The column names. DataError unless all needed columns are there, once."""
    number, line = next(lines, (1, ""))
    try:
        columns = _cells(line.rstrip("\r\n")) if line else []
    except ValueError as error:
        raise DataError(f"{path}:{number}: not a PopQA table: {error}") from error
    missing = _COLUMNS - set(columns)
    if missing == _COLUMNS and "," in line:
        raise DataError(
            f"{path}:1: not a PopQA table: its cells are not separated by tabs; convert it to TSV"
        )
    if missing:
        state = "" if line else " (the file is empty)"
        raise DataError(f"{path}:1: not a PopQA table{state}, columns missing: {', '.join(sorted(missing))}")
    if len(set(columns)) < len(columns):
        raise DataError(f"{path}:1: a column name repeats in {', '.join(columns)}; rename one")
    return columns


def _records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    with open_bytes(path) as handle:
        lines = read_lines(handle, str(path), on_bad)
        columns = _header(lines, path)
        for number, line in lines:
            try:
                cells = _cells(line.rstrip("\r\n"))
                if len(cells) != len(columns):
                    raise ValueError(f"{len(cells)} cells in a table of {len(columns)} columns")
                record = _to_record(dict(zip(columns, cells)), official_split)
            except ValueError as error:
                on_bad(f"{path}:{number}: not a PopQA row: {error}")
                continue
            yield record


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per line of the table, .tsv or .tsv.gz. DataError for a table without the needed columns."""
    return never_empty(path, on_bad, lambda counted: _records(path, official_split, counted))
