"""Malformed raw rows and files: each is named with file, line, rule and value found, or counted exactly.

A row that breaks a rule stops the build (exit 3), or is counted once with --skip-bad. A file of which a part
cannot be read stops it either way: nobody could say how many rows are lost.
"""

import codecs
import copy
import gzip
import json
import zipfile
from pathlib import Path

import pytest

import build_data
from evidence.drops import DroppedRows
from sources import READERS, contexts, fever, hotpotqa, nq_open, own, popqa, reader_of, wiki_pages
from sources.dpr import whole_title
from sources.draw import draw_records
from utils.errors import DataError
from utils.jsonl import raise_bad, read_json

ROOT = Path(__file__).resolve().parent.parent
RAW = ROOT / "data/sample/raw"

# --- good rows, one per layout

CLAIM = {"id": 1, "label": "SUPPORTS", "claim": "The tower was built by Falk."}
CLAIM |= {"evidence": [[[11, 12, "The_Tower", 0]]]}
PAGE = {"id": "The_Tower", "text": "", "lines": "0\tFalk built the tower .\n1\tIt is red ."}
HOT = {"_id": "h1", "question": "Who built it?", "answer": "Falk", "type": "bridge", "level": "easy"}
HOT |= {"supporting_facts": [["The Tower", 0]], "context": [["The Tower", ["Falk built it.", "It is red."]]]}
NQ = {"question": "who built the tower", "answer": ["Falk"]}
CHUNK = {"title": "The Tower", "text": "Falk built the tower."}
DPR = {"question": "Who built the tower?", "answers": ["Falk"], "ctxs": [CHUNK]}
SAMPLE = {"id": "x:1", "question": "Who built it?", "evidence_chunks": [CHUNK, {"title": "", "text": "Red."}]}
SAMPLE |= {"answer": "Falk", "answer_aliases": ["Falk"], "answerable": True, "support_sets": [[0]]}
SAMPLE |= {"metadata": {"type": "person"}}

POPQA_COLUMNS = [
    "id",
    "subj",
    "prop",
    "obj",
    "s_aliases",
    "s_wiki_title",
    "s_pop",
    "question",
    "possible_answers",
]
POPQA_CELLS = [
    "1",
    "The Tower",
    "architect",
    "Falk",
    "[]",
    "The Tower",
    "12",
    "Who built it?",
    '"[""Falk""]"',
]
GOOD_ROWS = {
    "fever": CLAIM,
    "pages": PAGE,
    "hotpotqa": HOT,
    "nq_open": NQ,
    "contexts": DPR,
    "own": DPR,
    "sample": SAMPLE,
    "popqa": POPQA_CELLS,
}


def read_all(layout, path, on_bad):
    """Every row of a file that the layout's reader takes, as a list."""
    readers = {"fever": fever, "hotpotqa": hotpotqa, "nq_open": nq_open, "popqa": popqa}
    if layout in readers:
        return list(readers[layout].read_records(path, "any", on_bad))
    if layout == "pages":
        return list(wiki_pages.read_pages(path, set(), set(), 10, on_bad))
    if layout == "contexts":
        keys = {contexts.question_key(f"{DPR['question']} {i}") for i in range(10)}
        return list(contexts.read_contexts(path, keys, on_bad))
    return list(own.read_records(path, "any", on_bad, source="mine"))


def good(layout, i):
    """The layout's good row with question and id `i`, so that no two rows are one."""
    row = copy.deepcopy(GOOD_ROWS[layout])
    if layout == "popqa":
        return [str(i), *row[1:]]
    for name in ("claim", "question"):
        if name in row:
            row[name] += f" {i}"
    if layout == "pages":
        row["id"] += f"_{i}"
    return row


def line_of(layout, row):
    """A row as one line of its file; a text is one already."""
    if isinstance(row, bytes):
        return row
    if layout == "popqa" and not isinstance(row, str):
        row = "\t".join(row)
    return (row if isinstance(row, str) else json.dumps(row)).encode()


def write_file(folder, layout, rows):
    """A file with these rows, one per line: a JSON list, a table, or JSON lines."""
    lines = [line_of(layout, row) for row in rows]
    if layout == "popqa":
        lines.insert(0, "\t".join(POPQA_COLUMNS).encode())
    # A list has its first row on line 2, like a table.
    is_list = layout == "hotpotqa"
    body = b"[\n" + b",\n".join(lines) + b"\n]\n" if is_list else b"\n".join(lines) + b"\n"
    path = folder / {"hotpotqa": "rows.json", "popqa": "rows.tsv"}.get(layout, "rows.jsonl")
    path.write_bytes(body)
    return path


# --- malformed rows


def changed(layout, **change):
    return {**GOOD_ROWS[layout], **change}


def without(layout, name):
    return {key: value for key, value in GOOD_ROWS[layout].items() if key != name}


