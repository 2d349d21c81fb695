"""Downloads from a server that misbehaves, and raw files that are damaged: whole files or none.

Each message names the file, the cause and the next step.
"""

import gzip
import hashlib
import http.server
import json
import threading
import tracemalloc
import zipfile

import pytest

from sources import download, files, nq_open, wiki_pages
from sources.json_list import read_rows
from sources.pins import check_pins, read_pins, write_pins
from utils import jsonl
from utils.errors import DataError, StageError
from utils.jsonl import read_jsonl

ROWS = [{"question": f"who is number {i}", "answer": [str(i)]} for i in range(2000)]
# 108 KB, so that a cut after 20,000 bytes leaves several to go.
BODY = b"".join(json.dumps(row).encode() + b"\n" for row in ROWS)
SHA256 = hashlib.sha256(BODY).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Answers by a script: `plan` has one behavior per request, the last one is for all others.

    `asked` logs (path, Range).
    """

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.plan = ["whole"]
        self.body = BODY
        self.etag = '"v1"'
        self.asked = []
        self.url = f"http://127.0.0.1:{self.server_address[1]}/NQ-open.dev.jsonl"


class Handler(http.server.BaseHTTPRequestHandler):
    # The base class prints every request to stderr.
    def log_message(self, *args):
        pass

    def do_GET(self):
        server = self.server
        asked_range = self.headers.get("Range")
        server.asked.append((self.path, asked_range))
        behavior = server.plan.pop(0) if len(server.plan) > 1 else server.plan[0]
        body = server.body
        etag = server.etag
        if isinstance(behavior, int):
            self.send_error(behavior)
            return
        start = 0
        # RFC 9110: a range is sent only if the validator still holds.
        if asked_range and behavior != "ignores range" and self.headers.get("If-Range") == etag:
            start = int(asked_range.removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if start else 200)
        if start:
            # A broken proxy: the range starts elsewhere than was requested.
            shift = 5 if behavior == "wrong range" else 0
            self.send_header("Content-Range", f"bytes {start + shift}-{len(body) - 1}/{len(body)}")
        claimed = len(body) - start + (1000 if behavior == "wrong size" else 0)
        self.send_header("Content-Length", str(claimed))
        if behavior != "no etag":
            self.send_header("ETag", etag)
        self.end_headers()
        # Fewer bytes than the Content-Length claims: the connection breaks.
        is_cut = behavior in ("cut", "no etag")
        self.wfile.write(body[start : start + 20_000] if is_cut else body[start:])


@pytest.fixture
def server(monkeypatch):
    # The backoff between tries would make each test wait for seconds.
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
    assert target.read_bytes() == BODY
    assert leftovers(target) == []


def test_a_cut_is_resumed_where_it_stopped(server, target):
    server.plan = ["cut", "cut", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY
    assert [asked for _, asked in server.asked] == [None, "bytes=20000-", "bytes=40000-"]


def test_a_killed_run_is_resumed_by_the_next(server, target):
    server.plan = ["cut"]
    with pytest.raises(StageError, match="got 80000 of .* bytes.*check the network"):
        download.fetch([server.url], target)
    assert not target.exists()
    assert leftovers(target) == [".NQ-open.dev.jsonl.part", ".NQ-open.dev.jsonl.part.json"]

    # Four tries of 20,000 bytes each are kept.
    server.plan = ["whole"]
    server.asked = []
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY
    assert server.asked[0][1] == "bytes=80000-"


def test_a_server_without_ranges_sends_the_file_again(server, target):
    server.plan = ["cut", "ignores range"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY


def test_without_a_validator_nothing_is_resumed(server, target):
    server.plan = ["no etag", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY
    # The second request starts over: nothing tells whether the file is still the same.
    assert server.asked[1][1] is None


def test_a_range_that_starts_elsewhere_is_not_joined(server, target):
    server.plan = ["cut", "wrong range", "whole"]
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY


def test_changed_content_between_cut_and_resume_starts_anew(server, target):
    server.plan = ["cut"]
    with pytest.raises(StageError):
        download.fetch([server.url], target)
    # The new version has the same length, so the size alone would not tell.
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
    assert [path.rpartition("?")[2] for path, _ in server.asked] == ["first", "second"]
    assert target.read_bytes() == BODY


def test_a_bad_url_names_itself(target):
    with pytest.raises(StageError, match="gopher"):
        download.fetch(["gopher//nowhere"], target)


def test_other_content_than_the_pinned_is_refused_with_both_hashes(server, target):
    server.body = BODY + b"{}\n"
    with pytest.raises(DataError) as refused:
        download.fetch([server.url], target, SHA256)
    assert SHA256 in str(refused.value)
    assert hashlib.sha256(server.body).hexdigest() in str(refused.value)
    # The folder of the file too: it would be empty.
    assert not target.parent.exists()


@pytest.mark.parametrize("step", ["open", "write_json", "progress"])
def test_a_kill_between_two_versions_never_joins_them(step, server, target, monkeypatch):
    # Killed at each step that starts the new version: its notes must never be beside bytes of the old one.
    server.plan = ["cut"]
    with pytest.raises(StageError):
        download.fetch([server.url], target)

    def killed(*args, **settings):
        raise KeyboardInterrupt

    server.plan = ["whole"]
    server.body = BODY[::-1]
    server.etag = '"v2"'
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(download, step, killed, raising=False)
        download.fetch([server.url], target)
    download.fetch([server.url], target)
    assert target.read_bytes() == BODY[::-1]


def test_a_changed_file_keeps_its_pin_and_is_refused_even_with_accept_new_hash(tmp_path):
    file = tmp_path / "a.jsonl"
    pins_path = tmp_path / "source_hashes.json"
    file.write_text("one")
    with pytest.raises(DataError, match="not pinned"):
        check_pins({"x/a.jsonl": file}, pins_path, accept_new=False)
    hashes = check_pins({"x/a.jsonl": file}, pins_path, accept_new=True)
    write_pins(pins_path, hashes)
    file.write_text("two")
    with pytest.raises(DataError) as refused:
        check_pins({"x/a.jsonl": file}, pins_path, accept_new=True)
    assert hashes["x/a.jsonl"] in str(refused.value)
    # --accept-new-hash is for new files: a changed one may be an attack, and its pin stays.
    assert file.read_text() == "two"
    assert read_pins(pins_path) == hashes


# --- sources whose files cannot all be had


def dead(server):
    """A url that nothing answers."""
    return server.url.replace(str(server.server_address[1]), "1")


def located(tmp_path, sources):
    return files.locate_files({"sources": sources}, tmp_path / "raw", tmp_path, False, {})


def test_one_dead_host_stops_no_other_source(server, tmp_path, capsys):
    records = [{"url": dead(server)}, {"url": server.url, "file": "second.jsonl"}]
    sources = {"dead": {"records": records}, "alive": {"records": [{"url": server.url}]}}
    found, left_out = located(tmp_path, sources)
    assert list(found) == ["alive"]
    assert len(left_out) == 1
    assert left_out[0].startswith("dead: left out, cannot fetch NQ-open.dev.jsonl")
    assert left_out[0] in capsys.readouterr().err
    # The source's other file is there for the next run.
    assert (tmp_path / "raw/dead/second.jsonl").read_bytes() == BODY


def test_without_any_source_the_build_stops(server, tmp_path):
    with pytest.raises(StageError, match="no source could be fetched; dead: left out"):
        located(tmp_path, {"dead": {"records": [{"url": dead(server)}]}})


def test_an_optional_url_is_left_out_once_its_mirrors_fail_too(server, tmp_path, capsys):
    entry = {"url": dead(server), "file": "extra.jsonl", "mirrors": [dead(server) + "x"], "optional": True}
    source = {"records": [{"url": server.url}], "contexts": [entry]}
    found, left_out = located(tmp_path, {"own": source})
    assert found["own"]["contexts"] == []
    assert left_out == []
    assert "own: built without an optional file" in capsys.readouterr().err

    found, _ = located(tmp_path, {"own": {"records": [{**entry, "mirrors": [server.url]}]}})
    assert [path.read_bytes() for path, _ in found["own"]["records"]] == [BODY]


def test_a_download_must_have_the_hash_that_the_config_gives(server, tmp_path):
    wrong = {"url": server.url, "sha256": "0" * 64}
    with pytest.raises(DataError, match=f"sha256 {SHA256}, but 000"):
        located(tmp_path, {"own": {"records": [wrong]}})
    found, _ = located(tmp_path, {"own": {"records": [wrong | {"sha256": SHA256}]}})
    path = tmp_path / "raw/own/NQ-open.dev.jsonl"
    known = files.config_pins(found)
    assert known == {path: SHA256}
    # A known hash needs no --accept-new-hash.
    check_pins({"own/a": path}, tmp_path / "pins.json", False, known)


def test_a_file_put_in_place_of_a_known_download_needs_accept_new_hash(tmp_path, capsys):
    path = tmp_path / "a.jsonl"
    path.write_text("mine")
    known = {path: SHA256}
    with pytest.raises(DataError, match=f"is not {SHA256}, which the sources config gives"):
        check_pins({"own/a.jsonl": path}, tmp_path / "pins.json", False, known)
    write_pins(tmp_path / "pins.json", check_pins({"own/a.jsonl": path}, tmp_path / "pins.json", True, known))
    assert "accepted, because of --accept-new-hash" in capsys.readouterr().err
    check_pins({"own/a.jsonl": path}, tmp_path / "pins.json", False, known)


@pytest.mark.parametrize(
    "folder", ["repository/data/raw/nq_open", "data_dir/raw/nq_open", "home/data/raw/nq_open"]
)
def test_a_contexts_file_is_found_beside_the_code_the_data_and_at_home(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path / "home"))
    file = tmp_path / folder / "nq-contexts.json"
    file.parent.mkdir(parents=True)
    file.write_text("[]")
    entry = {"path": "data/raw/nq_open/nq-contexts.json", "optional": True}
    raw_dir = tmp_path / "data_dir/raw/nq_open"
    assert files.locate(entry, raw_dir, tmp_path / "repository", False, {}) == file


# --- files that are whole but wrong


def stop(problem):
    raise DataError(problem)


def test_a_truncated_gzip_is_named(tmp_path):
    path = tmp_path / "rows.jsonl.gz"
    # A truncated gzip raises only at its end, after rows were already read from it.
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
    before = b'{"question": "q", "answer": ["x"]}\n'
    after = b'\n{"question": "r", "answer": ["y"]}\n'
    path.write_bytes(before + line + after)
    with pytest.raises(DataError, match=f"rows.jsonl:2: {problem}|{problem}"):
        list(nq_open.read_records(path, "dev", stop))
    counted = []
    assert len(list(nq_open.read_records(path, "dev", counted.append))) == 2
    assert len(counted) == 1


def test_a_50_mb_line_is_refused_without_reading_it_into_memory(tmp_path):
    path = tmp_path / "rows.jsonl"
    long_row = b'{"question": "' + b"a" * (50 << 20) + b'", "answer": ["x"]}\n'
    path.write_bytes(long_row + b'{"question": "r", "answer": ["y"]}\n')
    counted = []
    tracemalloc.start()
    rows = list(read_jsonl(path, counted.append))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [number for number, _ in rows] == [2]
    assert "rows.jsonl:1: line over 16 MB" in counted[0]
    assert peak < 3 * jsonl.MAX_LINE_BYTES


def write_zip(path, members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


PAGE = json.dumps({"id": "Page_1", "text": "", "lines": "0\tText one ."}) + "\n"


def test_zip_names_are_never_paths(tmp_path):
    path = tmp_path / "deep" / "wiki.zip"
    path.parent.mkdir()
    second_page = PAGE.replace("Page_1", "Page_2")
    write_zip(path, {"../../escaped.jsonl": PAGE, "wiki-pages/wiki-001.jsonl": second_page})
    assert set(wiki_pages.read_pages(path, {"Page 1"}, set(), 10, stop)) == {"Page 1", "Page 2"}
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["deep", "wiki.zip"]


def test_a_zip_bomb_and_a_damaged_zip_are_refused(tmp_path):
    path = tmp_path / "wiki.zip"
    # 80 MB of zeros pack to 80 KB, a thousandth.
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
    # 3 MB: the rows cross the borders of the reader's buffer of 1 MB.
    path = tmp_path / "rows.json"
    rows = [{"n": i, "text": "x" * 3000} for i in range(1000)]
    path.write_text(" " + json.dumps(rows, indent=1))
    assert [row for _, row in read_rows(path, stop)] == rows
    path.write_text("[]")
    with pytest.raises(DataError, match="rows.json: the file has no rows"):
        list(read_rows(path, stop))
    # Everything behind the cut is unread, so this is not one bad row to be counted.
    path.write_text(json.dumps(rows)[:-10])
    with pytest.raises(DataError, match="rows.json:1: not a JSON list"):
        list(read_rows(path, [].append))
