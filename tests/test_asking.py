"""Documents of users: read in any encoding, cut into passages, and quoted word for word or not at all."""

import contextlib
import json
from types import SimpleNamespace

import pytest

from asking.checkpoint import AskSettings, ask_settings
from asking.console import ask_each, ask_in_a_loop, print_reply, questions_of_stdin, reply_text
from asking.documents import read_document, read_documents
from asking.judging import Shown, judge, split_question
from asking.passages import PassageIndex, passages_of
from asking.quotes import NotVerbatim, quote_passage
from asking.reply import Reply
from asking.web import serve_until_stopped
from asking.web_html import reply_html
from evidence.chunk_sizes import ChunkSizes, sizes_of_build, sizes_of_samples
from utils.completions import render_completion
from utils.errors import DataError, Terminated, UsageError
from utils.text import REFUSAL

MILL = "# The mill\n\nIt was **built** in\n1784 by [Jonas](http://x.y) Hall. It grinds rye &amp; oats.\n"
PAGE = """<!DOCTYPE html><html><head><title>The mill</title><style>p {}</style>
<script>var x = "<p>never shown</p>";</script></head><body>
<h2>Work</h2><p>It grinds <b>r</b>ye &amp; oats.<p>The wheel turns.<ul><li>one<li>two</ul>
<table><tr><td>Height</td><td>9 m</td></tr></table></body></html>"""


def read(name: str, text: str | bytes):
    return read_document(name, text.encode() if isinstance(text, str) else text)


def texts(document, max_words: int = 40) -> list[str]:
    return [passage.text for passage in passages_of(document, max_words)]


def only_quote(document, answer: str = ""):
    (passage,) = passages_of(document, 40)
    return quote_passage(passage, passage.text, answer)


# --- reading


@pytest.mark.parametrize(
    "data",
    [
        "Café opened.".encode(),
        b"\xef\xbb\xbf" + "Café opened.".encode(),
        "Café opened.".encode("utf-16"),
        "Café opened.".encode("utf-16-le"),
        "Café opened.".encode("utf-16-be"),
        "Café opened.".encode("utf-32"),
        "Café opened.".encode("cp1252"),
    ],
    ids=["utf-8", "utf-8 with a mark", "utf-16", "little", "big", "utf-32", "windows"],
)
def test_a_text_reads_the_same_in_every_encoding(data):
    assert texts(read("a.txt", data)) == ["Café opened."]


def test_a_named_encoding_is_used(tmp_path):
    (tmp_path / "a.txt").write_bytes("Кафе открыто.".encode("cp1251"))
    (document,) = read_documents([str(tmp_path / "a.txt")], encoding="cp1251")
    assert texts(document) == ["Кафе открыто."]


@pytest.mark.parametrize(
    "name, data, words",
    [
        ("a.txt", b"", "no text"),
        ("a.txt", b" \n\n", "no text"),
        ("a.txt", b"a\x00b\x01\x02\x03", "binary"),
        ("a.txt", b"PK\x03\x04", "zip"),
        ("a.docx", b"PK\x03\x04", "office document"),
        ("a.doc", b"\xd0\xcf\x11\xe0", "old office"),
        ("a.rtf", b"{\\rtf1 x}", "rich text"),
        ("a.gz", b"\x1f\x8b\x08", "gzip"),
        ("a.png", b"\x89PNG\r\n", "image"),
        ("a.jsonl", b"{}", ".jsonl files"),
        ("a.pdf", b"plain text", "begin like a PDF"),
        ("a.html", b"<script>only code</script>", "no text"),
    ],
)
def test_what_is_no_document_is_named(name, data, words):
    with pytest.raises(DataError, match=words) as error:
        read(name, data)
    assert str(error.value).startswith(f"{name}: ")
    assert "\n" not in str(error.value)