def sentence(*item):
    """A claim with this annotated sentence."""
    return changed("fever", evidence=[[list(item)]])


def cells(**change):
    """The table's good row with other cells."""
    return [change.get(name, cell) for name, cell in zip(POPQA_COLUMNS, POPQA_CELLS)]


def text_of(layout, old, new):
    """The layout's good row as a line in which one piece is replaced: what json.dumps would not write."""
    line = line_of(layout, GOOD_ROWS[layout]).decode()
    assert old in line
    return line.replace(old, new, 1)


# (layout, row, words of the message: rule and value found)
BAD_ROWS = [
    ("fever", changed("fever", label=["SUPPORTS"]), ["label", "['SUPPORTS']"]),
    ("fever", changed("fever", label=None), ["label", "None"]),
    ("fever", changed("fever", label="supports"), ["label", "'supports'", "SUPPORTS"]),
    ("fever", without("fever", "label"), ["'label' is missing"]),
    ("fever", changed("fever", claim=None), ["claim must be text", "None"]),
    ("fever", changed("fever", claim="  "), ["claim", "not empty"]),
    ("fever", changed("fever", id=None), ["id must be text", "None"]),
    ("fever", changed("fever", id=[1]), ["id must be text", "[1]"]),
    ("fever", changed("fever", evidence=None), ["evidence must be a list", "None"]),
    ("fever", changed("fever", evidence="The tower."), ["evidence must be a list", "'The tower.'"]),
    # Flat: one set without the list around it.
    ("fever", changed("fever", evidence=[[11, 12, "The_Tower", 0]]), ["evidence[0][0]", "11"]),
    ("fever", changed("fever", evidence=[{"page": "The_Tower"}]), ["evidence[0]", "The_Tower"]),
    ("fever", without("fever", "evidence"), ["'evidence' is missing"]),
    ("fever", sentence(11, 12, "The_Tower"), ["[annotation id, evidence id, page, line]", "'The_Tower'"]),
    ("fever", sentence(11, 12, 1984, 0), ["page of evidence[0][0]", "1984"]),
    ("fever", sentence(11, 12, None, 3), ["page of evidence[0][0]", "None"]),
    ("fever", sentence(11, 12, "The_Tower", None), ["line of evidence[0][0]", "None"]),
    ("fever", sentence(11, 12, "The_Tower", "²"), ["line of evidence[0][0]", "'²'"]),
    ("fever", sentence(11, 12, "The_Tower", "1.5"), ["line of evidence[0][0]", "'1.5'"]),
    ("fever", sentence(11, 12, "The_Tower", -1), ["line of evidence[0][0]", "-1"]),
    ("fever", sentence(11, 12, "The_Tower", True), ["line of evidence[0][0]", "True"]),
    ("pages", changed("pages", id=1984), ["id must be text", "1984"]),
    ("pages", changed("pages", lines=["0\tOne ."]), ["lines must be text", "['0"]),
    ("pages", changed("pages", lines=None), ["lines must be text", "None"]),
    ("pages", without("pages", "lines"), ["'lines' is missing"]),
    ("hotpotqa", changed("hotpotqa", answer=None), ["answer must be text", "None"]),
    ("hotpotqa", changed("hotpotqa", answer=1962), ["answer must be text", "1962"]),
    ("hotpotqa", changed("hotpotqa", answer=["Falk"]), ["answer must be text", "['Falk']"]),
    ("hotpotqa", changed("hotpotqa", question=" "), ["question", "not empty"]),
    ("hotpotqa", without("hotpotqa", "_id"), ["'_id' is missing"]),
    ("hotpotqa", changed("hotpotqa", supporting_facts=None), ["supporting_facts", "None"]),
    ("hotpotqa", changed("hotpotqa", supporting_facts=[]), ["supporting_facts", "[]"]),
    ("hotpotqa", changed("hotpotqa", supporting_facts=[["T", 0, 1]]), ["supporting_facts[0]", "['T', 0, 1]"]),
    ("hotpotqa", changed("hotpotqa", supporting_facts=[["T", -1]]), ["supporting_facts[0]", "-1"]),
    ("hotpotqa", changed("hotpotqa", supporting_facts=[["T", "one"]]), ["supporting_facts[0]", "'one'"]),
    ("hotpotqa", changed("hotpotqa", context=[["T", "One."]]), ["sentences of context[0]", "'One.'"]),
    ("hotpotqa", changed("hotpotqa", context=[["T", ["One.", None]]]), ["sentence of context[0]", "None"]),
    ("hotpotqa", changed("hotpotqa", context=[[7, ["One."]]]), ["title of context[0]", "7"]),
    ("hotpotqa", changed("hotpotqa", context=[]), ["context must be a list of [title, sentences]", "[]"]),
    ("hotpotqa", changed("hotpotqa", context={"title": ["T"]}), ["context must be a list", "title"]),
    ("hotpotqa", changed("hotpotqa", level=["easy"]), ["level must be text", "['easy']"]),
    ("hotpotqa", "[1, 2]", ["expected a JSON object", "list"]),
    ("hotpotqa", "17", ["expected a JSON object", "int"]),
    ("hotpotqa", text_of("hotpotqa", '"easy"', "NaN"), ["NaN is not JSON"]),
    ("hotpotqa", text_of("hotpotqa", '"easy"', "9" * 5000), ["limit (4300 digits)"]),
    ("hotpotqa", text_of("hotpotqa", '"_id"', '"answer"'), ["duplicate key 'answer'"]),
    ("hotpotqa", text_of("hotpotqa", "Falk built", "\\ud83d built"), ["lone surrogate '\\ud83d'"]),
    ("hotpotqa", text_of("hotpotqa", "easy", "eas\xe9").encode("latin-1"), ["not UTF-8", "0xe9"]),
    ("nq_open", changed("nq_open", question=None), ["question must be text", "None"]),
    ("nq_open", changed("nq_open", question=""), ["question", "not empty"]),
    ("nq_open", changed("nq_open", answer=[]), ["answer", "[]"]),
    ("nq_open", changed("nq_open", answer=["Falk", None]), ["each of answer", "None"]),
    ("nq_open", changed("nq_open", answer={"text": "Falk"}), ["answer", "{'text': 'Falk'}"]),
    ("nq_open", changed("nq_open", answer=True), ["answer", "True"]),
    ("nq_open", json.dumps([NQ, NQ]), ["expected a JSON object", "list"]),
    ("nq_open", json.dumps(NQ) + ",", ["more text after the value"]),
    ("sample", changed("sample", answerable="true"), ["answerable must be true or false", "'true'"]),
    ("sample", changed("sample", evidence_chunks=[]), ["evidence_chunks must be a list of the chunks", "[]"]),
    ("sample", changed("sample", answer=" "), ["answer must be text that is not empty"]),
    ("own", {**DPR, "question": "🎉?"}, ["question must be text with a word", "🎉?"]),
    ("fever", changed("fever", claim="..."), ["claim must be text with a word", "..."]),
    ("own", {**DPR, "answers": ["[INSUFFICIENT_EVIDENCE]"]}, ["answers has [INSUFFICIENT_EVIDENCE]"]),
    ("sample", changed("sample", answer="[INSUFFICIENT_EVIDENCE]"), ["answer has [INSUFFICIENT_EVIDENCE]"]),
    ("nq_open", json.dumps(NQ)[:-4], ["not a JSON object"]),
    ("nq_open", b'{"question": "caf\xe9", "answer": ["x"]}', ["not UTF-8", "0xe9"]),
    ("nq_open", b'{"question": "a\x00b", "answer": ["x"]}', ["not a JSON object"]),
    ("nq_open", text_of("nq_open", "who", "\\udc00who"), ["lone surrogate '\\udc00'"]),
    ("nq_open", text_of("nq_open", '["Falk"]', "[Infinity]"), ["Infinity is not JSON"]),
    ("nq_open", "[" * 100_000, ["nested too deeply"]),
    ("nq_open", '{"question": "' + "a" * (17 << 20) + '", "answer": ["x"]}', ["line over 16 MB"]),
    ("contexts", changed("contexts", question=None), ["question must be text", "None"]),
    # A file of questions named as one of contexts would give no evidence, and no word of it.
    ("contexts", without("contexts", "ctxs"), ["none of the fields ctxs, positive_ctxs"]),
    ("contexts", changed("contexts", ctxs="Falk."), ["ctxs must be a list", "'Falk.'"]),
    ("contexts", changed("contexts", ctxs=["Falk."]), ["ctxs[0]", "'Falk.'"]),
    ("contexts", changed("contexts", ctxs=[CHUNK | {"title": 7}]), ["ctxs[0].title", "7"]),
    ("contexts", changed("contexts", ctxs=[{"title": "T"}]), ["'text' of ctxs[0] is missing"]),
    ("own", changed("own", answers=None), ["answers must be text", "None"]),
    ("own", changed("own", answers=[["Falk"]]), ["each of answers", "['Falk']"]),
    ("own", without("own", "answers"), ["'answers' is missing"]),
    ("own", changed("own", positive_ctxs=[CHUNK | {"title": None}]), ["positive_ctxs[0].title", "None"]),
    ("own", changed("own", hard_negative_ctxs=None), ["hard_negative_ctxs must be a list", "None"]),
    # The tenth is read, the last one is not; both are checked.
    ("own", changed("own", negative_ctxs=[CHUNK] * 12 + [{}]), ["negative_ctxs[12]", "title"]),
    ("own", changed("own", ctxs=[CHUNK | {"isgold": "no"}]), ["isgold", "'no'"]),
    ("own", changed("own", id={"n": 1}), ["id", "{'n': 1}"]),
    ("own", changed("own", question=["Who?"]), ["question must be text", "['Who?']"]),
    ("sample", changed("sample", support_sets=[[-1]]), ["support_sets", "0-1", "-1"]),
    ("sample", changed("sample", support_sets=[[2]]), ["support_sets", "0-1", "2"]),
    ("sample", changed("sample", support_sets=[0]), ["support_sets", "0"]),
    ("sample", changed("sample", support_sets=[[]]), ["support_sets", "[]"]),
    ("sample", changed("sample", answerable="yes"), ["answerable", "'yes'"]),
    ("sample", changed("sample", answer=None), ["answer must be text", "None"]),
    ("sample", changed("sample", answer_aliases=["Falk", None]), ["answer_aliases", "None"]),
    ("sample", changed("sample", evidence_chunks="Falk."), ["evidence_chunks must be a list", "'Falk.'"]),
    (
        "sample",
        changed("sample", evidence_chunks=[{"title": None, "text": "x"}]),
        ["chunks[0].title", "None"],
    ),
    ("sample", changed("sample", evidence_chunks=[{"title": "T", "text": " "}]), ["chunks[0].text", "empty"]),
    ("sample", changed("sample", metadata=[1]), ["metadata", "[1]"]),
    ("popqa", cells(possible_answers="Falk"), ["possible_answers must be a JSON list", "'Falk'"]),
    ("popqa", cells(possible_answers="['Falk']"), ["possible_answers", "['Falk']"]),
    ("popqa", cells(possible_answers=""), ["possible_answers"]),
    ("popqa", cells(possible_answers="[null]"), ["possible_answers", "None"]),
    ("popqa", cells(s_aliases="{}"), ["s_aliases must be a list", "{}"]),
    ("popqa", cells(question=" "), ["question", "not empty"]),
    ("popqa", cells(s_pop="many"), ["s_pop", "'many'"]),
    ("popqa", cells(s_pop="²"), ["s_pop", "'²'"]),
    ("popqa", [*POPQA_CELLS, "more"], ["10 cells", "9 columns"]),
    ("popqa", POPQA_CELLS[:-1], ["8 cells", "9 columns"]),
    # A quote that does not end would swallow the lines below.
    ("popqa", cells(obj='"Falk'), ["cells cannot be told apart"]),
    ("popqa", cells(obj="F" * 131_073), ["field limit"]),
    ("popqa", cells(obj="Fa\x00lk"), ["zero byte"]),
    ("popqa", "\t".join(cells(obj="Falk\xe9")).encode("latin-1"), ["not UTF-8", "0xe9"]),
]


