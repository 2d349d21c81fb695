"""Any file in a folder of documents gives passages that can be shown, or one line with its name and the rule.

tests/faults/test_hostile_pdf.py has PDF, tests/faults/test_untrusted_files.py what takes time in a parser.
"""

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asking.decoding import check_encoding
from asking.documents import read_document, read_documents
from asking.passages import PassageIndex
from asking.quotes import quote_passage
from tests.faults.form import count
from utils.errors import DataError, UsageError

pytestmark = [pytest.mark.slow] if count(0, 1) else []
KINDS = [".txt", ".text", ".rst", "", ".md", ".markdown", ".html", ".htm", ".xhtml", ".TXT"]
OTHERS = [".jsonl", ".json", ".csv", ".docx", ".pdf", ".\x1b[31m", ".\ud800"]
PIECES = [
    *(
        "<p>",
        "</p>",
        "<h1>",
        "</h9>",
        "<td>",
        "<script>",
        "</script>",
        "<!--",
        "-->",
        "<![CDATA[",
        "<?",
        "<svg",
    ),
    *(
        '<a href="',
        "<a x='",
        "/>",
        "<title>",
        "</title",
        "<div " * 30,
        "<textarea>",
        "<plaintext>",
        "<noscript>",
    ),
    *("&#xD800;", "&#0;", "&#x110000;", "&#9999999999999999;", "&amp", "&nbsp;", "&notit;", "&#x80;"),
    *(
        "# ",
        "## x ##",
        "---\n",
        "```\n",
        "~~~",
        "| a | b |\n",
        "> ",
        "- [ ] ",
        "1. ",
        "[a](",
        "![",
        "](",
        "<b",
    ),
    *("[x]: y\n", "\\", "***", "__", "`", "=====\n", "\t", "  \n"),
    *(
        "\x00",
        "\x1b[2J",
        "\x07",
        "\u2028",
        "\x85",
        "\x0b",
        "\x0c",
        "\x1c",
        "\r",
        "\r\n",
        "\n\n",
        "\ufeff",
        "\u202e",
    ),
    *(
        "The mill was built in 1784.",
        "Dr. Ek",
        "e\u0301",
        "\U0001f600",
        "a" * 300,
        "。",
        "\u200b",
        "İ",
        "ﬁ",
        "²",
    ),
]
TEXTS = st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=8)), max_size=30).map("".join)
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "latin-1", "utf-7"]
# Of pages; the last ones are names for Python, not for pages.
CHARSETS = ["utf-8", "shift_jis", "utf-16", "x" * 99, "zlib", "hex", "..", "unicode_escape", "idna"]
CHARSETS += [
    "punycode",
    "undefined",
    "raw_unicode_escape",
    "utf-7",
    "iso2022_jp",
    "big5",
    "mbcs",
    "uu-codec",
    "rot13",
]


@st.composite
def files(draw) -> tuple[str, bytes]:
    """(name, bytes) of a file."""
    data = draw(TEXTS).encode(draw(st.sampled_from(ENCODINGS)), "replace")
    if draw(st.booleans()):
        charset = draw(st.sampled_from(CHARSETS)).encode()
        data = b'<html><meta charset="' + charset + b'">' + data
    if draw(st.booleans()):
        data += draw(st.binary(max_size=20))
        data += draw(st.sampled_from([b"", b"\xff\xff", b"\x00\xd8", b"\xed\xa0\x80"]))
    if draw(st.booleans()):
        data = data[draw(st.integers(0, 4)) : draw(st.integers(0, len(data)))]
    name = draw(st.sampled_from(["a", "ein Text", "a\nb", "-", "..", "ö\u202e", "\udcff"]))
    return name + draw(st.sampled_from([*KINDS, *KINDS, *OTHERS])), data


def check(name: str, data: bytes, encoding: str | None = None) -> int:
    """How many passages a file has, each of which can be shown; 0 where it is refused in one line."""
    try:
        document = read_document(name, data, encoding=encoding)
    except (DataError, UsageError) as error:
        assert str(error).startswith(f"{name}: ")
        rule = str(error).removeprefix(name)
        assert "\n" not in rule and len(rule) < 300
        return 0
    index = PassageIndex([document], 30)
    assert index.passages
    for passage in index.passages:
        passage.text.encode("utf-8")
        passage.page.source[passage.start : passage.end].encode("utf-8")
        assert passage.text.strip() and passage.start < passage.end
        assert passage.page.line_of(passage.start) >= 1
        assert quote_passage(passage, passage.text, "mill").text
    assert index.nearest("mill built", 3)
    return len(index.passages)


