"""What a document shows is in a passage, under its heading, and what says something else is no copy."""

import os
import re

import pytest

from asking.decoding import decode
from asking.documents import read_document, read_documents
from asking.judging import Shown
from asking.markdown import markdown_blocks
from asking.markup import html_blocks, text_blocks
from asking.passages import PassageIndex, passages_of
from asking.quotes import quote_passage
from asking.web import Desk


def read(name: str, text: str):
    return read_document(name, text.encode())


@pytest.mark.parametrize(
    "source, visible",
    [
        # A rule below a list item or a quote makes no heading of it.
        ("- Closed in 1990\n---\nMore.", ["Closed in 1990", "More."]),
        ("> It cost 42.\n---\nMore.", ["It cost 42.", "More."]),
        ("Title\n---\nMore.", ["Title", "More."]),
        # A rule at the beginning is no front matter.
        ("---\n\nBuilt in 1784.\n\n---\n\nIt closed.", ["Built in 1784.", "It closed."]),
        ("---\ntitle: T\n---\nIt closed.", ["It closed."]),
        # A footnote and a speaker are text, the address of a link is none.
        ("[^1]: It broke in 1825.", ["It broke in 1825."]),
        ("[Mary]: I went home in 1801.", ["[Mary]: I went home in 1801."]),
        ('[a]: http://x.y "The title"\nIt closed.', ["It closed."]),
        # A number that begins a line within a sentence is no list.
        (
            "born on the 11th, not on the\n12. In May it closed.",
            ["born on the 11th, not on the 12. In May it closed."],
        ),
        ("1. one\n2. two", ["one", "two"]),
        ("Steps:\n1. one\n2. two", ["Steps:", "one", "two"]),
        ("Write `<title>`, ``a ` b`` and `*args`.", ["Write <title>, a ` b and *args."]),
        # Comments of several lines; what only shows one is text.
        ("<!-- draft\nBuilt in 1900.\n-->\nBuilt in 1784.", ["Built in 1784."]),
        ("Built <!-- or\nnot --> in 1784.", ["Built in 1784."]),
        ("Built <!-- a --> in <!-- b <!-- c\nd --> 1784.", ["Built in 1784."]),
        ("Begin with `<!--` and\nend with `-->`.", ["Begin with <!-- and end with -->."]),
        # A link, code and emphasis of two lines.
        ("See [the\nmill](http://x.y) here.", ["See the mill here."]),
        ('See [the mill](http://x.y\n"A title") here.', ["See the mill here."]),
        ("Write `*a\nb*` and *two\nwords*.", ["Write *a b* and two words."]),
        ("- See [the\n  mill](http://x.y).\n- It *closed", ["See the mill.", "It closed"]),
        # The marks of a quote are on each of its lines.
        ("> See [the\n> mill](http://x.y) **of\n> Ann**.", ["See the mill of Ann."]),
        (">> See [the\n>> mill](http://x.y).", ["See the mill."]),
        ("> - See [the\n>   mill](http://x.y).\n> - It\n> closed", ["See the mill.", "It closed"]),
        # A list behind a quote is not in it.
        ("> A quote.\n\n- See [the\n  mill](http://x.y).", ["A quote.", "See the mill."]),
        ("2 > 1 and\n3 > 2.", ["2 > 1 and 3 > 2."]),
        ("Built <!-- in\n\n1784 --> here.", ["Built <!-- in", "1784 --> here."]),
        # Code within a line may begin with three backticks; only marks like its own end a block of code.
        ("```pip install x``` installs *it*.\n\n- one", ["pip install x installs it.", "one"]),
        ("``` `a`\n- *one*\n```", ["a", "one"]),
        ("~~~ a`b\n*a*\n```\n- b\n~~~~ \n- c", ["*a* ``` - b", "c"]),
        ("````md\n```\n*a*\n```\n````\n*b*", ["``` *a* ```", "b"]),
        ("```\n``` sh\n    ```\n```\n*b*", ["``` sh ```", "b"]),
        ("```\r\n*a*\r\n```\r\n*b*", ["*a*", "b"]),
        # In a list item, too.
        ("1. Do:\n2. ```sh\n   *a*\n     ```\n\n- ~~~\n  *b*\n  ~~~\n- *c*", ["Do:", "*a*", "*b*", "c"]),
        # A table's rule has one dash or more per column; a cell that is empty is none.
        ("| Name | Year |\n|:--|--:|\n| a | b |", ["Name Year", "a b"]),
        ("a | b\n- | -\n", ["a b"]),
        # An address may have parentheses.
        ("See [Juno](http://x.y/Juno_(craft)) here.", ["See Juno here."]),
        ('See [Juno](Juno_(craft)_(b) "A title"), ![J](a_(b).png)(it) here.', ["See Juno, (it) here."]),
        ("See [Juno](Juno_(craft) here.", ["See Juno here."]),
        ("See ![the mill](its picture.png) here.", ["See here."]),
    ],
)
def test_all_that_markdown_shows_is_text(source, visible):
    assert [block.words.text for block in markdown_blocks(source)] == visible


