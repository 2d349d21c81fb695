"""A server that misbehaves in every way seen in the wild: whole files or none, and the message says what to do."""

import gzip
import hashlib
import http.server
import json
import threading
import tracemalloc
import zipfile

import pytest

from sources import download, nq_open, wiki_pages
from sources.json_list import read_json_list
from utils import jsonl
from utils.errors import DataError, StageError
from utils.jsonl import read_jsonl

BODY = b"".join(
    json.dumps({"question": f"who is number {i}", "answer": [str(i)]}).encode() + b"\n" for i in range(2000)
)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers by a script: `plan` holds one behaviour a request, the last one stays. `asked` logs (path, Range)."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = ["whole"]
        self.body = BODY
        self.etag = '"v1"'
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/NQ-open.dev.jsonl"


class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        asked_range = self.headers.get("Range")
        server.asked.append((self.path, asked_range))
        behaviour = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        body = server.body
        etag = server.etag
        if isinstance(behaviour, int):
            self.send_error(behaviour)
            return
        start = 0
        if asked_range and behaviour != "ignores range" and self.headers.get("If-Range") == etag:
            start = int(asked_range.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            shift = 5 if behaviour == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        claimed = len(body) - start + (1000 if behaviour == "wrong size" else 0)
        self.send_header("Content-Length", str(claimed))
        if behaviour != "no etag":
            self.send_header("ETag", etag)
        self.end_headers()
        sent = body[start:] if behaviour not in ("cut", "no etag") else body[start : start + 20_000]
        self.wfile.write(sent)


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setattr(download.time, "sleep", lambda seconds: None)
    server = Server()
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def target(tmp_path):
    return tmp_path / "raw" / "NQ-open.dev.jsonl"


def leftovers(target):
    return sorted(path.name for path in target.parent.iterdir() if path != target)


def test_a_whole_file_is_fetched_and_nothing_else_stays(server, target):
    download.fetch([server.url], target, SHA256)
    assert target.read_bytes() == BODY and leftovers(target) == []


def test_a_cut_is_resumed_where_it_stopped(server, target):
    server.plan = ["cut", "cut", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY
    assert [asked for _, asked in server.asked] == [None, "bytes=20000-", "bytes=40000-"]


def test_a_killed_run_is_resumed_by_the_next(server, target):
    server.plan = ["cut"]
    with pytest.raises(StageError, match="got 80000 of .* bytes.*check the network"):
        download.fetch([server.url], target)
    assert not target.exists() and leftovers(target) == [
        ".NQ-open.dev.jsonl.part",
        ".NQ-open.dev.jsonl.part.json",
    ]
    server.plan = ["whole"]
    server.asked = []
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY and server.asked[0][1] == "bytes=80000-"


def test_a_server_without_ranges_sends_the_file_again(server, target):
    server.plan = ["cut", "ignores range"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY


def test_without_a_validator_nothing_is_resumed(server, target):
    server.plan = ["no etag", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY and server.asked[1][1] is None


def test_a_range_that_starts_elsewhere_is_not_joined(server, target):
    server.plan = ["cut", "wrong range", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY


def test_changed_content_between_cut_and_resume_starts_anew(server, target):
    server.plan = ["cut"]
    with pytest.raises(StageError):
        download.fetch([server.url], target)
    server.plan = ["whole"]
    server.body = BODY[::-1]
    server.etag = '"v2"'
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY[::-1]


def test_a_wrong_size_is_never_taken_for_the_file(server, target):
    server.plan = ["wrong size"]
    with pytest.raises(StageError, match=r"size changed|got \d+ of \d+ bytes"):
        download.fetch([server.url], target)
    assert not target.exists()


def test_503_is_tried_again_and_404_is_not(server, target):
    server.plan = [503, 503, "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY
    target.unlink()
    server.plan = [404]
    server.asked = []
    with pytest.raises(StageError, match="HTTP 404"):
        download.fetch([server.url], target)
    assert len(server.asked) == 1


def test_mirrors_are_asked_in_order(server, target):
    server.plan = [404, "whole"]
    download.fetch([server.url + "?first", server.url + "?second"], target)
    assert [path.rpartition("?")[2] for path, _ in server.asked] == [
        "first",
        "second",
    ] and target.read_bytes() == BODY


def test_a_bad_url_names_itself(target):
    with pytest.raises(StageError, match="gopher"):
        download.fetch(["gopher//nowhere"], target)


def test_other_content_than_the_pinned_is_refused_with_both_hashes(server, target):
    server.body = BODY + b"{}\n"
    with pytest.raises(DataError) as refused:
        download.fetch([server.url], target, SHA256)
    assert SHA256 in str(refused.value) and hashlib.sha256(server.body).hexdigest() in str(refused.value)
    assert not target.exists() and leftovers(target) == []


def test_a_changed_file_keeps_its_pin_and_is_refused_even_with_accept_new_hash(tmp_path):
    file = tmp_path / "a.jsonl"
    pins = tmp_path / "source_hashes.json"
    file.write_text("one")
    with pytest.raises(DataError, match="not pinned"):
        download.check_pins({"x/a.jsonl": file}, pins, accept_new=False)
    hashes = download.check_pins({"x/a.jsonl": file}, pins, accept_new=True)
    file.write_text("two")
    with pytest.raises(DataError) as refused:
        download.check_pins({"x/a.jsonl": file}, pins, accept_new=True)
    assert (
        hashes["x/a.jsonl"] in str(refused.value)
        and file.read_text() == "two"
        and download.read_pins(pins) == hashes
    )


# --- files that are whole but wrong


def stop(problem):
    raise DataError(problem)


def test_a_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    packed = gzip.compress(BODY)
    path.write_bytes(packed)
    assert len(list(nq_open.read_records(path, "dev", stop))) == 2000
    path.write_bytes(packed[:-200])
    with pytest.raises(DataError, match="rows.jsonl.gz: damaged gzip"):
        list(read_jsonl(path))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (b'{"question": "caf\xe9", "answer": ["x"]}', "not UTF-8"),
        (b'{"question": "a\x00b", "answer": ["x"]}', "not a JSON object"),
        (b'{"question": "q", "answer": ["x"], "score": NaN}', "NaN is not JSON"),
        (b'{"question": "q", "question": "r", "answer": ["x"]}', "duplicate key 'question' in one object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'["a list"]', "expected a JSON object, found list"),
        (b'{"question": "q"}', "not an NQ-Open row"),
    ],
)
def test_a_bad_line_is_named_or_counted(tmp_path, line, problem):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"question": "q", "answer": ["x"]}\n' + line + b'\n{"question": "r", "answer": ["y"]}\n'
    )
    with pytest.raises(DataError, match=f"rows.jsonl:2: {problem}|{problem}"):
        list(nq_open.read_records(path, "dev", stop))
    counted = []
    assert len(list(nq_open.read_records(path, "dev", counted.append))) == 2 and len(counted) == 1


def test_a_50_mb_line_is_refused_without_reading_it_into_memory(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(
        b'{"question": "' + b"a" * (50 << 20) + b'", "answer": ["x"]}\n{"question": "r", "answer": ["y"]}\n'
    )
    counted = []
    tracemalloc.start()
    rows = list(read_jsonl(path, counted.append))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in rows] == [2] and "rows.jsonl:1: line over 16 MB" in counted[0]
    assert peak < 3 * jsonl.MAX_LINE_BYTES


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


PAGE = json.dumps({"id": "Page_1", "text": "", "lines": "0\tText one ."}) + "\n"


def test_zip_names_are_never_paths(tmp_path):
    path = tmp_path / "deep" / "wiki.zip"
    path.parent.mkdir()
    write_zip(
        path, {"../../escaped.jsonl": PAGE, "wiki-pages/wiki-001.jsonl": PAGE.replace("Page_1", "Page_2")}
    )
    assert set(wiki_pages.read_pages(path, {"Page 1"}, set(), 10, stop)) == {"Page 1", "Page 2"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "wiki.zip"]


def test_a_zip_bomb_and_a_damaged_zip_are_refused(tmp_path):
    path = tmp_path / "wiki.zip"
    write_zip(path, {"wiki-001.jsonl": b"0" * (80 << 20)})
    with pytest.raises(DataError, match="not a FEVER zip"):
        wiki_pages.read_pages(path, set(), set(), 10, stop)
    write_zip(path, {"wiki-001.jsonl": PAGE * 500})
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(DataError, match="damaged zip"):
        wiki_pages.read_pages(path, set(), set(), 10, stop)


def test_a_bad_page_is_named_by_zip_member_and_line(tmp_path):
    path = tmp_path / "wiki.zip"
    write_zip(path, {"wiki-001.jsonl": PAGE + '{"id": NaN}\n'})
    with pytest.raises(DataError, match=r"wiki.zip/wiki-001.jsonl:2: not a JSON object"):
        wiki_pages.read_pages(path, set(), set(), 10, stop)


def test_json_lists_are_read_row_by_row_and_their_damage_is_named(tmp_path):
    path = tmp_path / "rows.json"
    rows = [{"n": i, "text": "x" * 3000} for i in range(1000)]
    path.write_text(" " + json.dumps(rows, indent=1))
    assert [row for _, row in read_json_list(path)] == rows
    path.write_text("[]")
    assert list(read_json_list(path)) == []
    path.write_text(json.dumps(rows)[:-10])
    with pytest.raises(DataError, match="rows.json: row 1000 is not valid JSON"):
        list(read_json_list(path))
    path.write_text('{"a": 1}')
    with pytest.raises(DataError, match="expected a JSON list"):
        list(read_json_list(path))
