"""Moved and copied folders go on, a replaced file or model is noticed, and leaked test data is refused."""

import shutil

import pytest

from utils.config import input_path, portable_path
from utils.errors import UsageError
from utils.jsonl import read_json, write_json
from utils.runs import close_run_dir, describe_run, hash_inputs, open_run_dir

SETTINGS = {"output_dir": "sft", "data": {"train_path": "data/train.jsonl", "val_path": "data/val.jsonl"}}


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A function that sets FACTUALITY_HOME to a folder of this name, which may have been moved there."""

    def set_home(name: str):
        monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path / name))
        return tmp_path / name

    for split in ("train", "val"):
        path = tmp_path / f"a/data/{split}.jsonl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"rows of {split}\n")
    set_home("a")
    return set_home


def begin(settings: dict, models: dict | None = None) -> str:
    """`open_run_dir` for a run with these settings in the present home."""
    paths = [input_path(path) for path in settings["data"].values()]
    run = describe_run(settings, hash_inputs(paths), 1, models=models or {})
    output_dir = input_path(settings["output_dir"])
    state = open_run_dir(output_dir, run, False)
    (output_dir / "checkpoint-5").mkdir(exist_ok=True)
    return state


def absolute(home, settings: dict) -> dict:
    """The settings with absolute paths into a home, as a config on a Drive has them."""
    data = {key: str(home / path) for key, path in settings["data"].items()}
    return {"output_dir": str(home / settings["output_dir"]), "data": data}


# --- the same run elsewhere


@pytest.mark.parametrize("how", ["moved", "copied"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_home_that_was_moved_or_copied_is_resumed(place, how, is_absolute):
    home = place("a")
    assert begin(absolute(home, SETTINGS) if is_absolute else SETTINGS) == "new"
    {"moved": shutil.move, "copied": shutil.copytree}[how](home, home.with_name("b"))
    home = place("b")
    assert begin(absolute(home, SETTINGS) if is_absolute else SETTINGS) == "resume"


def test_inputs_are_recorded_relative_to_the_home(place):
    home = place("a")
    assert list(hash_inputs([home / "data/train.jsonl"])) == ["data/train.jsonl"]
    assert portable_path(home.parent / "other.jsonl") == str(home.parent / "other.jsonl")
    # A folder whose name begins like that of the home is not in it.
    assert portable_path(home.with_name("ab") / "x") == str(home.with_name("ab") / "x")


@pytest.mark.parametrize("key", ["a/data/{}.jsonl", "/content/drive/a/data/{}.jsonl", "data/{}.jsonl"])
def test_a_manifest_with_inputs_under_other_paths_is_resumed(place, key):
    home = place("a")
    begin(SETTINGS)
    old = read_json(home / "sft/run.json")
    # An earlier version wrote paths as they were resolved, and no models.
    old["inputs"] = {key.format(split): old["inputs"][f"data/{split}.jsonl"] for split in ("train", "val")}
    del old["models"]
    write_json(home / "sft/run.json", old)
    assert begin(SETTINGS, models={"base": "1f67"}) == "resume"
    (home / "data/val.jsonl").write_text("other rows\n")
    with pytest.raises(UsageError, match="inputs.*val.jsonl"):
        begin(SETTINGS)


def test_a_complete_run_is_complete_elsewhere(place):
    home = place("a")
    begin(SETTINGS)
    close_run_dir(home / "sft", read_json(home / "sft/run.json"))
    shutil.copytree(home, home.with_name("b"))
    place("b")
    assert begin(SETTINGS) == "complete"


# --- other runs


def test_changed_and_swapped_files_are_other_settings(place):
    home = place("a")
    begin(SETTINGS)
    swapped = {"train_path": "data/val.jsonl", "val_path": "data/train.jsonl"}
    with pytest.raises(UsageError, match=r"data.train_path \(was 'data/train.jsonl', now 'data/val.jsonl'\)"):
        begin({**SETTINGS, "data": swapped})
    (home / "data/train.jsonl").write_text("other rows\n")
    with pytest.raises(UsageError, match=r"inputs.data/train.jsonl \(was '\w+', now '\w+'\)"):
        begin(SETTINGS)


def test_a_model_replaced_under_its_path_is_other_settings(place):
    home = place("a")
    settings = {**SETTINGS, "model_name": str(home / "base")}
    assert begin(settings, {"base": "1f67"}) == "new"
    with pytest.raises(UsageError, match=r"models.base \(was '1f67', now '22ab'\)"):
        begin(settings, {"base": "22ab"})
    # Moved with its home, or elsewhere alone: the same model.
    assert begin({**settings, "model_name": "/b/base"}, {"base": "1f67"}) == "resume"
    assert begin({**settings, "model_name": "/c/other"}, {"/c/other": "1f67"}) == "resume"
