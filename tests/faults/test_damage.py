"""Damaged files of finished and unfinished outputs: named, passed over, never used, never "nothing to do".

Each file is deleted, cut in half, and filled with zeros, which leaves its size. No model runs here.
"""

import shutil

import pytest
import torch

import build_data
from models.directories import check_adapter_dir
from models.folders import folder_problem
from preferences.cache_states import claim_cache, complete_cache, read_cached_settings
from preferences.feature_store import FeatureStore
from preferences.reward import RewardHead, load_head, save_head
from tests.faults.damage import DAMAGES
from training.checkpoints import RunFiles
from training.whole import check_finished, checkpoint_damage, mark_whole, newest_checkpoint
from utils.errors import DataError
from utils.jsonl import read_json, sha256_file, write_json, write_jsonl
from utils.runs import close_run_dir

# What a numbered checkpoint of an adapter has.
FILES = (
    *("adapter_config.json", "adapter_model.safetensors", "optimizer.pt", "rng_state.pth", "run.json"),
    *("scheduler.pt", "tokenizer.json", "tokenizer_config.json", "trainer_state.json"),
)
# Read by whoever uses a checkpoint; the rest of a numbered one is for resuming alone.
USED = {name for name in FILES if name.endswith(("json", "safetensors")) and name != "trainer_state.json"}


def write_checkpoint(folder, step: int, names=FILES, **facts) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    for name in names:
        if name.endswith(".json"):
            write_json(folder / name, {"step": step, "base_model_name_or_path": "base"})
        elif name.endswith(".safetensors"):
            save_file({"weight": torch.full((8,), float(step))}, folder / name)
        else:
            (folder / name).write_bytes(b"state %d" % step * 40)
    mark_whole(folder, {"step": step, **facts})


@pytest.fixture
def run_dir(tmp_path):
    """An unfinished training with checkpoints of steps 2 and 4, of which that of step 4 is the best."""
    folder = tmp_path / "run"
    for step in (2, 4):
        write_checkpoint(folder / f"checkpoint-{step}", step)
    model = [name for name in FILES if name.startswith(("adapter", "tokenizer"))]
    write_checkpoint(folder / "checkpoint-best", 4, model, eval_loss=1.5)
    write_json(folder / "run.json", {"status": "running"})
    return folder


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", FILES)
def test_a_run_falls_back_to_the_checkpoint_before_a_damaged_one_and_says_so(name, how, run_dir, capsys):
    DAMAGES[how](run_dir / "checkpoint-4" / name)
    assert newest_checkpoint(run_dir, True, True) == str(run_dir / "checkpoint-2")
    said, resumed = capsys.readouterr().err.splitlines()
    assert f"checkpoint-4 cannot be used ({name} " in said
    assert resumed == f"resuming from {run_dir / 'checkpoint-2'}"


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", sorted(USED))
def test_a_damaged_checkpoint_is_not_used(name, how, run_dir):
    folder = run_dir / "checkpoint-4"
    assert folder_problem(folder) is None
    DAMAGES[how](folder / name)
    with pytest.raises(DataError) as error:
        check_adapter_dir(str(folder))
    assert name in str(error.value) and "\n" not in str(error.value)


def test_what_only_a_resumed_run_reads_is_not_needed_to_use_a_checkpoint(run_dir):
    for name in FILES:
        if name not in USED:
            (run_dir / "checkpoint-4" / name).unlink()
    assert check_adapter_dir(str(run_dir / "checkpoint-4"))


def test_without_a_whole_checkpoint_training_starts_over_or_stops(run_dir, capsys):
    for step in (2, 4):
        (run_dir / f"checkpoint-{step}/optimizer.pt").unlink()
    with pytest.raises(DataError, match="no complete checkpoint"):
        newest_checkpoint(run_dir, True, True)
    assert newest_checkpoint(run_dir, True, False) is None
    assert "training starts from the beginning" in capsys.readouterr().err
    # The best of steps that are taken again is no longer the one to beat.
    assert RunFiles(run_dir, 2, {}).best is None


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer.json", "run.json"])
def test_a_damaged_best_is_restored_or_left_to_the_next_evaluation(name, how, run_dir, capsys):
    best = run_dir / "checkpoint-best"
    DAMAGES[how](best / name)
    assert newest_checkpoint(run_dir, True, False) == str(run_dir / "checkpoint-4")
    said = capsys.readouterr().err
    assert f"({name} " in said
    if name == "run.json":
        # Nothing says of which step it was.
        assert "the best evaluation from here on takes its place" in said
        assert RunFiles(run_dir, 2, {}).best is None
    else:
        assert "restored from checkpoint-4" in said
        assert checkpoint_damage(best) is None and RunFiles(run_dir, 2, {}).best == 1.5


