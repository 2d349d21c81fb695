"""The page of ask.py under attack: other people's files, paths outside, large uploads, many requests."""

import gc
import json
import os
import socket
import stat
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from asking.documents import Document
from asking.passages import passages_of
from asking.quotes import quote_passage
from asking.reply import Reply
from asking.web import HOST, build_page, launch_page
from tests.faults.form import count

N_REQUESTS = count(40, 200)
MB = 1 << 20
SECRET = "The password is swordfish."


def quote_all(question: str, documents: list[Document], min_confidence: float | None = None) -> Reply:
    """Answers with the first passage of every document, so that a foreign one would be seen."""
    quotes = []
    for document in documents:
        passage = passages_of(document, 40)[0]
        quotes.append(quote_passage(passage, passage.text, ""))
    return Reply(question=question, status="answered", answer=question, confidence=0.8, quotes=quotes)


@pytest.fixture(scope="module")
def address():
    pytest.importorskip("gradio", reason="gradio is not installed (requirements-web.txt)")
    page = build_page(quote_all)
    yield launch_page(page)
    page.close(verbose=False)


@pytest.fixture
def http(address):
    httpx = pytest.importorskip("httpx")
    with httpx.Client(base_url=address, timeout=60) as client:
        yield client


def upload(http, name: str, content: bytes):
    return http.post("gradio_api/upload", files={"files": (name, content)})


def ask(http, paths: list[str], pasted: str = "", question: str = "Who?") -> str:
    """What the page's function answers, whatever it is: a reply or an error."""
    files = [{"path": path, "meta": {"_type": "gradio.FileData"}} for path in paths]
    data = {"data": [files or None, pasted, question, False, 0]}
    called = http.post("gradio_api/call/ask", json=data)
    if called.status_code != 200:
        return called.text
    return http.get(f"gradio_api/call/ask/{called.json()['event_id']}").text


def memory_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MB


def test_it_listens_on_this_machine_alone(address):
    place = urlsplit(address)
    assert place.hostname == HOST == "127.0.0.1"
    socket.create_connection((HOST, place.port), timeout=5).close()
    # Another address of this same machine.
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.2", place.port), timeout=5).close()


def test_uploads_are_in_a_folder_of_the_user_alone(http):
    (path,) = upload(http, "notes.txt", b"It was built in 1784.").json()
    assert "1784" in ask(http, [path])
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    assert Path(path).is_relative_to(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_a_path_outside_of_the_uploads_is_not_read(http, tmp_path):
    (tmp_path / "private.txt").write_text(SECRET)
    (uploaded,) = upload(http, "notes.txt", b"It was built in 1784.").json()
    inside = Path(uploaded).parent
    up = "../" * 20
    for path in (
        *(str(tmp_path / "private.txt"), f"{inside}/{up}{tmp_path}/private.txt", "/etc/passwd"),
        *(f"file://{tmp_path}/private.txt", f"{inside}/notes.txt/../{up}etc/passwd", str(inside.parent)),
    ):
        for found in (ask(http, [path]), http.get(f"gradio_api/file={path}").text):
            assert "swordfish" not in found and "root:" not in found, path


def test_a_name_with_a_path_stays_among_the_uploads(http, tmp_path):
    folder = Path(os.environ["GRADIO_TEMP_DIR"])
    for name in ("../../../planted.txt", "/tmp/planted.txt", "..\\..\\planted.txt", "a/../../planted.txt"):
        (path,) = upload(http, name, b"Some text.").json()
        assert Path(path).resolve().is_relative_to(folder.resolve())
        assert "Some text." in ask(http, [path])
    names = "<img src=x onerror=alert(1)>.txt"
    (path,) = upload(http, names, b"Some text.").json()
    assert "<img" not in ask(http, [path])


def test_a_large_upload_is_refused_and_takes_no_memory(http):
    content = bytes(51 * MB)
    before = memory_mb()
    answer = upload(http, "large.txt", content)
    assert answer.status_code == 413, answer.text
    assert "exceeded maximum allowed size of 52428800 bytes" in answer.text
    gc.collect()
    # The request's own body is in this process too.
    assert memory_mb() - before < 160


def test_a_binary_upload_is_refused_in_one_line(http):
    (path,) = upload(http, "notes.txt", os.urandom(1000)).json()
    assert "is binary, not text; save it as txt, md, html or pdf" in ask(http, [path])


def test_two_sessions_at_once_see_their_own_files(address):
    httpx = pytest.importorskip("httpx")
    seen: dict[str, list[str]] = {"anna": [], "bert": []}

    def session(name: str) -> None:
        with httpx.Client(base_url=address, timeout=60) as client:
            (path,) = upload(client, "notes.txt", f"This is the file of {name}.".encode()).json()
            for i in range(10):
                seen[name].append(ask(client, [path], f"The paste of {name}.", f"Question {i} of {name}?"))

    threads = [threading.Thread(target=session, args=(name,)) for name in seen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, other in (("anna", "bert"), ("bert", "anna")):
        assert len(seen[name]) == 10
        for i, reply in enumerate(seen[name]):
            assert f"Question {i} of {name}?" in reply and f"the file of {name}" in reply
            assert other not in reply


@pytest.mark.slow
def test_many_requests_in_a_row_take_no_more_memory(http):
    (path,) = upload(http, "notes.txt", b"It was built in 1784. " * 200).json()

    def rounds(n: int) -> float:
        for i in range(n):
            assert "1784" in ask(http, [path], f"Pasted {i}.", f"Question {i}?")
        gc.collect()
        return memory_mb()

    warm = rounds(10)
    assert rounds(N_REQUESTS) - warm < 20


def test_what_is_typed_runs_nothing(http):
    reply = ask(http, [], "<script>alert(1)</script> text.", "<img src=x onerror=alert(1)>")
    data = json.loads(reply.split("data: ", 1)[1].splitlines()[0])
    assert "<script" not in data[0] and "<img" not in data[0]
