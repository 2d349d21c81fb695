"""What a disk or a network drive may refuse, one function at a time: no model runs here."""

import errno
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from models.distributed import ShardLog, Shards
from preferences import feature_store
from preferences.feature_store import FeatureStore
from tests.faults import place_faults
from training.averaging import mean_weights
from utils import lock_records, moving
from utils.aside import set_aside
from utils.atomic import atomic_write
from utils.errors import StageError
from utils.jsonl import append_jsonl, read_appended, read_json, write_json
from utils.locks import output_lock
from utils.moving import move_folder
from utils.replacing import close_replacement, open_replacement
from utils.startup import run_main


def left_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def faults(monkeypatch):
    """The faults of place_faults.py, taken back after the test."""
    for name in ("fsync", "rename", "replace", "link", "symlink", "chmod", "utime", "scandir", "listdir"):
        monkeypatch.setattr(os, name, getattr(os, name))
    return place_faults


# --- how it is told


class SafetensorError(Exception):
    """As safetensors has it."""


LIBRARY_ERRORS = [
    (
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
        "No space",
    ),
    (SafetensorError("I/O error: Read-only file system (os error 30)"), "Read-only file system"),
    (RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 64 vs 0"), "No space"),
    # tokenizers has no class of its own.
    (Exception("File too large (os error 27)"), "File too large"),
    (Exception("Disk quota exceeded (os error 122)"), "quota exceeded"),
    # json.dump of a library into a file that it has opened.
    (OSError(errno.ENOSPC, "No space left on device"), "No space"),
]


@pytest.mark.parametrize("error, words", LIBRARY_ERRORS)
def test_a_full_disk_is_one_line_whatever_library_finds_it(error, words, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))

    def fail(argv) -> None:
        raise error

    with pytest.raises(SystemExit) as ended:
        run_main(fail)
    [line] = capsys.readouterr().err.splitlines()
    assert ended.value.code == 1
    assert line.startswith(f"error: {tmp_path}: ") and words in line
    assert " MB free); make room" in line or "choose a place" in line


def test_other_errors_of_libraries_keep_their_traceback(capsys):
    def fail(argv) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    with pytest.raises(RuntimeError):
        run_main(fail)


def test_a_file_over_the_limit_says_what_is_free(tmp_path):
    with pytest.raises(OSError) as caught, atomic_write(tmp_path / "rows.jsonl"):
        raise OSError(errno.EFBIG, "File too large")
    assert caught.value.filename == str(tmp_path / "rows.jsonl")
    assert left_in(tmp_path) == []


# --- locks


def test_a_lock_whose_record_cannot_be_written_leaves_nothing(tmp_path, monkeypatch):
    def fail(path, value) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(lock_records, "write_json", fail)
    with pytest.raises(OSError, match="No space"), output_lock(tmp_path / "new/run"):
        pass
    assert left_in(tmp_path) == []


def test_without_locks_a_record_that_does_not_fit_leaves_nothing(tmp_path, monkeypatch):
    record = lock_records.LockRecord(tmp_path / ".run.lock.json")

    def fail(row) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(lock_records, "dump_row", fail)
    with pytest.raises(OSError) as caught:
        record.create()
    assert caught.value.filename == str(record.path)
    assert left_in(tmp_path) == []


def test_a_drive_that_replaces_no_file_is_refused_before_the_work(tmp_path, faults):
    faults.no_replacing("EEXIST")
    words = "cannot replace a file in one step.*local disk"
    with pytest.raises(StageError, match=words), output_lock(tmp_path / "run"):
        pytest.fail("the work begins")
    assert left_in(tmp_path) == []


# --- files


@pytest.mark.parametrize("name", ["EINVAL", "ENOSYS", "ENOTSUP"])
def test_files_are_written_where_nothing_can_be_synced(name, tmp_path, faults):
    faults.no_sync(name)
    write_json(tmp_path / "run.json", {"a": 1})
    append_jsonl(tmp_path / "rows.jsonl", [{"b": 2}])
    assert read_json(tmp_path / "run.json") == {"a": 1}
    assert read_appended(tmp_path / "rows.jsonl") == [{"b": 2}]


def test_a_sync_that_finds_the_disk_full_fails(tmp_path, faults):
    write_json(tmp_path / "run.json", {"a": 1})
    faults.no_sync("ENOSPC")
    with pytest.raises(OSError) as caught:
        write_json(tmp_path / "run.json", {"a": 2})
    assert caught.value.filename == str(tmp_path / "run.json")
    assert left_in(tmp_path) == ["run.json"] and read_json(tmp_path / "run.json") == {"a": 1}


# --- folders


def make_run(folder: Path, text: str = "old") -> Path:
    (folder / "best").mkdir(parents=True)
    (folder / "best/weights.txt").write_text(text)
    write_json(folder / "run.json", {"status": "complete", "text": text, "settings": {}, "inputs": {}})
    return folder


@pytest.mark.parametrize("name", ["EXDEV", "ENOTSUP", "ENOSYS"])
def test_a_folder_moves_where_none_can_be_renamed(name, tmp_path, faults):
    faults.no_folder_rename(name)
    # Nor can modes and times be set there.
    faults.no_links_and_modes("EPERM")
    move_folder(make_run(tmp_path / "run"), tmp_path / "moved")
    assert left_in(tmp_path) == ["moved", "moved/best", "moved/best/weights.txt", "moved/run.json"]
    assert (tmp_path / "moved/best/weights.txt").read_text() == "old"