def test_a_folder_is_read_as_far_as_it_can_be(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/a.md").write_text(MILL)
    (tmp_path / "b.txt").write_bytes(b"\x00\x01\x02")
    (tmp_path / "c.docx").write_bytes(b"PK\x03\x04")
    (tmp_path / ".hidden.txt").write_text("Never read.")
    said = []
    documents = read_documents([str(tmp_path), str(tmp_path / "sub/a.md")], said.append)
    assert [document.name for document in documents] == [str(tmp_path / "sub/a.md")]
    assert len(said) == 2
    assert any("binary" in line for line in said)
    assert any("1 .docx" in line for line in said)


def test_missing_and_empty_evidence_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no such file or folder"):
        read_documents([str(tmp_path / "none.txt")])
    # A user that does not exist, and a text in place of a file.
    with pytest.raises(DataError, match="--evidence ~nobodyxyz/file: no such file"):
        read_documents(["~nobodyxyz/file"])
    with pytest.raises(DataError, match=f"--evidence {'very ' * 12}[.]{{3}}: no such file"):
        read_documents(["very\n" * 200])
    with pytest.raises(UsageError, match="--evidence is empty"):
        read_documents([""])
    with pytest.raises(DataError, match="no document that can be read"):
        read_documents([str(tmp_path)], lambda line: None)


def test_evidence_from_a_closed_stdin_is_an_error(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataError, match="standard input is closed"):
        read_documents(["-"])


# A process of its own reads it.
@pytest.mark.slow
def test_a_pdf_is_quoted_by_page_or_names_the_package(tmp_path):
    pytest.importorskip("pypdf", reason="pypdf is optional")
    from tests.pdf import write_pdf

    write_pdf(tmp_path / "a.pdf", ["The mill has two wheels.", "It was built in 1784."])
    (document,) = read_documents([str(tmp_path / "a.pdf")])
    second = passages_of(document, 40)[1]
    quote = quote_passage(second, second.text, "1784")
    assert (quote.page, quote.place) == (2, f"{tmp_path}/a.pdf, page 2")
    assert quote.text == "It was built in 1784."


def test_without_pypdf_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(Exception, match="pip install -c constraints.txt pypdf"):
        read("a.pdf", b"%PDF-1.4")


# --- blocks and passages


def test_html_gives_what_a_reader_sees():
    document = read("a.html", PAGE)
    assert texts(document) == ["It grinds rye & oats. The wheel turns.", "one", "two", "Height 9 m"]
    assert {passage.title for passage in passages_of(document, 40)} == {"The mill (Work)"}


def test_markdown_loses_its_markup_and_nothing_else():
    text = (
        "# T\n\n- [x] do *it*\n- `f(a)` and 2*3*4, snake_case\n> said so\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    )
    assert texts(read("a.md", text)) == ["do it", "f(a) and 2*3*4, snake_case", "said so", "a b", "1 2"]


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_ends_do_not_change_passages_or_lines(end):
    text = end.join(["A title", "", "It begins", "here. It ends.", "", "1. one", "2. two"])
    document = read("a.txt", text)
    passages = passages_of(document, 40)
    assert [passage.text for passage in passages] == ["It begins here. It ends.", "one", "two"]
    assert [passage.page.line_of(passage.start) for passage in passages] == [3, 6, 7]


def test_passages_have_the_size_of_the_training_chunks():
    document = read("a.txt", "One two three. Four five six. Seven eight nine.")
    assert texts(document, 6) == ["One two three. Four five six.", "Seven eight nine."]


def test_a_text_without_full_stops_is_cut_too():
    assert len(texts(read("a.txt", "word " * 1000), 20)) > 10


def test_a_word_without_end_becomes_passages_that_fit_a_prompt():
    document = read("a.txt", "key " + "x" * 5000 + " end.")
    passages = passages_of(document, 8)
    assert max(len(word) for passage in passages for word in passage.text.split()) <= 100
    assert quote_passage(passages[-1], passages[-1].text, "").text.endswith("x end.")


def test_the_nearest_passages_come_first_and_enough_of_them():
    document = read("a.txt", "The dam is long. The wheels are of iron. Eiders rest here. It is closed.")
    index = PassageIndex([document], 4)
    assert len(index.passages) == 4
    assert index.nearest("How were the wheels made?", 1)[0].text == "The wheels are of iron."
    assert len(index.nearest("Nothing in common", 3)) == 3


def test_a_text_in_two_documents_is_one_passage():
    markdown = read("a.md", "# Mill\n\nIt was *built* in 1784 by Jonas. Closed.\n")
    page = read("b.html", "<title>A page</title><p>It was built in&nbsp;1784 by <b>Jonas</b>. Closed.</p>")
    index = PassageIndex([markdown, page], 40)
    assert [passage.document.name for passage in index.passages] == ["a.md"]


def test_a_text_under_two_headings_is_two_passages():
    page = read(
        "a.md", "# Monday\n\nThe mill opens at nine o'clock.\n\n# Friday\n\nThe mill opens at nine o'clock.\n"
    )
    assert len(PassageIndex([page], 40).passages) == 2
    days = [read("monday.md", "# Monday\n\nClosed."), read("friday.md", "# Friday\n\nClosed.")]
    assert len(PassageIndex(days, 40).passages) == 2


# --- quotes


@pytest.mark.parametrize("name, text", [("a.md", MILL), ("a.txt", "  It was  built\r\nin 1784.  ")])
def test_a_quote_is_the_source_between_its_offsets(name, text):
    document = read(name, text)
    quote = only_quote(document, "1784")
    assert text[quote.start : quote.end] == quote.text
    assert [quote.text[start:end] for start, end in quote.marked] == ["1784"]


def test_a_quote_of_html_has_the_offsets_of_the_page():
    (first, *_) = passages_of(read("a.html", PAGE), 40)
    quote = quote_passage(first, first.text, "rye")
    assert quote.text == "It grinds rye & oats. The wheel turns."
    assert PAGE[quote.start : quote.end] == "It grinds <b>r</b>ye &amp; oats.<p>The wheel turns."


def test_a_passage_shown_in_part_is_quoted_in_part():
    document = read("a.txt", "It was built in 1784. It grinds rye.")
    (passage,) = passages_of(document, 40)
    assert quote_passage(passage, "It was built in 1784.", "").text == "It was built in 1784."


@pytest.mark.parametrize("change", ["It was built in 1874.", "So it was built in 1784.", ""])
def test_a_file_that_changed_is_not_quoted(tmp_path, change):
    path = tmp_path / "a.txt"
    path.write_text("It was built in 1784.")
    (document,) = read_documents([str(path)])
    path.write_text(change)
    with pytest.raises(NotVerbatim):
        only_quote(document)


def test_a_file_that_grew_is_still_quoted(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("It was built in 1784.\n")
    (document,) = read_documents([str(path)])
    path.write_text("It was built in 1784.\nMore came later.\n")
    assert only_quote(document).text == "It was built in 1784."


def test_words_that_the_file_does_not_have_are_not_quoted():
    (passage,) = passages_of(read("a.txt", "It was built in 1784."), 40)
    with pytest.raises(NotVerbatim, match="word for word"):
        quote_passage(passage, "It was built in 1874.", "")


# --- judging completions


def settings(**changes) -> AskSettings:
    fit = {"isotonic": {"x": [0.0, 1.0], "y": [0.0, 0.8], "n": 20}}
    defaults = {"template": "", "max_prompt_tokens": 100, "calibration": fit}
    return AskSettings(ChunkSizes(3, 20), **(defaults | changes))


def shown(document) -> Shown:
    passages = passages_of(document, 5)
    chunks = [{"title": passage.title, "text": passage.text} for passage in passages]
    prompt = SimpleNamespace(shown=list(range(len(passages))), chunks=chunks)
    return Shown(prompt, passages, passages)


@pytest.fixture
def mill(tmp_path):
    path = tmp_path / "mill.txt"
    path.write_text("It was built in 1784. It has two wheels.")
    return read_documents([str(path)])[0]


def test_an_answer_comes_with_its_quote_and_the_calibrated_confidence(mill):
    reply = judge(render_completion("1784", [0], 0.9), 0.9, shown(mill), settings())
    assert (reply.status, reply.answer, reply.is_refusal) == ("answered", "1784", False)
    assert reply.confidence == pytest.approx(0.72)
    assert [quote.text for quote in reply.quotes] == ["It was built in 1784."]
    # (0.72 x 20 + 1) / 22
    assert "(likely right: 0.70, calibrated on 20 validation answers)" in reply_text(reply)
    assert "It was built in >>1784<<." in reply_text(reply)


@pytest.mark.parametrize(
    "completion, words",
    [
        (render_completion("1784", [5], 0.9), "cites passage 5, but 2 were shown"),
        (render_completion("1784", [0, 2], 0.9), "cites passage 2"),
        (render_completion("1784", [-1], 0.9), "cites passage -1"),
        (render_completion("1784", [], 0.9), "cites no passage"),
        ("1784", "could not be read"),
        ("", "could not be read"),
    ],
)
def test_an_answer_that_cannot_be_checked_is_withheld(mill, completion, words):
    reply = judge(completion, 0.9, shown(mill), settings())
    assert (reply.status, reply.answer, reply.is_refusal) == ("withheld", None, True)
    assert words in reply.reason
    assert "1784" not in reply_text(reply).split("nearest")[0]


def test_an_answer_whose_source_changed_is_withheld(mill):
    mill.path.write_text("It was built in 1874. It has two wheels.")
    reply = judge(render_completion("1784", [0], 0.9), 0.9, shown(mill), settings())
    assert reply.status == "withheld"
    assert "changed" in reply.reason
    assert reply_text(reply).startswith("The answer is withheld.")


def test_a_refusal_says_so_and_shows_the_nearest_passages(mill):
    reply = judge(render_completion(REFUSAL, [], 0.0), 0.9, shown(mill), settings())
    assert reply_text(reply).startswith("The text does not say.\n")
    assert len(reply.nearest) == 2
    assert reply.confidence is None


def test_an_answer_below_the_wanted_confidence_is_refused(mill):
    reply = judge(render_completion("1784", [0], 0.9), 0.5, shown(mill), settings(min_confidence=0.6))
    assert (reply.status, reply.answer) == ("refused", None)
    # 0.4 of 20 answers is 9 of 22 by the rule of succession, 0.409.
    expected = "No answer with a confidence of 0.6 or more (the best has 0.40)."
    assert reply_text(reply).splitlines()[:2] == [expected, ""]
    assert "does not say" not in reply_text(reply)
    assert "does not say" not in reply_html(reply)
    assert expected in reply_html(reply)
    assert reply.to_json()["reason"] == expected[0].lower() + expected[1:-1]


@pytest.mark.parametrize(
    "fitted, n, words",
    [
        # 21/22, 1/22, 11/12, 11/22; and rounded no further than to 0.99 and 0.01.
        (1.0, 20, "very likely right: 0.95,"),
        (0.0, 20, "very likely wrong: 0.05,"),
        (1.0, 10, "very likely right: 0.92,"),
        (0.5, 20, "as likely right as wrong: 0.50,"),
        (1.0, 5000, "very likely right: 0.99,"),
        (0.0, 5000, "very likely wrong: 0.01,"),
    ],
)
def test_no_fit_is_shown_as_certain(mill, fitted, n, words):
    fit = {"isotonic": {"x": [0.0, 1.0], "y": [fitted, fitted], "n": n}}
    reply = judge(render_completion("1784", [0], 0.9), 0.9, shown(mill), settings(calibration=fit))
    assert f"({words} calibrated on {n} validation answers)" in reply_text(reply)
    row = reply.to_json()
    assert row["confidence"] == fitted
    assert row["confidence_shown"] == round((fitted * n + 1) / (n + 2), 4)


def test_what_is_shown_is_what_is_compared_with_the_confidence_asked_for(mill):
    fit = {"isotonic": {"x": [0.0, 1.0], "y": [1.0, 1.0], "n": 20}}
    completion = render_completion("1784", [0], 0.9)
    reply = judge(completion, 0.9, shown(mill), settings(calibration=fit, min_confidence=0.99))
    assert reply.headline == "No answer with a confidence of 0.99 or more (the best has 0.95)."
    reply = judge(completion, 0.9, shown(mill), settings(calibration=fit, min_confidence=0.95))
    assert reply.status == "answered"


def test_without_a_fit_the_confidence_is_called_uncalibrated(mill):
    reply = judge(render_completion("1784", [0], 0.9), 0.5, shown(mill), settings(calibration={}))
    assert (reply.confidence, reply.calibrated) == (0.5, False)
    assert "not calibrated" in reply_text(reply)


def test_words_that_no_quote_has_are_pointed_out(mill):
    reply = judge(render_completion("a miller", [1], 0.9), 0.9, shown(mill), settings())
    assert "not in the cited passages" in reply_text(reply)
    assert ">>" not in reply_text(reply) and "<mark>" not in reply_html(reply)


@pytest.mark.parametrize("words", ["refuted", "Refuted.", "Yes", "Yes.", "no!"])
def test_a_verdict_is_quoted_whole_and_looked_for_in_no_quote(words, mill):
    verdict = judge(render_completion(words, [1], 0.9), 0.9, shown(mill), settings())
    assert verdict.is_verdict
    assert "not in the cited passages" not in reply_text(verdict)
    assert ">>It has two wheels.<<" in reply_text(verdict)


def test_a_claim_is_asked_as_in_training_and_searched_by_itself():
    asked = "Is this claim supported or refuted by the evidence? It has two wheels."
    assert split_question("claim:  It has two wheels.") == (asked, "It has two wheels.")
    assert split_question(asked) == (asked, "It has two wheels.")
    assert split_question("Who built it?") == ("Who built it?", "Who built it?")
    for empty in ("", "  ", "claim: "):
        with pytest.raises(UsageError):
            split_question(empty)


# --- printing


def test_a_document_cannot_steer_the_terminal(mill):
    document = read("a.txt", "It was \x1b[2Jbuilt\u202e in 1784.")
    (passage,) = passages_of(document, 40)
    reply = Reply(status="answered", answer="\x1b[31m1784", quotes=[quote_passage(passage, passage.text, "")])
    assert "\x1b" not in reply_text(reply)
    assert "\u202e" not in reply_text(reply)


def test_json_has_one_object_per_line(mill, capsys):
    reply = judge(render_completion("1784", [0], 0.9), 0.9, shown(mill), settings())
    print_reply(reply, as_json=True)
    (line,) = capsys.readouterr().out.splitlines()
    row = json.loads(line)
    assert (row["answer"], row["status"], row["confidence"]) == ("1784", "answered", 0.72)
    assert (
        row["quotes"][0]["text"] == mill.pages[0].source[row["quotes"][0]["start"] : row["quotes"][0]["end"]]
    )


@pytest.mark.parametrize("stop, is_end", [(Terminated, True), (KeyboardInterrupt, False)])
def test_a_kill_ends_the_loop_and_ctrl_c_only_the_question(stop, is_end):
    def ask(question):
        raise stop

    ends = pytest.raises(Terminated) if is_end else contextlib.nullcontext()
    with ends:
        assert ask_in_a_loop(ask, as_json=True, piped=iter(["Who?", "When?"])) == 0


@pytest.mark.parametrize("stop, is_raised", [(Terminated, True), (KeyboardInterrupt, False)])
def test_a_kill_of_the_page_is_no_success(stop, is_raised, monkeypatch):
    class Waiting:
        def wait(self):
            raise stop

    closed = []
    page = SimpleNamespace(close=lambda verbose: closed.append(verbose))
    monkeypatch.setattr("asking.web.launch_page", lambda page, port: "http://127.0.0.1:7860")
    monkeypatch.setattr("asking.web.threading.Event", Waiting)
    with pytest.raises(Terminated) if is_raised else contextlib.nullcontext():
        serve_until_stopped(page)
    assert closed == [False]


def test_the_loop_asks_every_line_and_survives_a_bad_one(monkeypatch, capsys):
    import io

    def ask(question: str) -> Reply:
        if question == "bad":
            raise UsageError("too long")
        if question == "stop":
            raise KeyboardInterrupt
        return Reply(question=question, status="answered", answer=question.upper())

    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\nbad\nstop\ntwo"))
    assert ask_in_a_loop(ask, as_json=True, piped=questions_of_stdin()) == 2
    captured = capsys.readouterr()
    first, bad, last = map(json.loads, captured.out.splitlines())
    assert [first["answer"], last["answer"]] == ["ONE", "TWO"]
    assert bad == {"question": "bad", "status": "error", "reason": "too long"}
    assert "error: too long" in captured.err
    assert "canceled" in captured.err


def told(question: str) -> Reply:
    return Reply(question=question, status="answered", answer=question.upper(), confidence=0.5)


def test_each_of_several_questions_is_printed_above_its_answer(monkeypatch, capsys):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("one\n\ntwo\n"))
    ask_in_a_loop(told, as_json=False, piped=questions_of_stdin())
    piped = capsys.readouterr().out
    assert piped.startswith("question: one\nONE\n")
    assert "s\n\nquestion: two\nTWO\n" in piped
    ask_each(told, ["one", "two"], as_json=False)
    assert capsys.readouterr().out == piped
    ask_each(told, ["one"], as_json=False)
    assert capsys.readouterr().out.startswith("ONE\n")
    monkeypatch.setattr("sys.stdin", io.StringIO("one\n"))
    ask_in_a_loop(told, as_json=False, piped=questions_of_stdin())
    assert capsys.readouterr().out.startswith("ONE\n")


def test_a_question_that_cannot_be_asked_leaves_the_others(capsys):
    def ask(question: str) -> Reply:
        if "bad" in question:
            raise UsageError(f"{question} is too long")
        return told(question)

    with pytest.raises(UsageError, match="^2 of 4 questions could not be asked"):
        ask_each(ask, ["bad", "one", "bad two", "two"], as_json=True)
    captured = capsys.readouterr()
    rows = [json.loads(line) for line in captured.out.splitlines()]
    assert [row["question"] for row in rows] == ["bad", "one", "bad two", "two"]
    assert [row["status"] for row in rows] == ["error", "answered", "error", "answered"]
    assert rows[0] == {"question": "bad", "status": "error", "reason": "bad is too long"}
    assert captured.err == "error: bad is too long\nerror: bad two is too long\n"
    # What a single question raises is said where the run ends.
    with pytest.raises(UsageError, match="^bad is too long"):
        ask_each(ask, ["bad"], as_json=True)
    captured = capsys.readouterr()
    assert (json.loads(captured.out), captured.err) == (rows[0], "")
    with pytest.raises(UsageError, match="1 of 2"):
        ask_each(ask, ["bad", "one"], as_json=False)
    assert "question: one\nONE\n" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "\n  \n"])
