"""Weights averaged over the last save points: which, their mean, what becomes the best, and stops."""

import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.test_sft_runs import HISTORY, train, trained_weights, write_config
from training.averaging import load_weights, mean_weights
from training.sft_config import DEFAULTS, check_config
from training.whole import mark_whole, numbered_checkpoints, save_points
from utils.errors import StageError, UsageError
from utils.jsonl import read_json


def test_the_mean_is_uniform_and_over_all_files_of_a_checkpoint(tmp_path):
    for i, value in enumerate((1.0, 2.0, 6.0)):
        folder = tmp_path / f"checkpoint-{i}"
        folder.mkdir()
        save_file({"a": torch.full((2,), value)}, folder / "model-1.safetensors")
        save_file({"b": torch.full((3,), -value)}, folder / "model-2.safetensors")
    mean = mean_weights(sorted(tmp_path.iterdir()))
    assert mean["a"].tolist() == [3.0, 3.0]
    assert mean["b"].tolist() == [-3.0] * 3
    assert mean["a"].dtype == torch.float32


def test_save_points_are_planned_steps_alone(tmp_path):
    # Step 5 was written when the run was stopped, step 7 at the end of an epoch.
    for step in (2, 4, 5, 6, 7, 8, 9):
        (tmp_path / f"checkpoint-{step}").mkdir()
        mark_whole(tmp_path / f"checkpoint-{step}", {"step": step})
    whole = numbered_checkpoints(tmp_path)

    def steps(n_wanted, last_step=9):
        return [int(path.name[11:]) for path in save_points(whole, 2, last_step, n_wanted)]

    assert steps(3) == [6, 8, 9]
    assert steps(3, last_step=12) == [4, 6, 8]
    assert steps(9) == [2, 4, 6, 8, 9]
    assert steps(0) == []


def test_weights_of_another_model_are_refused(make_model):
    with pytest.raises(StageError, match="average_last: the model has no weights named other"):
        load_weights(make_model("llama"), {"other": torch.zeros(1)})


@pytest.mark.parametrize("full", [False, True])
def test_a_run_ends_with_the_mean_of_its_last_points(full, tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=7, eval_steps=3, save_total_limit=1)
    same = ("bf16=false", f"full_finetuning={str(full).lower()}")
    train(config, *same, "training.average_last=3")
    assert "averaged the weights of steps 4, 6, 7" in capsys.readouterr().err
    run = home / "sft"
    steps = [int(path.name[11:]) for path in numbered_checkpoints(run)]
    assert steps == [4, 6, 7]

    name = "model.safetensors" if full else "adapter_model.safetensors"
    parts = [load_file(run / f"checkpoint-{step}" / name) for step in steps]
    final = load_file(run / "checkpoint-final" / name)
    for key, weight in final.items():
        mean = sum(part[key].double() for part in parts) / 3
        assert torch.equal(weight, mean.float())
    assert not all(torch.equal(final[key], parts[-1][key]) for key in final)

    # The last evaluation is that of the mean; the best is the best of all, by its loss.
    metrics = read_json(run / HISTORY)["eval_metrics"]
    assert [m["step"] for m in metrics] == [3, 6, 7, 7]
    assert [m.get("eval_averaged") for m in metrics] == [None, None, None, 3]
    lowest = min(metrics, key=lambda m: m["eval_loss"])
    best = read_json(run / "checkpoint-best/run.json")
    assert best["eval_loss"] == lowest["eval_loss"]
    assert best.get("averaged_steps") == ([4, 6, 7] if "eval_averaged" in lowest else None)
    assert read_json(run / "run.json")["averaged_steps"] == [4, 6, 7]
    assert read_json(run / "checkpoint-final/run.json")["averaged_steps"] == [4, 6, 7]
    # The answers at the end are those of the mean, not of the last step.
    last = read_json(run / "checkpoint-7/run.json")
    assert "averaged_steps" not in last
    assert "val" not in last
    assert "mean of the weights at steps 4, 6, 7" in (run / "checkpoint-final/README.md").read_text()

    # Training itself is untouched.
    if not full:
        train(config, *same, "output_dir=plain")
        weights = trained_weights(home / "plain", "checkpoint-final")
        assert all(torch.equal(weights[key], parts[-1][key]) for key in weights)


def evaluations(run) -> list[tuple]:
    """Of each evaluation, what no clock decides."""
    metrics = read_json(run / HISTORY)["eval_metrics"]
    return [(m["step"], m["eval_loss"], m.get("eval_averaged")) for m in metrics]


def files_of(run) -> dict[str, bytes]:
    paths = [run / "calibration.json"]
    for checkpoint in ("checkpoint-best", "checkpoint-final"):
        paths += [run / checkpoint / "adapter_model.safetensors", run / checkpoint / "run.json"]
    return {str(path): path.read_bytes() for path in paths}


def test_a_run_that_was_cut_ends_with_the_same_mean(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=7, eval_steps=3, save_total_limit=1)
    values = ("bf16=false", "training.average_last=3")
    train(config, *values)
    run = home / "sft"
    straight = files_of(run)
    evaluated = evaluations(run)
    manifest = (run / "run.json").read_text().replace('"complete"', '"running"')

    # Killed in its last step; a stop by signal had left a checkpoint at a step of its own.
    shutil.copytree(run / "checkpoint-4", run / "checkpoint-5")
    (run / "checkpoint-7/run.json").unlink()
    shutil.rmtree(run / "checkpoint-final")
    (run / "run.json").write_text(manifest)
    train(config, *values)
    assert "resuming from" in capsys.readouterr().err
    assert files_of(run) == straight
    assert evaluations(run) == evaluated
    assert [path.name for path in numbered_checkpoints(run)] == [f"checkpoint-{step}" for step in (4, 6, 7)]

    # Killed after its last step, before the mean was written.
    shutil.rmtree(run / "checkpoint-final")
    (run / "run.json").write_text(manifest)
    train(config, *values)
    assert "averaged the weights of steps 4, 6, 7" in capsys.readouterr().err
    assert files_of(run) == straight
    assert evaluations(run) == evaluated


def test_a_run_with_a_single_save_point_averages_nothing(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=2, save_steps=100)
    train(config, "training.average_last=3")
    assert "average_last: 1 save point, so nothing is averaged" in capsys.readouterr().err
    assert "averaged_steps" not in read_json(home / "sft/run.json")


@pytest.mark.parametrize("value", [-1, 1])
def test_a_mean_needs_two_points(value):
    config = {**DEFAULTS, "training": {**DEFAULTS["training"], "average_last": value}}
    with pytest.raises(UsageError, match="average_last: expected 0, or a number of save points from 2 on"):
        check_config(config)


def test_parts_of_weights_are_not_averaged(monkeypatch):
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    config = {**DEFAULTS, "training": {**DEFAULTS["training"], "average_last": 2}}
    with pytest.raises(UsageError, match="average_last: not with FSDP"):
        check_config(config)