def test_a_move_that_fails_leaves_the_folder_as_it_was(tmp_path, faults, monkeypatch):
    faults.no_folder_rename("EXDEV")
    run = make_run(tmp_path / "run")
    before = left_in(tmp_path)

    def fail(source, target) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(shutil, "copyfileobj", fail)
    with pytest.raises(OSError):
        move_folder(run, tmp_path / "moved")
    assert left_in(tmp_path) == before


def test_what_makes_a_folder_complete_is_copied_last_and_deleted_first(tmp_path, faults, monkeypatch):
    faults.no_folder_rename("EXDEV")
    run = make_run(tmp_path / "run")
    copied = []
    copy_file = moving._copy_file
    delete = shutil.rmtree

    def copy(source, target) -> None:
        copied.append(source.name)
        copy_file(source, target)

    def delete_later(folder, **settings) -> None:
        assert not (folder / "run.json").exists()
        delete(folder, **settings)

    monkeypatch.setattr(moving, "_copy_file", copy)
    monkeypatch.setattr(shutil, "rmtree", delete_later)
    move_folder(run, tmp_path / "moved")
    assert copied == ["weights.txt", "run.json"]


def test_an_error_that_is_no_missing_ability_is_raised(tmp_path, faults):
    faults.no_folder_rename("EACCES")
    with pytest.raises(PermissionError):
        move_folder(make_run(tmp_path / "run"), tmp_path / "moved")
    assert not (tmp_path / "moved").exists()


RUN = {"settings": {"a": 2}, "inputs": {}, "status": "running"}
NAMES = ("run.json", "train.jsonl", "best")


@pytest.mark.parametrize("name", [None, "EXDEV", "ENOTSUP"])
def test_a_build_is_replaced_where_no_folder_can_be_renamed(name, tmp_path, faults):
    if name:
        faults.no_folder_rename(name)
    run_dir = make_run(tmp_path / "processed")
    state, written = open_replacement(run_dir, RUN, True, names=NAMES)
    assert state == "new" and read_json(run_dir / "run.json")["text"] == "old"
    (written / "train.jsonl").write_text("new")
    close_replacement(written, run_dir, RUN)
    assert left_in(tmp_path) == ["processed", "processed/run.json", "processed/train.jsonl"]


@pytest.mark.parametrize("name", ["EXDEV", "ENOTSUP"])
def test_a_training_is_set_aside_where_no_folder_can_be_renamed(name, tmp_path, faults):
    faults.no_folder_rename(name)
    set_aside(make_run(tmp_path / "sft"), True)
    assert left_in(tmp_path) == [
        ".sft.old",
        ".sft.old/best",
        ".sft.old/best/weights.txt",
        ".sft.old/run.json",
    ]


@pytest.mark.parametrize("cut", ["while copying", "while deleting"])
def test_a_swap_of_copies_that_was_killed_keeps_the_old_data(cut, tmp_path):
    run_dir = make_run(tmp_path / "processed")
    old = make_run(tmp_path / "processed.old")
    # What move_folder leaves of the two at such a moment.
    (old if cut == "while copying" else run_dir).joinpath("run.json").unlink()
    open_replacement(run_dir, RUN, True, names=NAMES)
    assert read_json(run_dir / "run.json")["text"] == "old"
    assert (run_dir / "best/weights.txt").read_text() == "old"
    assert not old.exists()


# --- folders that show new files later


def test_rows_are_complete_before_their_file_shows(tmp_path, faults):
    faults.slow_listing(1000)
    log = ShardLog(tmp_path / "rows.jsonl", {"a": 1}, Shards())
    log.add([{"id": "1"}])
    log.add([{"id": "2"}])
    assert [row["id"] for row in log.finish(lambda row: (row["id"],))] == ["1", "2"]
    assert [row["id"] for row in read_appended(tmp_path / "rows.jsonl")] == ["1", "2"]
    assert not (tmp_path / ".rows.partial-0.jsonl").exists()


def test_features_of_another_process_are_waited_for(tmp_path, faults, monkeypatch):
    faults.slow_listing(0.5)
    reader = FeatureStore(tmp_path)
    FeatureStore(tmp_path).add(["a", "b"], {"features": torch.arange(4.0).reshape(2, 2)})
    monkeypatch.setattr(feature_store, "_WRITTEN", set())
    assert "b" not in FeatureStore(tmp_path)
    reader.look_for(["b"])
    assert reader.read(["b", "a", "b"])["features"].tolist() == [[2, 3], [0, 1], [2, 3]]
    monkeypatch.setattr(feature_store, "_WAIT_SECONDS", 0.2)
    with pytest.raises(StageError, match="does not show all features"):
        reader.look_for(["c"])


def test_features_of_the_same_process_are_known_at_once(tmp_path, faults):
    faults.slow_listing(1000)
    FeatureStore(tmp_path).add(["a", "b"], {"features": torch.arange(4.0).reshape(2, 2)})
    assert FeatureStore(tmp_path).read(["b"])["features"].tolist() == [[2, 3]]
    # Not those that are gone.
    [written] = [path for path in feature_store._WRITTEN if path.parent == tmp_path]
    written.unlink()
    assert "b" not in FeatureStore(tmp_path)


def test_a_checkpoint_that_shows_no_weights_is_not_averaged(tmp_path, faults):
    for step, value in ((2, 1.0), (4, 3.0)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        weights = {"w": torch.full((2,), value)}
        save_file(weights, tmp_path / f"checkpoint-{step}/model.safetensors")
    points = [tmp_path / "checkpoint-2", tmp_path / "checkpoint-4"]
    assert mean_weights(points)["w"].tolist() == [2, 2]
    (points[1] / "model.safetensors").unlink()
    with pytest.raises(StageError, match="checkpoint-4 has no weights"):
        mean_weights(points)