@pytest.mark.parametrize(("layout", "row", "words"), BAD_ROWS, ids=lambda case: str(case)[:50])
def test_a_malformed_row_is_named_by_line_and_counted_once(layout, row, words, tmp_path):
    path = write_file(tmp_path, layout, [good(layout, 1), row, good(layout, 2)])
    line = 3 if layout in ("hotpotqa", "popqa") else 2
    with pytest.raises(DataError) as stopped:
        read_all(layout, path, raise_bad)
    message = str(stopped.value)
    assert stopped.value.exit_code == 3
    assert f"{path}:{line}: " in message
    assert [word for word in words if word not in message] == []
    assert "\n" not in message
    assert len(message) < 600

    problems = []
    assert len(read_all(layout, path, problems.append)) == 2
    assert len(problems) == 1


# --- files that cannot be read to their end

LINES = b"".join(line_of("nq_open", good("nq_open", i)) + b"\n" for i in range(9))
LIST = json.dumps([good("hotpotqa", i) for i in range(9)]).encode()
TABLE = "\t".join(POPQA_COLUMNS) + "\n" + "\t".join(POPQA_CELLS) + "\n"

# (layout, file name, bytes, words of the message)
BAD_FILES = [
    ("nq_open", "rows.jsonl", b"", ["rows.jsonl: the file has no rows"]),
    ("nq_open", "rows.jsonl", b"\n \n", ["rows.jsonl: the file has no rows"]),
    ("hotpotqa", "rows.json", b"", ["rows.json: the file has no rows"]),
    ("hotpotqa", "rows.json", b"[]", ["rows.json: the file has no rows"]),
    ("popqa", "rows.tsv", b"", ["rows.tsv:1: not a PopQA table (the file is empty)", "columns missing"]),
    ("popqa", "rows.tsv", TABLE.replace("\t", ",").encode(), ["rows.tsv:1: ", "not separated by tabs"]),
    (
        "own",
        "rows.csv",
        b"question,answers\nWho?,Falk\n",
        ["rows.csv:1: found a table (CSV or TSV)", "JSON lines"],
    ),
    ("popqa", "rows.tsv", b"id,subj,prop\n1,2,3\n", ["rows.tsv:1: not a PopQA table"]),
    ("popqa", "rows.tsv", TABLE.replace("id", "id\tid", 1).encode(), ["rows.tsv:1: a column name repeats"]),
    ("popqa", "rows.tsv", TABLE.replace("\n", "\r").encode(), ["rows.tsv:1: not a PopQA table: its cells"]),
    (
        "popqa",
        "rows.tsv",
        TABLE.replace("id", '"id', 1).encode(),
        ["rows.tsv:1: not a PopQA table: its cells"],
    ),
    ("popqa", "rows.tsv", TABLE.split("\n")[0].encode(), ["rows.tsv: the file has no rows"]),
    ("pages", "pages.jsonl", b"\n", ["pages.jsonl: the file has no pages"]),
    (
        "own",
        "rows.json",
        json.dumps({"data": [DPR]}, indent=1).encode(),
        ["rows.json:1: one JSON object over"],
    ),
    # A first line that ends within the object, whatever the name of the file.
    (
        "own",
        "rows.jsonl",
        b'{"version": "1.0",\n "data": []\n}\n',
        ["rows.jsonl:1: one JSON object over"],
    ),
    ("pages", "pages.json", json.dumps(PAGE, indent=1).encode(), ["pages.json:1: one JSON object over"]),
    # Rows of one line would be counted as one.
    (
        "nq_open",
        "rows.jsonl",
        LINES.replace(b"\n", b"\r"),
        ["rows.jsonl:1: the line ends are CR alone", "LF"],
    ),
    (
        "nq_open",
        "rows.jsonl",
        LINES.replace(b"\n", b" ", 1),
        ["rows.jsonl:1: several JSON values on one line"],
    ),
    ("pages", "pages.jsonl", 2 * json.dumps(PAGE).encode(), ["pages.jsonl:1: several JSON values"]),
    (
        "nq_open",
        "rows.jsonl",
        (json.dumps(NQ) + "\r").encode() * 250_000,
        ["rows.jsonl:1: the line ends are CR alone"],
    ),
    ("own", "rows.jsonl", b"PK\x03\x04", ["rows.jsonl: a zip file", "unpack it"]),
    ("nq_open", "rows.jsonl", LINES.decode().encode("utf-16"), ["rows.jsonl:1: UTF-16"]),
    ("nq_open", "rows.jsonl", LINES.decode().encode("utf-16-le"), ["rows.jsonl:1: UTF-16"]),
    ("hotpotqa", "rows.json", LIST.decode().encode("utf-16"), ["rows.json:1: UTF-16"]),
    ("popqa", "rows.tsv", TABLE.encode("utf-16"), ["rows.tsv:1: UTF-16"]),
    ("nq_open", "rows.jsonl.gz", gzip.compress(LINES, mtime=0)[:-9], ["rows.jsonl.gz: damaged gzip"]),
    ("hotpotqa", "rows.json.gz", gzip.compress(LIST, mtime=0)[:-9], ["rows.json.gz: damaged gzip"]),
    ("popqa", "rows.tsv.gz", gzip.compress(TABLE.encode(), mtime=0)[:-9], ["rows.tsv.gz: damaged gzip"]),
    (
        "own",
        "rows.jsonl.gz",
        LINES,
        ["rows.jsonl.gz: damaged gzip", "take .gz off its name if it is not packed"],
    ),
    # Two lists in one file: the second one would stay unread.
    ("hotpotqa", "rows.json", LIST + b"\n" + LIST, ["rows.json:2: ", "more text after the end of the list"]),
    ("hotpotqa", "rows.json", LIST + b" junk", ["rows.json:1: ", "more text after the end of the list"]),
    ("hotpotqa", "rows.json", LIST[:-1], ["rows.json:1: ", "the list is not closed"]),
    ("hotpotqa", "rows.json", LIST[:-9], ["rows.json:1: not a JSON list of objects"]),
    ("hotpotqa", "rows.json", LIST.replace(b"}, {", b"} {", 1), ["rows.json:1: ", "expected , or ]"]),
    ("nq_open", "rows.json", b"[" + LINES, ["rows.json:2: ", "expected , or ]"]),
]


