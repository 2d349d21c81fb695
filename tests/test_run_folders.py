"""What is no part of a run survives in its folder: --overwrite and a first run refuse such a folder."""

from pathlib import Path

import pytest

from utils.errors import UsageError
from utils.jsonl import write_json
from utils.outputs import check_folder_output
from utils.run_folders import REWARD_NAMES, TRAINED_NAMES, check_new_folder
from utils.runs import close_run_dir, open_run_dir

RUN = {"command": ["train_sft.py"], "settings": {"seed": 1}, "inputs": {}, "status": "running"}
OTHER = {**RUN, "settings": {"seed": 2}}
REWARD = {**OTHER, "command": ["train_rm.py"]}


def finish(folder: Path, run: dict = RUN) -> None:
    """A complete run of train_sft.py."""
    write_json(folder / "run.json", {**run, "status": "complete"})
    for name in ("checkpoint-2", "checkpoint-best", "checkpoint-final"):
        write_json(folder / name / "run.json", {"step": 2, "status": "complete"})
        (folder / name / "adapter_model.safetensors").write_bytes(b"x")
    for name in ("train_ids.txt", "training_history.json", "loss_curve.png", "calibration.json", "README.md"):
        (folder / name).write_text("x")


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def put(folder: Path, name: str) -> None:
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("{}")


# --- a run that replaces another one


@pytest.mark.parametrize("is_complete", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        *("a/run.json", "sft/a/checkpoint-best/adapter_model.safetensors", "data/keep.txt", "keep.txt"),
        *("m/config.json", "train.jsonl", ".git/HEAD", "runs/a/run.json", "best/reward_head.safetensors"),
    ],
)
def test_overwrite_deletes_nothing_that_the_run_did_not_write(name, is_complete, tmp_path):
    folder = tmp_path / "checkpoints"
    finish(folder)
    if not is_complete:
        write_json(folder / "run.json", RUN)
    put(folder, name)
    before = files_in(tmp_path)
    with pytest.raises(UsageError, match=f"{folder} has {name.partition('/')[0]}.* move it away"):
        open_run_dir(folder, OTHER, True, names=TRAINED_NAMES)
    assert files_in(tmp_path) == before


def test_a_run_called_as_a_part_of_another_is_kept_too(tmp_path):
    write_json(tmp_path / "run.json", REWARD)
    finish(tmp_path / "best")
    with pytest.raises(UsageError, match="has best"):
        open_run_dir(tmp_path, {**REWARD, "settings": {}}, True, names=REWARD_NAMES)


def test_a_stage_does_not_replace_the_run_of_another_one(tmp_path):
    finish(tmp_path / "sft")
    policy = {**OTHER, "command": ["train_dpo.py"]}
    with pytest.raises(UsageError, match="has a run of train_sft.py"):
        open_run_dir(tmp_path / "sft", policy, True, names=TRAINED_NAMES)
    with pytest.raises(UsageError, match="has a run of train_sft.py"):
        open_run_dir(tmp_path / "sft", REWARD, True, names=REWARD_NAMES)
    assert (tmp_path / "sft/checkpoint-best/adapter_model.safetensors").is_file()


@pytest.mark.parametrize(
    "name",
    [".DS_Store", "runs/events.out", "report.html", ".checkpoint-best.partial/x", "checkpoint-best.gguf"],
)
def test_what_a_run_and_tools_write_is_in_the_way_of_nothing(name, tmp_path):
    folder = tmp_path / "sft"
    finish(folder)
    put(folder, name)
    assert open_run_dir(folder, RUN, False, names=TRAINED_NAMES) == "complete"
    assert open_run_dir(folder, OTHER, True, names=TRAINED_NAMES) == "new"
    close_run_dir(folder, OTHER)
    assert files_in(tmp_path) == ["sft", "sft/run.json"]


def test_an_unfinished_run_is_resumed_whatever_is_beside_it(tmp_path):
    finish(tmp_path)
    write_json(tmp_path / "run.json", RUN)
    put(tmp_path, "a/run.json")
    for overwrite in (False, True):
        assert open_run_dir(tmp_path, RUN, overwrite, names=TRAINED_NAMES) == "resume"


# --- a first run


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("sft/demo/run.json", "a run"),
        ("prefs/cache/abc/manifest.json", "a run"),
        ("m/config.json", "a model"),
        ("model.safetensors", "a model"),
        ("processed/train.jsonl", "data"),
    ],
)
@pytest.mark.parametrize("names", [TRAINED_NAMES, REWARD_NAMES])
def test_a_first_run_refuses_the_folder_of_something_else(names, name, kind, tmp_path):
    put(tmp_path, name)
    with pytest.raises(UsageError, match=rf"has {kind} in it \({name}\)"):
        open_run_dir(tmp_path, RUN, False, names=names)
    # The next try finds no manifest of its own.
    assert not (tmp_path / "run.json").exists()


def test_a_first_run_takes_a_folder_with_notes(tmp_path):
    for name in ("README.md", "notes.txt", ".DS_Store", "runs/events", "plots/curve.png"):
        put(tmp_path, name)
    assert open_run_dir(tmp_path, RUN, False, names=TRAINED_NAMES) == "new"


def test_checkpoints_of_an_unknown_run_are_left_to_resume(tmp_path):
    finish(tmp_path)
    (tmp_path / "run.json").unlink()
    check_new_folder(tmp_path, TRAINED_NAMES)


def test_the_root_is_no_output():
    with pytest.raises(UsageError, match="root of the file system"):
        check_folder_output(Path("/"))