@pytest.mark.parametrize(
    "source, visible",
    [
        ("<p>A</p><p hidden>B</p><p>C</p>", ["A", "C"]),
        ("<p>A <span style='color: red; DISPLAY:none !important'>B</span>C</p>", ["A C"]),
        ("<div style='visibility: hidden'><p>B</p><div>B</div></div><p>C</p>", ["C"]),
        ("<p style='display: nonexistent'>A</p><p aria-hidden=true>B</p>", ["A", "B"]),
        # Elements without an end: what is behind them is shown.
        ("<p>A<p hidden>B<p>C", ["A", "C"]),
        ("<ul><li hidden>B <b>B<li>C</ul>D", ["C", "D"]),
        ("<ul><li hidden>B<div>B<li>B</div></ul>D", ["D"]),
        ("<ul><li hidden>B<li>C</ul>D", ["C", "D"]),
        ("<ul><li hidden>B<ul><li>B</ul></ul>D", ["D"]),
        ("<table><tr><td hidden>B<td>C<tr hidden><td>B<tr><td>E</table>", ["C", "E"]),
        ("<input hidden>A<br hidden>B", ["A B"]),
        ("<section><span hidden>B</section>C", ["C"]),
        ("<div hidden>B</b></i>B<script></div>B</script>B</div>C", ["C"]),
        ("<div hidden><p>B", []),
        ("<p>A<dialog><p>B</p></dialog><dialog open>C</dialog>D", ["A", "C", "D"]),
    ],
)
def test_what_a_page_hides_is_no_text(source, visible):
    assert [block.words.text for block in html_blocks(source)] == visible


@pytest.mark.parametrize(
    "source, visible",
    [
        # A definition is read with its term.
        ("<dl><dt>Founder</dt>\n<dd>Ann</dd><dt>Year</dt><dd>1784</dd></dl>", ["Founder Ann", "Year 1784"]),
        (
            "<dl><dt>Founder<dd>Ann<dt>Year<dd><b>1784</b></dl>It closed.",
            ["Founder Ann", "Year 1784", "It closed."],
        ),
        (
            "<dl><dt>Founder</dt><dd>\n<p>Ann</p><p>More</p></dd><dd>Bo</dd></dl>",
            ["Founder Ann", "More", "Bo"],
        ),
        ("<dl><div><dt>Founder</dt><dd><div>Ann</div></dd></div></dl><p>A", ["Founder Ann", "A"]),
        ("<dl><dt>Founder</dt><dd>&amp;<p>Ann</p></dd></dl>", ["Founder &", "Ann"]),
        ("<dl><dt>Ann</dt><dt>Bo</dt><dd hidden>C</dd></dl><dd>D</dd>", ["Ann", "Bo", "D"]),
        # Neighbors are no single word.
        ("A<center>B</center>C<menu><li>D</menu>E<dir>F</dir>G", ["A", "B", "C", "D", "E", "F", "G"]),
        (
            "A<search>B</search><hgroup>C</hgroup><select><optgroup label=x>D</optgroup>E",
            ["A", "B", "C", "D", "E"],
        ),
        (
            "<label>A</label><button>B</button><textarea>C</textarea>D<input>E<select></select>F",
            ["A B C D E F"],
        ),
        ("18<del>24</del><ins>25</ins>", ["182425"]),
    ],
)
def test_elements_of_a_page_are_read_together_or_apart(source, visible):
    assert [block.words.text for block in html_blocks(source)] == visible


def test_a_number_at_the_beginning_of_a_line_of_plain_text():
    def texts(source: str) -> list[str]:
        return [block.words.text for block in text_blocks(source)]

    assert texts("It was the tenth of May\n11. In June it closed.") == [
        "It was the tenth of May 11. In June it closed."
    ]
    assert texts("To do:\n1. one\n2. two") == ["To do:", "one", "two"]
    assert texts("3. three\n4. four") == ["three", "four"]