@pytest.mark.parametrize(
    ("layout", "name", "content", "words"), BAD_FILES, ids=lambda case: case[:20] if len(case) < 99 else ""
)
def test_a_file_with_an_unread_part_is_an_error_also_with_skip_bad(layout, name, content, words, tmp_path):
    path = tmp_path / name
    path.write_bytes(content)
    for on_bad in (raise_bad, [].append):
        with pytest.raises(DataError) as stopped:
            read_all(layout, path, on_bad)
        assert [word for word in words if word not in str(stopped.value)] == []


def test_a_table_whose_rows_are_all_bad_is_not_called_empty(tmp_path):
    path = tmp_path / "rows.tsv"
    path.write_bytes(TABLE.split("\n")[0].encode() + b"\nOdense \xf8\n")
    problems = []
    assert read_all("popqa", path, problems.append) == []
    assert [problem.startswith(f"{path}:2: not UTF-8") for problem in problems] == [True]


def test_pages_whose_lines_are_all_bad_are_not_called_empty(tmp_path):
    path = tmp_path / "pages.jsonl"
    path.write_text("junk\nmore junk\n")
    problems = []
    assert read_all("pages", path, problems.append) == []
    assert len(problems) == 2


@pytest.mark.parametrize("layout", GOOD_ROWS)
def test_a_folder_in_place_of_a_file_is_named(layout, tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_all(layout, tmp_path, raise_bad)


# --- unusual files that are read


@pytest.mark.parametrize("layout", GOOD_ROWS)
def test_a_byte_order_mark_windows_line_ends_and_gzip_are_read(layout, tmp_path):
    path = write_file(tmp_path, layout, [good(layout, 1), good(layout, 2)])
    plain = path.read_bytes()
    path.write_bytes(codecs.BOM_UTF8 + plain.replace(b"\n", b"\r\n"))
    assert len(read_all(layout, path, raise_bad)) == 2
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(plain))
    assert read_all(layout, packed, raise_bad) == read_all(layout, path, raise_bad)
    # A gzip that lost the end of its name is known by its content.
    path.write_bytes(packed.read_bytes())
    assert read_all(layout, path, raise_bad) == read_all(layout, packed, raise_bad)


