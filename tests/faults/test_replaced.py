"""What --overwrite replaces stays until its successor is complete, and returns if there is none."""

import subprocess

import pytest

from evaluation.predictions import replace_predictions
from models.distributed import hold_output
from preferences.cache_states import claim_cache, complete_cache
from utils.aside import file_aside, note_aside, restore_aside
from utils.errors import UsageError
from utils.jsonl import read_json, write_json, write_jsonl
from utils.moving import move_folder
from utils.runs import close_run_dir, open_run_dir

RUN = {"settings": {"seed": 1}, "inputs": {}, "status": "running"}


class Failure(Exception):
    pass


def finish(folder) -> None:
    open_run_dir(folder, RUN, False)
    (folder / "checkpoint-best").mkdir()
    close_run_dir(folder, RUN)


def test_a_training_that_fails_before_its_first_output_puts_the_old_one_back(tmp_path, capsys):
    folder = tmp_path / "sft"
    finish(folder)
    with pytest.raises(Failure), hold_output(folder):
        assert open_run_dir(folder, RUN, True) == "new"
        (folder / "train_ids.txt").write_text("1")
        assert not (folder / "checkpoint-best").exists()
        raise Failure
    assert (folder / "checkpoint-best").is_dir()
    assert read_json(folder / "run.json")["status"] == "complete"
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]
    assert "is again the run that was to be replaced" in capsys.readouterr().err


def test_after_a_kill_the_next_run_puts_it_back(tmp_path):
    folder = tmp_path / "sft"
    finish(folder)
    assert open_run_dir(folder, RUN, True) == "new"
    assert open_run_dir(folder, RUN, False) == "complete"
    assert (folder / "checkpoint-best").is_dir()


def test_a_training_that_fails_later_keeps_both_until_it_is_complete(tmp_path):
    folder = tmp_path / "sft"
    finish(folder)
    with pytest.raises(Failure), hold_output(folder):
        open_run_dir(folder, RUN, True)
        (folder / "checkpoint-2").mkdir()
        raise Failure
    assert (folder / "checkpoint-2").is_dir() and (tmp_path / ".sft.old/checkpoint-best").is_dir()
    assert open_run_dir(folder, RUN, True) == "resume"
    close_run_dir(folder, RUN)
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


@pytest.mark.parametrize("manifest", ["run.json", "manifest.json"])
def test_a_kill_while_the_old_run_is_deleted_leaves_the_new_one(manifest, tmp_path, capsys):
    folder = tmp_path / "sft"
    write_json(folder / manifest, {**RUN, "status": "complete"})
    write_json(tmp_path / ".sft.old" / manifest, {**RUN, "status": "complete"})
    (tmp_path / ".sft.old/checkpoint-best").mkdir()
    note_aside(folder)
    assert not capsys.readouterr().err
    restore_aside(folder)
    assert [path.name for path in tmp_path.iterdir()] == ["sft"]


def test_an_old_run_that_cannot_be_deleted_is_named(tmp_path, monkeypatch, capsys):
    folder = tmp_path / "sft"
    finish(folder)
    assert open_run_dir(folder, RUN, True) == "new"
    monkeypatch.setattr("utils.aside.shutil.rmtree", lambda path, ignore_errors: None)
    close_run_dir(folder, RUN)
    assert read_json(folder / "run.json")["status"] == "complete"
    assert ".sft.old could not be deleted" in capsys.readouterr().err


def test_candidates_that_could_not_be_generated_again_are_back(tmp_path):
    cache = tmp_path / "abc"
    write_jsonl(cache / "gens_sft.jsonl", [{"id": "1"}])
    complete_cache(cache, RUN)
    with pytest.raises(Failure), hold_output(cache):
        assert not claim_cache(cache, overwrite=True)
        write_json(cache / "manifest.json", RUN)
        raise Failure
    assert claim_cache(cache, overwrite=False)


def test_judgements_that_could_not_be_made_again_are_back(tmp_path):
    path = tmp_path / "judgements.jsonl"
    path.write_text("old")
    with pytest.raises(Failure), file_aside(path, True):
        assert not path.exists()
        raise Failure
    assert path.read_text() == "old"
    with file_aside(path, True):
        path.write_text("new")
    assert path.read_text() == "new"
    with file_aside(path, False):
        assert path.exists()
    assert [found.name for found in tmp_path.iterdir()] == ["judgements.jsonl"]


def test_one_command_brings_back_the_run_that_an_unfinished_one_replaces(tmp_path, capsys):
    folder = tmp_path / "my sft"
    finish(folder)
    other = {**RUN, "settings": {"seed": 2}}
    with pytest.raises(Failure), hold_output(folder):
        open_run_dir(folder, other, True)
        (folder / "checkpoint-2").mkdir()
        raise Failure
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith(f"{folder} is not complete; run it again to resume it. The complete run that it")
    command = said.partition("To have that one back: ")[2]
    # The same without --overwrite: it resumes, and the other settings are still refused.
    assert open_run_dir(folder, other, False) == "resume"
    with pytest.raises(UsageError, match="was made with other settings"), hold_output(folder):
        open_run_dir(folder, RUN, False)
    assert command in capsys.readouterr().err
    subprocess.run(["bash", "-c", command], check=True)
    assert open_run_dir(folder, RUN, False) == "complete"
    assert (folder / "checkpoint-best").is_dir()
    # Nothing is lost: the unfinished one can be resumed under its new name.
    assert open_run_dir(tmp_path / "my sft.unfinished", other, False) == "resume"
    assert {path.name for path in tmp_path.iterdir()} == {"my sft", "my sft.unfinished"}


