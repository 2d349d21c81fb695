"""Files made by others take time and memory by their size, name no file outside, and steer no terminal."""

import gzip
import os
import subprocess
import sys
import time
from html.parser import HTMLParser
from pathlib import Path

import pytest

from asking.documents import read_documents
from asking.markdown import markdown_blocks
from asking.markup import html_blocks
from evaluation.figures import Chart, Line
from evaluation.plots import plot_charts
from reporting.html import PageWriter
from utils import jsonl
from utils.cards import licence_rows
from utils.errors import DataError, UsageError
from utils.progress import print_line
from utils.recognition import kind_of
from utils.terminal import literal
from utils.yaml_files import parse_yaml, read_yaml

ROOT = Path(__file__).resolve().parent.parent.parent
ESCAPES = "\x1b]8;;http://x\x07link\x1b]8;;\x07 \x1b[2J\x9b31m a\rb \u202eabc\u2066 \x00 \U000e0041"

# --- YAML

ALIASES = {
    "lists": ("[x, x, x, x, x, x, x, x, x]", "[{}]"),
    "merged blocks": ("{x: 1}", "{{<<: [{}]}}"),
}


def bomb(first: str, next_line: str) -> str:
    lines = [f"a0: &a0 {first}"]
    for i in range(1, 12):
        lines.append(f"a{i}: &a{i} {next_line.format(', '.join([f'*a{i - 1}'] * 9))}")
    return "\n".join(lines)


@pytest.mark.parametrize("name", ALIASES)
def test_aliases_that_unfold_to_billions_are_refused(name, tmp_path):
    text = bomb(*ALIASES[name])
    with pytest.raises(UsageError, match=r"c.yaml: too large for a config \(anchors .*20,000 values"):
        parse_yaml(text, "c.yaml")
    # Any text file is tried as YAML where a message says what it is.
    path = tmp_path / "notes.txt"
    path.write_text(text)
    assert kind_of(path).name in ("text", "table")


def test_aliases_of_a_usual_config_are_read():
    assert parse_yaml("a: &a {x: 1, y: [2]}\nb: {<<: *a, z: *a}", "c")["b"] == {
        **{"x": 1, "y": [2]},
        "z": {"x": 1, "y": [2]},
    }


@pytest.mark.parametrize("call", ["os.mkdir [{}]", "subprocess.check_call [[mkdir, {}]]", "eval ['{}']"])
def test_a_yaml_tag_runs_nothing(call, tmp_path):
    function, arguments = call.split(" ", 1)
    tag = f"a: !!python/object/apply:{function} {arguments.format(tmp_path / 'canary')}"
    with pytest.raises(UsageError, match="tags such as !x are not read"):
        parse_yaml(tag, "c.yaml")
    assert not (tmp_path / "canary").exists()


