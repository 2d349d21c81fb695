"""The sources config: each slip ends in one line with the key; each file has a pin of its own."""

import json

import pytest

import build_data
from sources.config import read_sources_config
from sources.files import entry_path, files_by_name
from sources.pins import check_pins, read_pins, write_pins
from utils.completions import parse_completion
from utils.config import read_yaml
from utils.errors import DataError, UsageError
from utils.strict_json import parse_json

URL = "https://example.org"


def config_file(tmp_path, text):
    path = tmp_path / "sources.yaml"
    path.write_text(text)
    return path


def entry(text):
    """A config of one source with one file, given as YAML."""
    return f"sources:\n  own:\n    records:\n      - {text}\n"


# (YAML, words of the message: the key and the value found)
SLIPS = [
    ("sources:\n  own:\n", ["sources.own", "expected a block", "None"]),
    ("sources:\n  - own\n", ["sources:", "block of keys", "['own']"]),
    ("sources:\n  2024:\n    records: []\n", ["sources.2024", "must be text"]),
    ("sources:\n  a/b:\n    records: []\n", ["sources.a/b", "must not contain"]),
    ('sources:\n  "a\\nb":\n    records: []\n', ["sources.'a\\nb'", "one line"]),
    ("sources: {}\n", ["no sources"]),
    ("sources: &s\n  own: *s\n", ["contains itself"]),
    ("sources:\n  own:\n    records: []\n", ["sources.own", "names no file"]),
    ("sources:\n  own:\n    record: []\n", ["'record'", "did you mean 'records'"]),
    ("sources:\n  own:\n    records:\n      path: x\n", ["sources.own.records", "a list"]),
    ("sources:\n  own:\n    licence: 4.0\n", ["sources.own.licence", "text", "4.0"]),
    (entry('"own.jsonl"'), ["sources.own.records", "path or a url", "'own.jsonl'"]),
    (entry("{split: train}"), ["sources.own.records", "path or a url"]),
    (entry("{path: 7}"), ["records.path", "text", "7"]),
    (entry("{path: ''}"), ["records.path", "text"]),
    (
        entry("{path: x, split: validation}"),
        ["records.split", "'validation'", "train, dev, test or any", "dev?"],
    ),
    (entry("{path: x, split: Test}"), ["records.split", "'Test'", "did you mean test?"]),
    (entry("{path: x, split: [train]}"), ["records.split", "text", "['train']"]),
    (entry("{path: x, split: held-out}"), ["records.split", "'held-out'", "train, dev, test or any"]),
    (entry("{path: x, optional: 'yes'}"), ["records.optional", "true or false", "'yes'"]),
    (entry(f"{{url: '{URL}/a', mirrors: '{URL}/b'}}"), ["records.mirrors", "list of urls"]),
    (entry("{url: example.org/a}"), ["records.url", "a url such as", "'example.org/a'"]),
    (entry(f"{{url: '{URL}/a b'}}"), ["records.url", "a url such as", "a b'"]),
    (entry(f"{{url: '{URL}/'}}"), ["sources.own", f"{URL}/ has no file name", "`file:`"]),
    (entry(f"{{url: '{URL}/a', file: '../a'}}"), ["records.file", "'../a'"]),
    (entry(f"{{url: '{URL}/x/a'}}\n      - {{url: '{URL}/y/a'}}"), ["both saved as a", "`file:`"]),
    ("max_pool_pages: 1e4\nsources: {own: {records: []}}\n", ["max_pool_pages", "whole number", "'1e4'"]),
    ("max_pool_pages: -1\nsources: {own: {records: []}}\n", [".yaml: max_pool_pages: ", "-1"]),
    ("max_pool_pages: yes\nsources: {own: {records: []}}\n", ["max_pool_pages", "True"]),
    ("respect_official_splits: 'no'\nsources: {own: {}}\n", ["respect_official_splits", "'no'"]),
    ("sources:\n  own: {licence: a}\n  own: {licence: b}\n", ["sources.yaml:3", "'own' is there twice"]),
]


@pytest.mark.parametrize(("text", "words"), SLIPS)
def test_a_slip_in_the_config_is_named_by_its_key(text, words, tmp_path):
    path = config_file(tmp_path, text)
    with pytest.raises(UsageError) as caught:
        read_sources_config(str(path), tmp_path, None)
    message = str(caught.value)
    assert caught.value.exit_code == 2
    assert str(path) in message
    assert [word for word in words if word not in message] == []
    assert "\n" not in message


def test_an_unknown_source_is_named_with_those_that_there_are(tmp_path):
    path = config_file(tmp_path, entry("{path: x}"))
    with pytest.raises(UsageError, match="source 'zzz' is not in .*; known: own"):
        read_sources_config(str(path), tmp_path, ["zzz"])


@pytest.mark.parametrize("text", ["[]", "null", "3"])
def test_pins_that_are_no_object_are_named(text, tmp_path):
    path = tmp_path / "source_hashes.json"
    path.write_text(text)
    with pytest.raises(DataError, match="source_hashes.json: expected an object"):
        read_pins(path)