def test_a_complete_replacement_says_nothing_about_the_old_run(tmp_path, capsys):
    folder = tmp_path / "sft"
    finish(folder)
    with hold_output(folder):
        open_run_dir(folder, RUN, True)
        (folder / "checkpoint-2").mkdir()
        close_run_dir(folder, RUN)
    assert "To have that one back" not in capsys.readouterr().err


def test_a_second_unfinished_run_gets_a_name_of_its_own(tmp_path, capsys):
    folder = tmp_path / "sft"
    (tmp_path / "sft.unfinished").mkdir()
    finish(folder)
    with pytest.raises(Failure), hold_output(folder):
        open_run_dir(folder, RUN, True)
        (folder / "checkpoint-2").mkdir()
        raise Failure
    assert f"mv {folder} {folder}.unfinished-2 && mv {tmp_path}/.sft.old {folder}" in capsys.readouterr().err


# --- a cache in an output


def read_features(folder, name: str) -> None:
    """What train_rm.py writes of the completions that it read."""
    (folder / "features/signature").mkdir(parents=True, exist_ok=True)
    (folder / f"features/signature/{name}").write_text(name)


def features_in(folder) -> list[str]:
    return sorted(path.name for path in (folder / "features/signature").glob("*"))


def killed_after(n_moves: int):
    """`move_folder` that is killed instead of its next move."""
    left = [n_moves]

    def move(source, target):
        if not left[0]:
            raise Failure
        left[0] -= 1
        move_folder(source, target)

    return move


OTHER = {**RUN, "settings": {"seed": 2}}


@pytest.mark.parametrize("is_complete", [True, False])
def test_a_run_that_is_replaced_leaves_its_features_to_the_new_one(is_complete, tmp_path):
    folder = tmp_path / "rm"
    finish(folder)
    read_features(folder, "a")
    if not is_complete:
        write_json(folder / "run.json", RUN)
    assert open_run_dir(folder, OTHER, True) == "new"
    assert features_in(folder) == ["a"] and not (folder / "checkpoint-best").exists()
    close_run_dir(folder, OTHER)
    assert features_in(folder) == ["a"] and [path.name for path in tmp_path.iterdir()] == ["rm"]


def test_a_training_that_fails_while_it_reads_features_puts_the_old_one_back_with_all_of_them(tmp_path):
    folder = tmp_path / "rm"
    finish(folder)
    read_features(folder, "a")
    for name in ("b", "c"):
        with pytest.raises(Failure), hold_output(folder):
            assert open_run_dir(folder, OTHER, True) == "new"
            read_features(folder, name)
            raise Failure
        assert (folder / "checkpoint-best").is_dir() and read_json(folder / "run.json")["settings"][
            "seed"
        ] == 1
    # The next one goes on behind what both have read.
    assert open_run_dir(folder, OTHER, True) == "new" and features_in(folder) == ["a", "b", "c"]


@pytest.mark.parametrize("n_moves", [0, 1])
def test_a_kill_while_a_run_is_set_aside_loses_no_features(n_moves, tmp_path, monkeypatch):
    folder = tmp_path / "rm"
    finish(folder)
    read_features(folder, "a")
    with monkeypatch.context() as patch, pytest.raises(Failure):
        patch.setattr("utils.aside.move_folder", killed_after(n_moves))
        open_run_dir(folder, OTHER, True)
    assert open_run_dir(folder, RUN, False) == "complete"
    assert features_in(folder) == ["a"] and (folder / "checkpoint-best").is_dir()


@pytest.mark.parametrize("n_moves", [0, 1])
def test_a_kill_while_it_is_put_back_loses_none_either(n_moves, tmp_path, monkeypatch):
    folder = tmp_path / "rm"
    finish(folder)
    read_features(folder, "a")
    assert open_run_dir(folder, OTHER, True) == "new"
    with monkeypatch.context() as patch, pytest.raises(Failure):
        patch.setattr("utils.aside.move_folder", killed_after(n_moves))
        restore_aside(folder)
    assert open_run_dir(folder, RUN, False) == "complete"
    assert features_in(folder) == ["a"] and (folder / "checkpoint-best").is_dir()


def test_features_alone_are_no_run_with_other_settings(tmp_path):
    folder = tmp_path / "rm"
    open_run_dir(folder, RUN, False)
    read_features(folder, "a")
    assert open_run_dir(folder, OTHER, False) == "new" and features_in(folder) == ["a"]


# --- an evaluation


def test_old_results_are_never_beside_new_predictions(tmp_path):
    results = tmp_path / "e.json"
    predictions = tmp_path / "e_predictions.jsonl"
    results.write_text("old")
    predictions.write_text("old")

    def rows():
        yield {"id": "1"}
        raise Failure

    # As on a disk that is full: both are the old ones.
    with pytest.raises(Failure):
        replace_predictions(results, predictions, rows())
    assert results.read_text() == predictions.read_text() == "old"
    replace_predictions(results, predictions, [{"id": "1"}])
    assert not results.exists() and predictions.read_text() == '{"id": "1"}\n'
    assert [path.name for path in tmp_path.iterdir()] == ["e_predictions.jsonl"]