@settings(max_examples=count(100, 20_000), deadline=None, derandomize=count(1, 0) == 1)
@given(files())
@example(("a.html", b'<meta charset="undefined">\xff text'))
@example(("a.html", b'<meta charset="idna">\xff..xn--\xff'))
@example(("a.html", b'<meta charset="unicode_escape">\xff \\ud800 text'))
def test_any_file_gives_passages_or_one_line(file):
    check(*file)


@settings(max_examples=count(60, 5000), deadline=None, derandomize=count(1, 0) == 1)
@given(files(), st.sampled_from([*ENCODINGS, *CHARSETS]))
@example(("a.txt", b"..xn--\xff"), "idna")
@example(("a.txt", b"\\ud800 text"), "unicode_escape")
@example(("a.txt", b"\\ud800 text"), "raw_unicode_escape")
@example(("a.txt", b"x"), "undefined")
def test_any_encoding_that_is_named_gives_passages_or_one_line(file, encoding):
    try:
        check_encoding(encoding)
    except UsageError as error:
        assert "\n" not in str(error) and encoding in str(error)
        return
    check(*file, encoding)


@pytest.mark.parametrize(
    "name", ["punycode", "idna", "undefined", "unicode_escape", "raw-unicode-escape", "hex", "x"]
)
def test_an_encoding_that_no_document_has_is_refused(name):
    with pytest.raises(UsageError, match=f"--encoding {name}: no encoding of text is named {name}"):
        check_encoding(name)


@pytest.mark.parametrize("name, data", [("a.txt", b"a\n"), ("a.md", b"- a\r"), ("a.html", b"<p>a")])
def test_a_file_of_millions_of_lines_or_tags_is_refused_before_they_fill_memory(name, data):
    with pytest.raises(DataError, match=f"{name}: over the limit of 2,000,000 lines and tags; split it"):
        read_document(name, data * 2_000_001)


def test_a_line_end_of_windows_is_one(monkeypatch):
    monkeypatch.setattr("asking.documents._MAX_PARTS", 10)
    assert read_document("a.txt", b"a word\r\n" * 10).n_words == 20
    with pytest.raises(DataError, match="over the limit of 10 lines"):
        read_document("a.txt", b"a word\r\n" * 11)


def test_a_pdf_of_too_many_lines_is_refused_like_a_text(monkeypatch):
    monkeypatch.setattr("asking.documents._MAX_PARTS", 10)
    monkeypatch.setattr("asking.documents.pdf_texts", lambda name, data: ["a\n\nb\n\n"] * 3)
    with pytest.raises(DataError, match="a.pdf: over the limit of 10 lines"):
        read_document("a.pdf", b"%PDF-1.4")


@pytest.mark.parametrize("name", KINDS)
def test_an_empty_file_and_one_of_spaces_have_no_text(name):
    for data in (b"", b"\n \r\n", b"\xef\xbb\xbf", b"\xff\xfe", b"\xff\xfe \x00"):
        with pytest.raises(DataError, match="there is no text in it"):
            read_document(f"a{name}", data)


def test_a_line_of_megabytes_is_cut_into_passages():
    assert check("a.txt", b"x" * (1 << 20) + b"".join(b" mill%d" % i for i in range(8_000))) > 50


def test_a_folder_of_odd_names_is_read(tmp_path):
    names = ["a\nb.txt", "-.txt", " .txt", "\udcff.txt", "ö\u202e.md", "%s{}.html", "a" * 240 + ".txt"]
    for name in names:
        (tmp_path / name).write_bytes(b"The mill was built in 1784.")
    (tmp_path / "bad\n.txt").write_bytes(b"\x00\x01")
    said: list[str] = []
    assert len(read_documents([str(tmp_path)], said.append)) == len(names)
    assert len(said) == 1