def test_stdin_without_a_question_is_named(monkeypatch, text):
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO(text))
    with pytest.raises(UsageError, match="no question given"):
        questions_of_stdin()


# --- what a checkpoint says


def write_json(path, value) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def test_a_checkpoint_says_how_its_evidence_was_cut(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    checkpoint = tmp_path / "sft/checkpoint-best"
    said = []
    write_json(checkpoint / "run.json", {"evidence": {"max_chunks": 4, "max_chunk_words": 30}})
    assert ask_settings(checkpoint, say=said.append).sizes == ChunkSizes(4, 30)
    assert ask_settings(checkpoint, n_passages=9, say=said.append).sizes == ChunkSizes(9, 30)
    assert all("no fit in calibration.json" in line for line in said)
    # Manifests are edited by hand too.
    for damaged in ({"evidence": "3"}, {"evidence": {"max_chunks": 0, "max_chunk_words": 9}}):
        write_json(checkpoint / "run.json", damaged)
        write_json(checkpoint.parent / "run.json", {"settings": []})
        assert ask_settings(checkpoint, say=said.append).sizes == ChunkSizes(6, 80)


def test_an_older_checkpoint_takes_the_sizes_of_its_data_and_says_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    checkpoint = tmp_path / "sft/checkpoint-best"
    write_json(checkpoint / "run.json", {})
    said = []
    assert ask_settings(checkpoint, say=said.append).sizes == ChunkSizes(6, 80)
    assert "does not say how its evidence was cut" in said[0]
    write_json(tmp_path / "data/run.json", {"settings": {"max_chunks": 3, "max_chunk_words": 20}})
    write_json(checkpoint.parent / "run.json", {"settings": {"data": {"train_path": "data/train.jsonl"}}})
    assert ask_settings(checkpoint, say=said.append).sizes == ChunkSizes(3, 20)


def test_sizes_come_from_the_build_or_from_the_samples(tmp_path, sample):
    assert sizes_of_build(tmp_path / "train.jsonl") is None
    write_json(tmp_path / "run.json", {"settings": {"max_chunks": "3"}})
    assert sizes_of_build(tmp_path / "train.jsonl") is None
    assert sizes_of_samples([sample]) == ChunkSizes(4, 7)