@pytest.mark.parametrize("layout", ["fever", "hotpotqa", "nq_open", "contexts", "own"])
def test_a_list_and_lines_are_read_alike(layout, tmp_path):
    rows = [good(layout, 1), good(layout, 2)]
    as_list = tmp_path / "list.json"
    as_list.write_text(json.dumps(rows, indent=2))
    as_lines = tmp_path / "lines.json"
    as_lines.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_all(layout, as_list, raise_bad) == read_all(layout, as_lines, raise_bad)
    assert len(read_all(layout, as_list, raise_bad)) == 2


@pytest.mark.parametrize("layout", ["own", "nq_open", "pages", "fever"])
@pytest.mark.parametrize("indent", [None, 1])
def test_a_list_in_a_file_of_any_name_is_read(layout, indent, tmp_path):
    rows = [good(layout, i) for i in range(3)]
    lines = write_file(tmp_path, layout, rows)
    expected = read_all(layout, lines, raise_bad)
    for name in ("list.json", "list.jsonl"):
        path = tmp_path / name
        path.write_text(json.dumps(rows, indent=indent))
        assert read_all(layout, path, raise_bad) == expected
    assert len(expected) == 3


def test_rows_on_the_border_of_the_buffer_are_counted_exactly(tmp_path):
    # 4 MB in a buffer of 1 MB, so that bad rows of every kind are cut somewhere.
    rows = []
    for i in range(400):
        rows.append(json.dumps(good("hotpotqa", i) | {"type": "x" * 9000}))
        rows.append(text_of("hotpotqa", '"bridge"', "NaN" if i % 2 else '"' + "\\ud83d" * 900 + '"'))
    path = write_file(tmp_path, "hotpotqa", rows)
    problems = []
    assert len(read_all("hotpotqa", path, problems.append)) == 400
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:{2 * i + 3}" for i in range(400)]