def test_marks_that_nobody_sees_are_in_no_word():
    (block,) = text_blocks("The pro\xadgram \ufeffran.")
    assert block.words.texts == ["The", "program", "ran."]
    assert text_blocks("\xad") == []
    (block,) = html_blocks("<p>&shy;<b>It </b>&shy;<i>ran.</i></p>")
    assert block.words.texts == ["It", "ran."]


@pytest.mark.parametrize(
    "data, encoding, text",
    [
        ("heißt Åke".encode(), "cp1252", "heißt Åke"),
        ("heißt Åke".encode("cp1252"), "cp1252", "heißt Åke"),
        ("heißt".encode("utf-8-sig"), "utf-8", "heißt"),
        ("heißt".encode("utf-16"), "cp1252", "heißt"),
        ("水車".encode("iso2022_jp"), "iso-2022-jp", "水車"),
    ],
)
def test_a_named_encoding_is_that_of_files_that_are_not_utf_8(data, encoding, text):
    assert decode("a.txt", data, "text", encoding)[0] == text


def test_the_declaration_of_an_xml_page_names_its_encoding():
    page = '<?xml version="1.0" encoding="iso-8859-2"?><html><p>Łódź</p></html>'.encode("iso-8859-2")
    assert "Łódź" in decode("a.xhtml", page, "html")[0]


@pytest.mark.parametrize(
    "one, other, n",
    [
        ("The ratio was 1.5 in all of the years.", "The ratio was 15 in all of the years.", 2),
        ("It fell to -5 degrees in the winter.", "It fell to 5 degrees in the winter.", 2),
        ("Most of it was written in C++ then.", "Most of it was written in C# then.", 2),
        ("It rose by 10% in the last year.", "It rose by 10 in the last year.", 2),
        ("The mill – built in 1784 – is “old”.", 'The mill - built in 1784 - is "old".', 1),
        ("The mill -- built in 1784---was `old`.", "The mill – built in 1784—was *old*.", 1),
        ("It must be < 5 degrees in there.", "It must be > 5 degrees in there.", 2),
        ("It must be ≥ 5 degrees in there.", "It must be ≤ 5 degrees in there.", 2),
        ("Dogs in the old mill: ✅", "Dogs in the old mill: ❌", 2),
        ("Dogs in the old mill: ✅", "Dogs in the old mill: ✅\ufe0f", 1),
        ("They counted 10² birds in a year.", "They counted 102 birds in a year.", 2),
        ("It has a board of 5' by 7 there.", 'It has a board of 5" by 7 there.', 2),
        # Words of Hindi that differ in the sign of a vowel.
        ("वह घर की ओर गया था.", "वह घर का ओर गया था.", 2),
    ],
)
def test_only_what_says_the_same_is_a_copy(one, other, n):
    assert len(PassageIndex([read("a.txt", one), read("b.txt", other)], 40).passages) == n


def test_headings_without_a_text_are_found():
    lines = ["# Mill", "## Opened in 1784", "## Hours", "### Monday", "It is closed."]
    lines += ["### Sunday", "It is open.", "## Sold"]
    document = read("mill.md", "\n\n".join(lines))
    found = [(passage.title, passage.text) for passage in passages_of(document, 40)]
    assert found == [
        ("Mill", "Opened in 1784"),
        ("Mill (Hours: Monday)", "It is closed."),
        ("Mill (Hours: Sunday)", "It is open."),
        ("Mill", "Sold"),
    ]
    for passage in passages_of(document, 40):
        assert quote_passage(passage, passage.text, "").text == passage.text


@pytest.mark.parametrize("name, mark", [("a.md", "## {}"), ("a.md", "{}\n---"), ("a.html", "<h2>{}</h2>")])
def test_the_last_words_of_a_long_heading_are_found(name, mark):
    heading = " ".join(f"word{i}" for i in range(20))
    document = read(name, mark.format(heading) + "\n\nIt opened.\n")
    title = " ".join(heading.split()[:12])
    for text in (heading, "It opened."):
        (passage,) = PassageIndex([document], 40).nearest(f"Is it {text}", 1)
        assert passage.text == text
        assert quote_passage(passage, text, "").text == text
    assert passage.title == f"a ({title})"


def test_a_long_title_is_one_passage():
    title = " ".join(f"word{i}" for i in range(20))
    page = read("a.html", f"<title>{title}</title><h1>{title}</h1><p>It opened.</p>")
    assert [passage.text for passage in PassageIndex([page], 40).passages] == [title, "It opened."]


def test_a_word_whose_stem_is_a_stop_word_is_searched_for():
    for word in ("mayor", "theme", "Andes", "cans", "서울"):
        parts = ["It was dug by many men.", f"Look at the {word} there.", "It was sold for iron.", "The end."]
        index = PassageIndex([read("a.md", "\n\n".join(f"- {part}" for part in parts))], 6)
        assert index.nearest(f"Who is {word}?", 1)[0].text == parts[1]