def test_checkpoints_of_an_unknown_run_are_not_taken_for_those_of_a_new_one(run_dir):
    with pytest.raises(DataError, match="has checkpoint-2, checkpoint-4, checkpoint-best, but run.json"):
        newest_checkpoint(run_dir, False, False)
    # Nor by a second try.
    assert not (run_dir / "run.json").exists()


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "tokenizer_config.json", "run.json"])
def test_a_complete_training_with_a_damaged_checkpoint_is_not_done(name, how, run_dir):
    shutil.copytree(run_dir / "checkpoint-best", run_dir / "checkpoint-final")
    close_run_dir(run_dir, {}, best=1.5)
    check_finished(run_dir)
    DAMAGES[how](run_dir / "checkpoint-best" / name)
    with pytest.raises(DataError, match=f"checkpoint-best: {name} .*train it again with --overwrite"):
        check_finished(run_dir)


def test_a_checkpoint_of_an_earlier_version_is_checked_by_its_sizes(run_dir):
    folder = run_dir / "checkpoint-4"
    manifest = read_json(folder / "run.json")
    del manifest["hashes"]
    write_json(folder / "run.json", manifest)
    DAMAGES["zeroed"](folder / "optimizer.pt")
    assert checkpoint_damage(folder) is None
    DAMAGES["cut"](folder / "optimizer.pt")
    assert checkpoint_damage(folder) == "optimizer.pt has 140 of 280 bytes"


# --- builds

FLAGS = "--sample --data-dir data --limit 30 --max-chunks 3 --max-chunk-words 20 --split 0.6,0.2,0.2"


@pytest.fixture
def built(data_home, tmp_path, monkeypatch):
    """The folder of a finished build, in a home of its own."""
    shutil.copytree(data_home / "data", tmp_path / "data")
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    return tmp_path / "data/processed"


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("how", DAMAGES)
def test_a_complete_build_that_lost_a_file_is_not_done(how, split, built, capsys):
    build_data.main(FLAGS.split())
    assert "nothing to do" in capsys.readouterr().out
    DAMAGES[how](built / f"{split}.jsonl")
    with pytest.raises(DataError, match=rf"{split}\.jsonl: is .*run it again with --overwrite"):
        build_data.main(FLAGS.split())
    assert "nothing to do" not in capsys.readouterr().out


def test_a_build_of_an_earlier_version_is_checked_by_the_names_of_its_files(built):
    manifest = read_json(built / "run.json")
    del manifest["outputs"]
    write_json(built / "run.json", manifest)
    build_data.main(FLAGS.split())
    (built / "test.jsonl").unlink()
    with pytest.raises(DataError, match=r"test\.jsonl: is missing"):
        build_data.main(FLAGS.split())


# --- candidates, features, heads


def test_a_complete_cache_that_lost_candidates_is_neither_done_nor_judged(tmp_path):
    data = tmp_path / "val.jsonl"
    write_jsonl(data, [{"id": "1"}])
    settings = {"data_sha256": sha256_file(data)}
    cache = tmp_path / "abc"
    rows = [{"id": str(i), "n": 0} for i in range(4)]
    for name in ("sft", "base"):
        write_jsonl(cache / f"gens_{name}.jsonl", rows)
    complete_cache(cache, {"settings": settings})
    assert claim_cache(cache, False) and read_cached_settings(cache, data) == settings
    # A line that is cut is dropped by whoever reads the file, and a file that is gone is empty.
    for damage in (DAMAGES["cut"], DAMAGES["deleted"]):
        damage(cache / "gens_base.jsonl")
        for use in (lambda: claim_cache(cache, False), lambda: read_cached_settings(cache, data)):
            with pytest.raises(DataError, match=r"gens_base\.jsonl: has . of the 4 candidates"):
                use()


@pytest.mark.parametrize("how", DAMAGES)
def test_features_of_a_damaged_file_are_read_again(how, tmp_path, capsys):
    store = FeatureStore(tmp_path)
    store.add(["a", "b"], {"features": torch.ones(2, 3)})
    [path] = tmp_path.iterdir()
    DAMAGES[how](path)
    assert "a" not in FeatureStore(tmp_path)
    # Of a missing file nothing is known.
    assert ("are read again" in capsys.readouterr().err) == (how != "deleted")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("how", DAMAGES)
@pytest.mark.parametrize("name", ["reward_head.safetensors", "config.json"])
def test_a_damaged_head_scores_nothing(name, how, tmp_path):
    save_head(tmp_path / "best", RewardHead(3), {"score_scale": {}})
    load_head(tmp_path / "best")
    DAMAGES[how](tmp_path / "best" / name)
    with pytest.raises(DataError, match=name):
        load_head(tmp_path / "best")


def test_a_head_with_the_config_of_another_one_scores_nothing(tmp_path):
    save_head(tmp_path / "old", RewardHead(3), {})
    head = RewardHead(3)
    head.mean += 1
    save_head(tmp_path / "new", head, {})
    # A kill between its two files.
    shutil.copy(tmp_path / "new/reward_head.safetensors", tmp_path / "old")
    with pytest.raises(DataError, match="is not what .*config.json was written with"):
        load_head(tmp_path / "old")