def test_numbers_as_tables_write_them_are_read(tmp_path):
    rows = [sentence(11, 12, "The_Tower", line) for line in ("0", 0.0, "0.0", 0)]
    path = write_file(tmp_path, "fever", rows)
    records = read_all("fever", path, raise_bad)
    assert {record.gold_sets for record in records} == {((("The Tower", 0),),)}


def test_every_positive_of_an_own_row_is_read_and_of_a_contexts_file_the_first_three(tmp_path):
    row = {"question": DPR["question"], "answers": ["Falk"]}
    row["positive_ctxs"] = [{"title": f"T{i}", "text": f"Falk built tower {i}."} for i in range(12)]
    row["hard_negative_ctxs"] = [{"title": f"N{i}", "text": f"Ship {i}."} for i in range(12)]
    path = write_file(tmp_path, "own", [row])
    (record,) = own.read_records(path, "any", raise_bad, source="mine")
    assert [passage.title for passage in record.passages if passage.is_gold] == [f"T{i}" for i in range(12)]
    assert sum(not passage.is_gold for passage in record.passages) == 10
    key = contexts.question_key(row["question"])
    found = contexts.read_contexts(path, {key}, raise_bad)[key]
    assert [passage.title for passage in found if passage.is_gold] == ["T0", "T1", "T2"]


