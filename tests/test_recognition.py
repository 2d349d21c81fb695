"""A file is named as what it is, and a right file is never taken for another."""

import gzip
import json
from pathlib import Path

import pytest
import yaml

from preferences.reward_config import DEFAULTS as REWARD_DEFAULTS
from tests.mistake_world import (
    COMPLETION,
    PREDICTION,
    PREFERENCE,
    RESULTS,
    SAMPLE,
    lines,
    weights,
)
from training.sft_config import DEFAULTS as SFT_DEFAULTS
from utils.config import load_config
from utils.errors import DataError, UsageError
from utils.file_kinds import EXPECTED, MARKED_ROWS, ROWS
from utils.input_files import unreadable_reason
from utils.recognition import check_kind, config_kind, kind_of, signature_kind
from utils.schema import check_rows, read_samples

ROOT = Path(__file__).resolve().parent.parent
RIGHT = {
    "samples": SAMPLE,
    "preferences": PREFERENCE,
    "predictions": PREDICTION,
    "completions": COMPLETION,
    "results": RESULTS,
}
# Other ways to write the same rows.
WRITTEN = {
    "plain": lambda text: text.encode(),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + text.encode(),
    "gzip": lambda text: gzip.compress(text.encode()),
    "windows": lambda text: text.replace("\n", "\r\n").encode(),
    "blank lines": lambda text: b"\n\n" + text.encode(),
    "no last line end": lambda text: text.rstrip("\n").encode(),
}


@pytest.mark.parametrize("kind", RIGHT)
@pytest.mark.parametrize("way", WRITTEN)
def test_a_right_file_is_let_pass_however_it_is_written(kind, way, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(WRITTEN[way](lines(RIGHT[kind])))
    check_kind(path, kind)


@pytest.mark.parametrize("kind", sorted(set(RIGHT) - {"results"}))
def test_a_row_may_be_long_and_have_keys_of_its_own(kind, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines({**RIGHT[kind], "note": "x" * (1 << 19), "mine": 1}))
    check_kind(path, kind)


def test_samples_with_a_completion_are_samples_and_completions(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines({**SAMPLE, "completion": "x"}))
    check_kind(path, "samples")
    check_kind(path, "completions")
    with pytest.raises(DataError, match="found samples"):
        check_kind(path, "preferences")


def test_a_cut_row_is_left_to_the_reader_who_knows_its_line(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(SAMPLE)[:60])
    assert kind_of(path, "samples") is None


@pytest.mark.parametrize("wanted", RIGHT)
@pytest.mark.parametrize("given", RIGHT)
def test_every_other_kind_is_named(wanted, given, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(RIGHT[given]))
    if wanted == given:
        check_kind(path, wanted)
        return
    with pytest.raises(DataError, match=f"found .*, expected {EXPECTED[wanted].split('(')[0]}"):
        check_kind(path, wanted)


def test_every_kind_of_row_says_where_it_belongs():
    assert all(kind.what and kind.remedy and kind.keys for kind in (*MARKED_ROWS, *ROWS))


@pytest.mark.parametrize("path", sorted(ROOT.glob("configs/**/*.yaml")), ids=lambda path: path.name)
def test_every_config_that_ships_is_recognized(path):
    kind = config_kind(yaml.safe_load(path.read_text()))
    assert kind and kind_of(path) == kind


def test_a_config_of_few_keys_belongs_to_whoever_reads_it(tmp_path):
    path = tmp_path / "x.yaml"
    path.write_text("output_dir: out\nload_in_8bit: false\n")
    for defaults in (SFT_DEFAULTS, REWARD_DEFAULTS):
        assert load_config(path, defaults, [])["output_dir"] == "out"
    # JSON is YAML too.
    path.write_text(json.dumps({"output_dir": "out"}, indent=2))
    assert load_config(path, SFT_DEFAULTS, [])["output_dir"] == "out"
    path.write_text("batch_size: 4\n")
    with pytest.raises(UsageError, match=r"a config of train_rm.py"):
        load_config(path, SFT_DEFAULTS, [])


def test_weights_and_text_are_told_apart():
    found = signature_kind(weights())
    assert found and found.name == "safetensors"
    assert signature_kind(b'{"id": "x"}\n') is None
    assert signature_kind("é: ü\n".encode()) is None


def test_a_file_is_checked_again_when_it_has_changed(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(lines(SAMPLE))
    check_rows(path, read_samples)
    path.write_text(lines({**SAMPLE, "answerable": "yes, it is"}))
    with pytest.raises(DataError, match="'answerable' must be bool"):
        check_rows(path, read_samples)


def test_a_readable_file_has_no_reason_not_to_be_read(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.touch()
    assert unreadable_reason(path) is None
    link = tmp_path / "link.jsonl"
    link.symlink_to(path)
    assert unreadable_reason(link) is None
