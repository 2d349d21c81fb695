"""A file is complete or absent, and what cannot be read back cannot be written."""

import pytest

from utils.atomic import atomic_write
from utils.jsonl import append_jsonl, read_appended, read_jsonl, sha256_value, write_jsonl


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_write(path) as handle:
        handle.write("half")
        raise ZeroDivisionError
    assert path.read_text() == "old" and [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_torn_last_line_is_cut_and_appending_continues(tmp_path):
    path = tmp_path / "log.jsonl"
    append_jsonl(path, [{"a": 1}, {"a": 2}])
    # What a kill in the middle of a write leaves.
    with open(path, "a") as handle:
        handle.write('{"a": 3')
    assert read_appended(path) == [{"a": 1}, {"a": 2}]
    append_jsonl(path, [{"a": 4}])
    assert [row["a"] for _, row in read_jsonl(path)] == [1, 2, 4]


def test_nan_cannot_be_written(tmp_path):
    with pytest.raises(ValueError):
        write_jsonl(tmp_path / "x.jsonl", [{"a": float("nan")}])
    assert not (tmp_path / "x.jsonl").exists()


def test_the_hash_of_a_value_ignores_key_order():
    # Settings come from YAML, flags and JSON, whose orders differ.
    assert sha256_value({"a": 1, "b": [2]}) == sha256_value({"b": [2], "a": 1})
    assert sha256_value({"a": 1, "b": [2]}) != sha256_value({"a": 1, "b": 2})