def test_a_name_that_is_not_utf_8_can_be_given_to_a_tokenizer():
    (passage,) = passages_of(read(os.fsdecode(b"caf\xe9.txt"), "It opened."), 40)
    assert passage.title.encode()


TOWER = "东京塔建于1958年。它高333米。「他说「好。」」设计者是内藤。｡"


@pytest.mark.parametrize(
    "name, text",
    [
        ("a.txt", TOWER),
        ("a.txt", f"{TOWER}\n\n它是红色的！\n\n- 它在东京。\n"),
        ("a.txt", "他说「好。」"),
        ("a.txt", "长" * 99 + "。」" * 99),
        ("a.md", f"# 东京塔\n\n**{TOWER}**”它高。\n"),
        ("a.md", "「**东京塔建于1958年。**」它高。\n"),
        ("a.html", f"<h1>塔</h1><p>{TOWER}<b>它。</b>&quot;</p><p>它高。&nbsp;它<i>红。</i>」」</p>"),
    ],
)
def test_sentences_that_no_space_ends_are_quoted(name, text):
    for max_words in (1, 2, 40):
        document = read(name, text)
        passages = passages_of(document, max_words)
        assert "".join("".join(passage.text.split()) for passage in passages) == "".join(
            block.words.text.replace(" ", "") for block in document.pages[0].blocks if block.level == 0
        )
        for passage in passages:
            quote = quote_passage(passage, passage.text, "")
            # A quote has the marks of Markdown, too.
            assert re.sub(r"[\s*-]", "", quote.text) == re.sub(r"\s", "", passage.text)


def test_a_full_stop_ends_a_sentence_with_its_closing_marks():
    (block,) = markdown_blocks("「**塔建于1958年。**」它高333米。’設計")
    assert block.words.texts == ["「塔建于1958年。」", "它高333米。’", "設計"]
    assert [passage.text for passage in passages_of(read("a.txt", "塔。它高。\n\n他说「好。」"), 40)] == [
        "塔。 它高。 他说「好。」"
    ]
    assert [block.level for block in text_blocks("它是红色的。\n\n它高。")] == [0, 0]


def test_a_folder_of_chinese_documents_is_read(tmp_path):
    (tmp_path / "a.txt").write_text("东京塔建于1958年。它高333米。\n", encoding="utf-8")
    (tmp_path / "b.html").write_text("<p>设计者是内藤。他说「好。」</p>", encoding="utf-8")
    index = PassageIndex(read_documents([str(tmp_path)]), 40)
    assert [passage.text for passage in index.passages] == [
        "东京塔建于1958年。 它高333米。",
        "设计者是内藤。 他说「好。」",
    ]


def test_what_a_folder_does_not_give_is_said(tmp_path):
    (tmp_path / "docs/part").mkdir(parents=True)
    (tmp_path / "docs/a.txt").write_text("It opened.")
    (tmp_path / "docs/linked").symlink_to(tmp_path / "docs/part")
    said: list[str] = []
    assert len(read_documents([str(tmp_path / "docs")], said.append)) == 1
    assert said == [
        f"skipped {tmp_path}/docs/linked: is a link to a folder; name the folder itself to have it read"
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_may_not_be_read_is_said(tmp_path):
    (tmp_path / "docs/part").mkdir(parents=True)
    (tmp_path / "docs/a.txt").write_text("It opened.")
    (tmp_path / "docs/part").chmod(0)
    said: list[str] = []
    read_documents([str(tmp_path / "docs")], said.append)
    (tmp_path / "docs/part").chmod(0o700)
    assert said == [f"skipped {tmp_path}/docs/part: cannot be read (Permission denied)"]


def test_the_nearest_passages_are_those_that_were_shown():
    passages = passages_of(read("a.md", "- It opened\n- It closed\n- It burnt"), 40)

    class Prompt:
        shown = (2, 0)

    quotes = Shown(Prompt(), passages, list(reversed(passages))).nearest()
    assert [quote.text for quote in quotes] == ["It burnt", "It opened"]


def test_an_upload_is_named_without_its_folder(tmp_path):
    desk = Desk(lambda question, documents, lowest: pytest.fail("nothing to ask"))
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02")
    for name in ("a.txt", "gone.txt"):
        shown = desk.respond([str(tmp_path / name)], "", "When?", False)
        assert name in shown and str(tmp_path) not in shown and "--" not in shown
