"""The page of ask.py: the reply of the terminal, escaped; served on this machine, asking no other."""

import json
import shutil
import subprocess
from urllib.parse import urlsplit

import pytest

from asking.documents import Document, read_documents
from asking.passages import passages_of
from asking.quotes import quote_passage
from asking.reply import Reply
from asking.web import Desk, build_page, import_gradio, launch_page
from asking.web_html import model_html, reply_html
from utils.errors import StageError, UsageError

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
EVIL = "The <script>alert(1)</script> mill was built in <b>1784</b> & later."


def first_passage(question: str, documents: list[Document], min_confidence: float | None = None) -> Reply:
    """Answers every question with the first passage."""
    if not question:
        raise UsageError("the question is empty")
    passage = passages_of(documents[0], 40)[0]
    quotes = [quote_passage(passage, passage.text, "1784")]
    return Reply(question=question, status="answered", answer=question, confidence=0.8, quotes=quotes)


def test_nothing_of_a_document_or_an_answer_becomes_markup():
    page = Desk(first_passage).respond(None, EVIL, "<img src=x onerror=alert(2)>", False)
    assert "<script>" not in page
    assert "<img" not in page
    assert "&lt;b&gt;<mark>1784</mark>&lt;/b&gt; &amp; later." in page
    assert "<img" not in Desk(first_passage).respond(None, "", "<img src=x>", False)


def test_a_refusal_shows_the_nearest_passages_and_the_reason(tmp_path):
    (tmp_path / "a.txt").write_text("It was built in 1784.")
    (passage,) = passages_of(read_documents([str(tmp_path / "a.txt")])[0], 40)
    nearest = [quote_passage(passage, passage.text, "")]
    page = reply_html(Reply(nearest=nearest))
    assert "The text does not say." in page
    page = reply_html(Reply(status="withheld", reason="it has <b>", nearest=nearest))
    assert "it has &lt;b&gt;" in page
    assert "<mark>" not in page


def test_uploads_are_named_as_they_were_and_read_once(tmp_path):
    (tmp_path / "notes.txt").write_text("It was built in 1784.")
    seen = []

    def ask(question, documents, min_confidence):
        assert min_confidence is None
        seen.append(documents)
        return first_passage(question, documents)

    desk = Desk(ask)
    for _ in range(2):
        assert "<cite>notes.txt:1</cite>" in desk.respond([str(tmp_path / "notes.txt")], "", "When?", False)
    assert seen[0] is seen[1]
    desk.respond([str(tmp_path / "notes.txt")], "More.", "When?", False)
    assert [document.name for document in seen[2]] == ["notes.txt", "pasted text"]


def test_a_claim_is_marked_and_problems_are_shown(tmp_path):
    desk = Desk(first_passage)
    assert "<h3>claim: It is old.</h3>" in desk.respond(None, "It is old.", "It is old.", True)
    assert "no document yet" in desk.respond(None, "", "When?", False)
    assert "question is empty" in desk.respond(None, "Text.", " ", True)
    for wrong in (7, -0.1, float("nan")):
        assert "expected a number from 0 to 1" in desk.respond(None, "Text.", "When?", False, wrong)
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02")
    assert "binary" in desk.respond([str(tmp_path / "a.txt")], "", "When?", False)


def test_the_page_names_the_model_and_passes_on_the_lowest_confidence():
    assert "checkpoints/&lt;b&gt;" in model_html("checkpoints/<b>")
    assert "Check each answer against its quotes" in model_html("")
    asked = []

    def ask(question, documents, min_confidence):
        asked.append(min_confidence)
        return first_passage(question, documents)

    Desk(ask).respond(None, "Text.", "When?", False, 0.9)
    assert asked == [0.9]


def test_without_gradio_the_message_has_the_command(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gradio", None)
    with pytest.raises(StageError, match="requirements-web.txt"):
        import_gradio()


# --- served


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("gradio", reason="gradio is not installed (requirements-web.txt)")
    page = build_page(first_passage, model="checkpoints/sft/x", min_confidence=0.25)
    yield launch_page(page)
    page.close(verbose=False)


def hosts_asked(net_log: dict) -> set[str]:
    """The hosts of every request that a page's own code made, from Chromium's log of its network."""
    hosts = set()
    for event in net_log["events"]:
        params = event.get("params", {})
        # The browser's own requests have no initiator.
        if "url" in params and params.get("initiator", "not an origin") != "not an origin":
            hosts.add(urlsplit(params["url"]).hostname)
    return hosts


def test_the_page_asks_this_machine_alone(address, tmp_path):
    if not CHROMIUM:
        pytest.skip("no Chromium")
    log = tmp_path / "net.json"
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    where = [f"--user-data-dir={tmp_path / 'profile'}", f"--log-net-log={log}"]
    command = [CHROMIUM, "--headless", "--no-sandbox", *quiet, *where, "--virtual-time-budget=15000"]
    done = subprocess.run(
        [*command, "--dump-dom", address], capture_output=True, text=True, timeout=120, check=True
    )
    assert "Ask your documents" in done.stdout
    assert "or paste a text" in done.stdout
    assert "checkpoints/sft/x" in done.stdout
    assert "Lowest confidence" in done.stdout
    assert hosts_asked(json.loads(log.read_text())) == {"127.0.0.1"}


def test_the_page_answers_what_the_terminal_answers(address, tmp_path):
    client_of = pytest.importorskip("gradio_client")
    assert address.startswith("http://127.0.0.1:")
    (tmp_path / "notes.txt").write_text("It was built in 1784.")
    client = client_of.Client(address, verbose=False)
    files = [client_of.handle_file(str(tmp_path / "notes.txt"))]
    page = client.predict(files, "", "When was it built?", False, api_name="/ask")
    assert "It was built in <mark>1784</mark>." in page
    assert "notes.txt:1" in page


def test_a_port_in_use_is_named(address):
    with pytest.raises(UsageError, match="in use"):
        launch_page(build_page(first_passage), urlsplit(address).port)