def test_a_yaml_of_a_data_files_size_is_not_parsed(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text("a: " + "59:" * 700_000 + "59\n")
    with pytest.raises(UsageError, match="c.yaml: has 2 MB, and no config is over 1 MB"):
        read_yaml(path)


# --- packed files


def test_a_packed_document_that_would_fill_memory_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(jsonl, "_MAX_UNPACKED_BYTES", 1 << 16)
    path = tmp_path / "results.json.gz"
    path.write_bytes(gzip.compress(b'{"a": "' + bytes(1 << 20) + b'"}'))
    with pytest.raises(DataError, match=r"results.json.gz: unpacks to over 0 MB"):
        jsonl.read_json(path)
    # The limit is for packed ones alone.
    path = tmp_path / "results.json"
    path.write_text('{"a": "' + "x" * (1 << 17) + '"}')
    assert len(jsonl.read_json(path)["a"]) == 1 << 17


# --- documents

# Each begins something that nothing ends; the parsers looked for the end of each up to the end of the file.
OPENINGS = ["<a ", "<!--", '<a x="', "<a x='>' ", "<![CDATA[", "<!", "<?", "</", "</a ", "&#", "<script>"]
MARKS = [
    "<!--",
    "![",
    "![](",
    "[a](",
    "[a](b [",
    '](b "',
    "[",
    "*",
    "> ",
    "<a",
    "&",
    "][",
    "`",
    "| ",
    "](a(b)",
    "![a](b(c)",
    "](a(",
    "```\n",
]
LINES = ["-{}x", "- - -{:s}x", "_ {}x", "# a{:s}b", "# a{:s}#", "={}x", "|{}x", "1. {:s}x"]


def seconds(read, text: str) -> float:
    started = time.process_time()
    read(text)
    return time.process_time() - started


@pytest.mark.parametrize(
    "read, opening", [(html_blocks, o) for o in OPENINGS] + [(markdown_blocks, m) for m in MARKS]
)
def test_a_document_of_openings_is_read_in_linear_time(read, opening):
    # 20 times as long takes hours where the time is quadratic, and some seconds of the limit where it is not.
    assert seconds(read, opening * 20_000) < 4


@pytest.mark.parametrize("line", LINES)
def test_a_long_line_that_is_almost_a_rule_or_heading_is_read_at_once(line):
    filler = " " * 50_000 if "{:s}" in line else "-" * 50_000
    assert seconds(markdown_blocks, line.format(filler) + "\n") < 1


def test_a_folder_of_others_is_read_without_its_pipes_and_links_out(tmp_path):
    secret = tmp_path / "private.txt"
    secret.write_text("The password is swordfish.")
    folder = tmp_path / "unpacked"
    folder.mkdir()
    (folder / "a.txt").write_text("The tide mill was built in 1801.")
    (folder / "same.txt").symlink_to(folder / "a.txt")
    (folder / "b.txt").symlink_to(secret)
    (folder / "c.txt").symlink_to("/dev/zero")
    (folder / "d").symlink_to(tmp_path)
    os.mkfifo(folder / "e.txt")
    said: list[str] = []
    (document,) = read_documents([str(folder)], said.append)
    assert "1801" in document.pages[0].source
    assert any("b.txt: is a link out of the folder" in line for line in said)
    assert sum("is no file, but a pipe, a device" in line for line in said) == 2
    # What the user names is the user's own.
    assert "swordfish" in read_documents([str(folder / "b.txt")])[0].pages[0].source


def test_a_file_over_the_limit_is_refused_without_reading_all_of_it(tmp_path):
    path = tmp_path / "large.txt"
    with open(path, "wb") as handle:
        # A hole: 1 TB that takes no disk, and would take all memory.
        handle.truncate(1 << 40)
    with pytest.raises(DataError, match="large.txt: over the limit of 50 MB; split it"):
        read_documents([str(path)])


# --- the terminal


def test_what_steers_a_terminal_is_spelled_out():
    shown = literal(ESCAPES)
    assert shown == (
        "\\u001b]8;;http://x\\u0007link\\u001b]8;;\\u0007 \\u001b[2J\\u009b31m a\\u000db \\u202eabc\\u2066 "
        "\\u0000 \\udb40\\udc41"
    )
    usual = "one\ttwo\nŁódź \u200fשלום\u200f 👩\u200d🚀 \ud83d"
    assert literal(usual) == usual.replace("\ud83d", "\\ud83d")


def test_notes_do_not_steer_the_terminal(capsys):
    print_line(f"skipped {ESCAPES}")
    assert capsys.readouterr().err == f"skipped {literal(ESCAPES)}\n"


def test_a_stage_shows_what_others_wrote_literally(sample, tmp_path):
    """Prompts on stdout, an error and a dry run, with escapes in a question, a name and an id."""
    sample["question"] = f"Who? {ESCAPES}"
    path = tmp_path / "s.jsonl"
    jsonl.write_jsonl(path, [sample])
    bad = tmp_path / "bad\x1b[31m.jsonl"
    jsonl.write_jsonl(bad, [{**sample, "source": "popqa\x1b[2J"}])
    document = tmp_path / "d\x1b]0;title\x07\u202e.txt"
    document.write_text("Some text.")
    for file in (path, bad, document):
        command = [sys.executable, "prompt_schema.py", "render", "--data-path", str(file)]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert "Traceback" not in done.stderr
        printed = done.stdout + done.stderr
        assert "\\u001b" in printed
        assert literal(printed) == printed


# --- pages, pictures and cards

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "javascript:alert(1)",
    "</title></style></textarea><svg/onload=alert(1)>",
    "{{ 7 * 7 }}{% for x in y %}",
    '=HYPERLINK("http://x")',
    "$\\frac{$",
    ESCAPES,
]


class Elements(HTMLParser):
    """Collects elements and attributes that only a text of others could have made."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag in ("script", "img", "iframe", "object", "embed", "form", "base", "meta"):
            self.found.append(tag)
        for name, value in attrs:
            if name.startswith("on") or (
                name in ("href", "src", "style") and (value or "").startswith("javascript")
            ):
                self.found.append(f"{name}={value}")


def card_of(text: str) -> dict:
    chunk = {"i": 0, "title": text, "is_support": True, "cited_by": [text], "pieces": [(text, "answer")]}
    reply = {"model": text, "outcome": text, "is_good": False, "answer": text, "about": text, "raw": text}
    names = ("anchor", "id", "source", "question", "outcome", "gold", "removed", "kinds")
    return {**dict.fromkeys(names, text), "is_good": False, "replies": [reply], "chunks": [chunk]}


@pytest.mark.parametrize("text", HOSTILE)
def test_a_card_of_the_report_makes_no_element_of_a_text(text):
    page = PageWriter().card(card_of(text))
    parser = Elements()
    parser.feed(page)
    assert parser.found == []
    assert literal(page) == page
    assert "49" not in page


@pytest.mark.parametrize("text", HOSTILE)
def test_a_picture_draws_any_name(text, tmp_path):
    line = Line(text, "blue", [(0.0, 0.1), (1.0, 0.2)])
    plot_charts(tmp_path / "p.png", [Chart(title=text, lines=[line], x_label=text, x_names=[text, "b"])])
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_a_source_makes_no_markup_of_a_model_card():
    rows = licence_rows({"<img src=x onerror=alert(1)>|x\n| y": {"n": 3, "licence": "[CC](javascript:x)"}})
    assert rows.splitlines() == [r"| &lt;img src=x onerror=alert(1)&gt;\|x \| y | 3 | \[CC\](javascript:x) |"]
    assert licence_rows({"popqa": {"n": 3, "licence": "CC BY 4.0"}}) == "| popqa | 3 | CC BY 4.0 |"