def test_a_zip_is_read_in_any_case_of_its_names_and_one_without_pages_is_named(tmp_path):
    path = tmp_path / "WIKI.ZIP"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("WIKI-001.JSONL", json.dumps(PAGE))
    assert read_all("pages", path, raise_bad) == ["The Tower"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("pages.json", json.dumps([PAGE]))
    with pytest.raises(DataError, match="no .jsonl file in the zip, only pages.json"):
        read_all("pages", path, raise_bad)


def test_entities_in_own_rows_are_characters(tmp_path):
    row = {"question": "Who built AT&amp;T?", "answers": ["Falk &amp; Ek"]}
    row["ctxs"] = [{"title": "AT&amp;T", "text": "Falk &amp; Ek built it."}]
    (record,) = own.read_records(write_file(tmp_path, "own", [row]), "any", raise_bad, source="mine")
    assert (record.question, record.answers) == ("Who built AT&T?", ("Falk & Ek",))
    assert record.passages[0].sentences == ("Falk & Ek built it.",)
    sample = changed("sample", answer="Falk &amp; Ek", evidence_chunks=[CHUNK | {"text": "Falk &amp; Ek."}])
    (record,) = own.read_records(write_file(tmp_path, "sample", [sample]), "any", raise_bad, source="mine")
    assert record.answers[0] == "Falk & Ek"
    assert record.passages[0].sentences == ("Falk & Ek.",)


def test_a_number_as_the_answer_is_its_text(tmp_path):
    rows = [DPR | {"answers": [1700.0]}, DPR | {"answers": 3.5}, changed("sample", answer=1962)]
    found = list(own.read_records(write_file(tmp_path, "own", rows), "any", raise_bad, source="mine"))
    assert [record.answers[0] for record in found] == ["1700", "3.5", "1962"]


@pytest.mark.parametrize(("name", "hint"), [("FEVER", "fever"), ("nq-open", "nq_open"), ("handbook", "")])
def test_a_source_whose_name_is_nearly_that_of_a_reader_is_asked_about(name, hint, capsys):
    reader_of(name)
    said = capsys.readouterr().err
    assert f"{name}: read as your own questions" in said
    assert said.rstrip().endswith(f"; did you mean {hint}?)" if hint else "has that name)")


def test_one_text_or_number_is_a_list_of_one_answer(tmp_path):
    rows = [changed("own", answers=answer) for answer in ("Falk", ["Falk"], 1962, [1962.5], ["", "Falk"])]
    records = read_all("own", write_file(tmp_path, "own", rows), raise_bad)
    found = [record.answers for record in records]
    assert found == [("Falk",), ("Falk",), ("1962",), ("1962.5",), ("Falk",)]


def test_a_fact_beyond_the_end_of_its_page_drops_the_row(tmp_path):
    two_hops = changed("hotpotqa", supporting_facts=[["The Tower", 0], ["The Tower", 2]])
    (record,) = read_all("hotpotqa", write_file(tmp_path, "hotpotqa", [two_hops]), raise_bad)
    # Left out, the fact would leave a question of one hop that looks answerable.
    assert record.doubt == "supporting fact beyond the end of its page"


def test_a_fact_finds_its_paragraph_in_another_spelling_of_the_title(tmp_path):
    row = changed("hotpotqa", supporting_facts=[[" Caf\u00e9  Ek", 0]])
    row["context"] = [["Cafe\u0301 Ek ", ["Falk built it."]]]
    (record,) = read_all("hotpotqa", write_file(tmp_path, "hotpotqa", [row]), raise_bad)
    assert record.answerable
    assert record.gold_sets == ((("Café Ek", 0),),)


@pytest.mark.parametrize("number", ["²", "٣", "1.5", "-1", "99999"])
def test_a_page_line_without_a_decimal_number_is_skipped(number):
    assert wiki_pages.page_sentences(f"0\tOne .\n{number}\tTwo .") == ["One."]


@pytest.mark.parametrize(
    ("title", "whole"),
    [
        ("Wonder (film", "Wonder (film)"),
        ("Kevin (Probably", "Kevin (Probably)"),
        ("Wonder (film)", "Wonder (film)"),
        ("Kevin (Probably) Saves the World", "Kevin (Probably) Saves the World"),
        ("A (b) (c", "A (b) (c)"),
        ("Smile :)", "Smile :)"),
        ("", ""),
    ],
)
def test_a_title_cut_in_its_parenthesis_is_closed(title, whole):
    assert whole_title(title) == whole


# --- whole builds


def sample_config(folder, extra):
    """A config of copies of the bundled raw files, with `extra` rows (by source) at the end of each."""
    names = {
        "fever": "fever/train.jsonl",
        "hotpotqa": "hotpotqa/hotpot_train_v1.1.json",
        "nq_open": "nq_open/NQ-open.train.jsonl",
        "popqa": "popqa/popQA.tsv",
    }
    sources = {}
    for source, name in names.items():
        lines = [line_of(source, row) for row in extra.get(source, [])]
        raw = (RAW / name).read_bytes().rstrip()
        # The bundled table has more columns than the rows here; a row of another width is malformed anyway.
        if source == "hotpotqa":
            raw = raw.removesuffix(b"]").rstrip() + b"".join(b",\n" + line for line in lines) + b"\n]"
        else:
            raw += b"".join(b"\n" + line for line in lines)
        path = folder / Path(name).name
        path.write_bytes(raw + b"\n")
        sources[source] = {"licence": "test", "records": [{"path": str(path), "split": "any"}]}
    sources["fever"]["pages"] = [{"path": str(RAW / "fever/wiki-pages.zip")}]
    contexts_path = folder / "ctxs.jsonl"
    rows = [DPR, *extra.get("contexts", [])]
    contexts_path.write_bytes(b"\n".join(line_of("contexts", row) for row in rows))
    sources["nq_open"]["contexts"] = [
        {"path": str(RAW / "nq_open/nq-contexts.json")},
        {"path": str(contexts_path)},
    ]
    config = folder / "sources.yaml"
    config.write_text(json.dumps({"sources": sources}))
    return config


def test_skip_bad_counts_exactly_what_was_injected(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    extra: dict[str, list] = {}
    for layout, row, _ in BAD_ROWS:
        extra.setdefault(layout, []).append(row)
    config = sample_config(tmp_path, extra)
    build_data.main(["--sources-config", str(config), "--accept-new-hash", "--skip-bad"])
    dropped = read_json(tmp_path / "data/processed/audit.json")["dropped"]
    found = {source: reasons.get("malformed row", 0) for source, reasons in dropped.items()}
    assert found == {
        "fever": len(extra["fever"]),
        "hotpotqa": len(extra["hotpotqa"]),
        "nq_open": len(extra["nq_open"]) + len(extra["contexts"]),
        "popqa": len(extra["popqa"]),
    }
    assert sum(found.values()) > 60


def test_without_skip_bad_the_process_names_the_row_and_exits_3(stage, tmp_path):
    config = sample_config(tmp_path, {"popqa": ["not\ta\trow"]})
    done = stage("build_data.py", "--sources-config", config, "--accept-new-hash", home=tmp_path)
    assert done.returncode == 3
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) <= 3
    assert "popQA.tsv:" in done.stderr.splitlines()[-1]
    assert "3 cells in a table of 17 columns; correct it, or add --skip-bad" in done.stderr
    assert not (tmp_path / "data/processed/train.jsonl").exists()


def test_a_file_in_the_place_of_the_data_folder_is_named_in_one_line(stage, tmp_path):
    (tmp_path / "data").write_text("notes")
    config = sample_config(tmp_path, {})
    done = stage("build_data.py", "--sources-config", config, "--accept-new-hash", home=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'data'}")
    assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "data").read_text() == "notes"