def test_a_home_folder_and_a_url_with_a_query_name_their_files(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PLACE", "here")
    assert entry_path({"path": "~/own.jsonl"}, tmp_path, tmp_path / "root") == tmp_path / "own.jsonl"
    assert entry_path({"path": "$PLACE/a"}, tmp_path, tmp_path) == tmp_path / "here/a"
    assert entry_path({"url": f"{URL}/a.jsonl?download=true#x"}, tmp_path, tmp_path) == tmp_path / "a.jsonl"


def test_a_byte_order_mark_in_a_yaml_file_is_skipped(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_bytes("\ufeffa: 1\n".encode())
    assert read_yaml(path) == {"a": 1}
    path.write_bytes("a: 1\n".encode("utf-16"))
    with pytest.raises(UsageError, match="not valid YAML"):
        read_yaml(path)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--limit", "-1"], ["--limit: expected a whole number from 0 on, found -1"]),
        (["--max-per-source", "-1"], ["--max-per-source: expected a whole number from 0 on, found -1"]),
        (["--max-chunks", "1"], ["--max-chunks: expected a whole number from 2 on, found 1"]),
        (["--max-chunk-words", "0"], ["--max-chunk-words: expected a whole number from 1 on, found 0"]),
        (["--workers", "0"], ["--workers: expected a whole number from 1 on, found 0"]),
        (["--unanswerable-fraction", "-0.1"], ["--unanswerable-fraction"]),
        (["--split", "1,0,0"], ["--split 1,0,0", "share of val is 0"]),
        (["--split", "0,0,1"], ["--split 0,0,1", "share of train is 0"]),
        (["--split", "0.9,0.2,-0.1"], ["share of test is -0.1"]),
        (["--split", "nan,0.5,0.5"], ["add up to 1"]),
        (["--split", "0.8;0.1;0.1"], ["add up to 1"]),
    ],
)
def test_a_number_below_its_lowest_value_exits_2(flags, words, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    with pytest.raises(UsageError) as caught:
        build_data.main(["--sample", *flags])
    assert [word for word in words if word not in str(caught.value)] == []
    assert not list(tmp_path.iterdir())


# --- pins


def two_folders(tmp_path):
    """Two files of one name, as a source's files by role."""
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        path = tmp_path / folder / "data.jsonl"
        path.write_text(folder)
        paths.append(path)
    return paths, {"own": {"records": [(path, {}) for path in paths], "pages": [], "contexts": []}}


def test_files_of_one_name_are_pinned_apart_and_each_change_is_noticed(tmp_path):
    (first, second), files = two_folders(tmp_path)
    by_name = files_by_name(files)
    assert by_name == {"own/a/data.jsonl": first, "own/b/data.jsonl": second}
    pins = tmp_path / "pins.json"
    write_pins(pins, check_pins(by_name, pins, accept_new=True))
    for path in (first, second):
        before = path.read_text()
        path.write_text("changed")
        with pytest.raises(DataError, match=f"{path}: sha256 .* pins own/{path.parent.name}/data.jsonl at"):
            check_pins(by_name, pins, accept_new=True)
        path.write_text(before)
    assert check_pins(by_name, pins, accept_new=False) == read_pins(pins)


def test_a_file_of_a_name_of_its_own_is_pinned_as_before(tmp_path):
    (first, _), _ = two_folders(tmp_path)
    # The same file in two roles is one file.
    files = {"own": {"records": [(first, {})], "pages": [(first, {})], "contexts": []}}
    assert files_by_name(files) == {"own/data.jsonl": first}


def test_the_pins_of_earlier_builds_keep_working(tmp_path):
    (first, second), files = two_folders(tmp_path)
    by_name = files_by_name(files)
    pins = tmp_path / "pins.json"
    # Earlier builds pinned one of the two.
    write_pins(pins, check_pins({"own/data.jsonl": second}, pins, accept_new=True))
    with pytest.raises(DataError, match=f"{first}: not pinned"):
        check_pins(by_name, pins, accept_new=False)
    first_content = first.read_text()
    second.write_text("changed")
    # Which of the two was pinned cannot be told any more, but one of them was.
    with pytest.raises(DataError, match="pins own/data.jsonl at"):
        check_pins(by_name, pins, accept_new=True)
    second.write_text("b")
    hashes = check_pins(by_name, pins, accept_new=True)
    write_pins(pins, hashes)
    assert first.read_text() == first_content
    assert check_pins(by_name, pins, accept_new=False) == hashes


# --- half a character


def test_half_a_character_that_a_model_emits_can_be_written():
    text = '{"answer": "Falk \\ud83d", "citations": [0], "confidence": 0.9}'
    with pytest.raises(ValueError, match="lone surrogate"):
        parse_json(text)
    parsed = parse_completion(text, 2)
    # Repaired, since no strict reader accepts it.
    assert parsed.answer == "Falk \ufffd"
    assert parsed.repaired
    json.dumps(parsed.answer, ensure_ascii=False).encode()
    # Two halves that belong together are one character.
    whole = text.replace("\\ud83d", "\\ud83d\\ude00")
    assert parse_completion(whole, 2, strict=True).answer == "Falk \U0001f600"