# --- rows that repeat or contradict each other


def drawn(layout, rows, tmp_path):
    """(records that are used, counts of the others) of a source with these rows."""
    drops = DroppedRows()
    path = write_file(tmp_path, layout, rows)
    source = layout if layout in READERS else "mine"
    return draw_records(source, [(path, {})], 0, 42, raise_bad, drops), drops


def test_of_contradictory_claims_none_is_used_and_of_equal_ones_the_first(tmp_path):
    other = changed("fever", id=2, label="REFUTES")
    unknown = {**good("fever", 5), "id": 6, "label": "NOT ENOUGH INFO", "evidence": []}
    rows = [CLAIM, other, good("fever", 3) | {"id": 3}, good("fever", 3) | {"id": 4}]
    rows += [
        good("fever", 5) | {"id": 5},
        unknown,
        changed("fever", id=7, claim="THE tower was built by Falk"),
    ]
    records, drops = drawn("fever", rows, tmp_path)
    assert [record.id for record in records] == ["fever:3"]
    assert drops == {"contradictory claim": 5, "duplicate claim": 1}


def test_a_question_with_a_shared_answer_is_a_duplicate_and_with_another_a_contradiction(tmp_path):
    same = {"question": "Who built the  tower?", "answer": ["Falk I", "FALK"]}
    records, drops = drawn("nq_open", [NQ, same, good("nq_open", 1)], tmp_path)
    assert len(records) == 2
    assert drops == {"duplicate question": 1}
    records, drops = drawn("nq_open", [NQ, NQ | {"answer": ["Ek"]}, good("nq_open", 1)], tmp_path)
    assert [record.question for record in records] == ["who built the tower 1"]
    assert drops == {"contradictory question": 2}


def test_a_question_about_another_passage_is_another_question(tmp_path):
    elsewhere = changed("own", answers=["Ek"], ctxs=[CHUNK | {"text": "Ek built the tower."}])
    records, drops = drawn("own", [DPR, elsewhere], tmp_path)
    assert [record.answers for record in records] == [("Falk",), ("Ek",)]
    assert not drops
