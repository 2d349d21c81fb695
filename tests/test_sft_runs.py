"""Whole runs of train_sft.py on a toy model: several processes, stops, selection, weights, full fine-tuning, merging."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainingArguments

import train_sft
from tests.conftest import ROOT, TWO_PROCESSES, TWO_PROCESSES_ENV
from tests.test_train_sft import config_text, losses
from training.checkpoints import RunFiles, is_whole, mark_whole, numbered_checkpoints
from training.rows import row_weight
from training.run_report import write_history
from training.sampler import TwinSampler
from training.sft_config import DEFAULTS, check_config
from training.trainer import training_arguments
from utils.errors import DataError, UsageError
from utils.jsonl import read_json
from utils.runs import close_run_dir, open_run_dir


@pytest.fixture
def home(data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    return tmp_path


def write_config(home, base, **training):
    path = home / "c.yaml"
    path.write_text(config_text(base, **training))
    return path


def test_two_processes_learn_what_one_with_twice_the_accumulation_learns(tiny_gemma_dir, home, stage):
    config = write_config(home, tiny_gemma_dir, max_steps=3, eval_steps=3, save_steps=3)
    flags = ["--set", "bf16=false", "--set", "training.gradient_checkpointing=true"]
    two = [*TWO_PROCESSES, "train_sft.py", "-c", str(config), *flags, "--set", "output_dir=two"]
    done = stage(*two, home=home, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    # Only one process prints.
    assert done.stderr.count(" supervised and ") == 1
    assert "on 2 processes" in done.stderr
    train_sft.main(
        [
            "-c",
            str(config),
            *flags,
            "--set",
            "output_dir=one",
            "--set",
            "training.gradient_accumulation_steps=2",
        ]
    )
    shared, alone = (read_json(home / name / "training_history.json") for name in ("two", "one"))
    assert read_json(home / "two/calibration.json") == read_json(
        home / "one/calibration.json"
    )  # the answers were shared out
    assert [x["loss"] for x in shared["train_losses"]] == pytest.approx(
        [x["loss"] for x in alone["train_losses"]], rel=1e-4
    )
    assert shared["eval_metrics"][-1]["eval_loss"] == pytest.approx(
        alone["eval_metrics"][-1]["eval_loss"], rel=1e-4
    )
    weights = [
        load_file(home / name / "checkpoint-final/adapter_model.safetensors") for name in ("two", "one")
    ]
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-5) for key in weights[1])
    again = stage(*two, home=home, env=TWO_PROCESSES_ENV)
    assert again.returncode == 0 and "nothing to do" in again.stdout
    other = stage(*two, "--set", "training.seed=9", home=home, env=TWO_PROCESSES_ENV)
    assert other.returncode != 0 and "made with other settings" in other.stderr


FSDP = [
    "-m",
    "accelerate.commands.launch",
    "--config_file",
    "configs/accelerate/fsdp.yaml",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
    "--mixed_precision",
    "no",
    "tests/fsdp_on_cpu.py",
    "train_sft.py",
]


def test_sharded_weights_train_generate_and_save_like_whole_ones(tiny_gemma_dir, home, stage):
    config = write_config(home, tiny_gemma_dir, max_steps=3, eval_steps=3, save_steps=3)
    flags = ["--set", "bf16=false", "--set", "data.max_generated_val_samples=2"]
    done = stage(
        *FSDP, "-c", str(config), *flags, "--set", "output_dir=two", home=home, env=TWO_PROCESSES_ENV
    )
    assert done.returncode == 0, done.stderr[-3000:]
    # Only FSDP saves its own file beside the adapter.
    assert (home / "two/checkpoint-3/pytorch_model_fsdp.bin").is_file() and done.stderr.count(
        "step 3/3: loss"
    ) == 1
    train_sft.main(
        [
            "-c",
            str(config),
            *flags,
            "--set",
            "output_dir=one",
            "--set",
            "training.gradient_accumulation_steps=2",
        ]
    )
    weights = [
        load_file(home / name / "checkpoint-best/adapter_model.safetensors") for name in ("two", "one")
    ]
    assert weights[0].keys() == weights[1].keys() and all(
        torch.allclose(weights[0][key], weights[1][key], atol=1e-5) for key in weights[1]
    )
    assert read_json(home / "two/calibration.json") == read_json(home / "one/calibration.json")


def test_a_signal_to_one_process_stops_all_in_the_same_step_and_sharded_runs_resume(
    tiny_gemma_dir, home, stage
):
    config = write_config(home, tiny_gemma_dir, max_steps=24, eval_steps=1000, save_steps=1000)
    command = [*FSDP, "-c", str(config), "--set", "bf16=false"]
    straight = stage(*command, "--set", "output_dir=straight", home=home, env=TWO_PROCESSES_ENV)
    assert straight.returncode == 0, straight.stderr[-3000:]
    env = {**os.environ, **TWO_PROCESSES_ENV}
    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=ROOT,
        env=env,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("step 4/"):
            [*_, worker] = sorted(
                int(pid)
                for pid in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            )
            os.kill(worker, signal.SIGTERM)
            break
    _, notes = process.communicate(timeout=120)
    *_, saved = numbered_checkpoints(home / "sft")  # those before it are of epochs' ends
    assert (
        process.returncode != 0
        and notes.count(
            f"stopped at step {int(saved.name.removeprefix('checkpoint-'))}; resume with: accelerate launch"
        )
        == 1
    )
    resumed = stage(*command, "--resume", home=home, env=TWO_PROCESSES_ENV)
    assert resumed.returncode == 0 and resumed.stderr.count(f"resuming from {saved}") == 1, resumed.stderr[
        -3000:
    ]
    weights = [
        load_file(home / name / "checkpoint-final/adapter_model.safetensors") for name in ("straight", "sft")
    ]
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_saves_and_prints_the_command_that_goes_on(number, tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=300, eval_steps=1000, save_steps=1000)
    command = [sys.executable, "-u", "train_sft.py", "-c", str(config), "--set", "lora.r=2"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.startswith("step 3/"):
            process.send_signal(number)
            break
    _, notes = process.communicate(timeout=120)
    assert process.returncode == 130
    [saved] = numbered_checkpoints(home / "sft")
    step = int(saved.name.removeprefix("checkpoint-"))
    assert (
        f"stopped at step {step}; resume with: python train_sft.py -c {config} --set lora.r=2 --resume"
        in notes
    )
    assert "eval_loss" not in notes  # whoever asks for a stop does not wait for an evaluation
    resumed = ["-c", str(config), "--set", "lora.r=2", "--resume"]
    process = subprocess.Popen(
        [sys.executable, "-u", "train_sft.py", *resumed], cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    for line in process.stderr:
        if line.startswith(f"step {step + 1}/"):
            break
    process.send_signal(number)
    time.sleep(0.01)
    assert process.wait(timeout=120) == 130


def test_a_loss_that_is_no_number_never_counts_as_the_best_and_the_history_is_written(tmp_path):
    files = RunFiles(tmp_path, 2, {})
    assert not files.is_better(float("nan")) and files.is_better(1.0)
    logs = [{"step": 1, "loss": float("nan")}, {"step": 1, "eval_loss": float("inf"), "eval_net_score": None}]
    history = write_history(logs, {}, tmp_path)
    assert history["train_losses"] == [{"step": 1, "loss": None}] and history["eval_metrics"] == [
        {"step": 1, "eval_loss": None, "eval_net_score": None}
    ]


def test_an_epoch_begun_again_has_its_own_order(tmp_path):
    files = RunFiles(tmp_path, 2, {})
    files.trainer = SimpleNamespace(
        sampler=TwinSampler([f"q{i}" for i in range(4)], [1] * 4, [True] * 4, 0, seed=3, n_blocks=2)
    )
    files.on_epoch_begin(None, SimpleNamespace(epoch=1.25), None)
    assert sorted(files.trainer.sampler) == [4, 5, 6, 7]


def test_an_adapter_is_no_base_for_another(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=1)
    train_sft.main(["-c", str(config)])
    with pytest.raises(UsageError, match="is an adapter, which the new one would replace; merge it first"):
        train_sft.main(
            ["-c", str(config), "--set", "model_name=sft/checkpoint-best", "--set", "output_dir=second"]
        )


def test_one_process_takes_one_of_several_gpus(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu") or 2))
    assert (
        training_arguments(DEFAULTS, tmp_path, 10).n_gpu == 1
        and "found 2 GPUs, using 1" in capsys.readouterr().err
    )


def test_overwrite_goes_on_with_an_unfinished_run_of_the_same_settings(tmp_path):
    run, other = ({"settings": {"seed": seed}, "inputs": {}, "status": "running"} for seed in (1, 2))
    assert open_run_dir(tmp_path / "r", run, True) == "new"
    (tmp_path / "r/checkpoint-5").mkdir()
    assert open_run_dir(tmp_path / "r", run, True) == "resume" and (tmp_path / "r/checkpoint-5").is_dir()
    close_run_dir(tmp_path / "r", run)
    assert (
        open_run_dir(tmp_path / "r", run, False) == "complete"
        and open_run_dir(tmp_path / "r", run, True) == "new"
    )
    assert not (tmp_path / "r/checkpoint-5").exists()
    (tmp_path / "r/checkpoint-5").mkdir()
    assert open_run_dir(tmp_path / "r", other, True) == "new" and not (tmp_path / "r/checkpoint-5").exists()


def test_a_torn_checkpoint_is_ignored(tmp_path):
    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"x" * 100)
        mark_whole(folder, {"step": step})
    assert [p.name for p in numbered_checkpoints(tmp_path)] == ["checkpoint-2", "checkpoint-4"]
    (tmp_path / "checkpoint-4/optimizer.pt").write_bytes(b"x" * 60)
    assert [p.name for p in numbered_checkpoints(tmp_path)] == ["checkpoint-2"]
    (tmp_path / "checkpoint-2/optimizer.pt").unlink()
    assert numbered_checkpoints(tmp_path) == []


def test_generated_val_answers_choose_the_checkpoint_and_stop_early(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=6, eval_steps=1, save_steps=6)
    flags = [
        "--set",
        "data.max_generated_val_samples=4",
        "--set",
        "training.metric_for_best=eval_net_score",
        "--set",
        "training.early_stopping_patience=2",
    ]
    train_sft.main(["-c", str(config), *flags])
    metrics = read_json(home / "sft/training_history.json")["eval_metrics"]
    # A toy model never gets better than its first evaluation (nothing parsable): two more without a gain end the run.
    assert [m["step"] for m in metrics] == [1, 2, 3] and {m["eval_net_score"] for m in metrics} == {-1.0}
    assert {
        "eval_joint_f1",
        "eval_schema_valid_rate",
        "eval_over_refusal_rate",
        "eval_under_refusal_rate",
    } <= metrics[0].keys()
    assert "stopping early: 2 evaluations without a better eval_net_score" in capsys.readouterr().err
    assert read_json(home / "sft/checkpoint-best/run.json")["step"] == 1 and is_whole(
        home / "sft/checkpoint-final"
    )


def test_weights_scale_the_loss_of_their_rows(tiny_gemma_dir, home, samples):
    assert row_weight(samples[0], {samples[0]["source"]: 0.5, "answerable": 3.0, "unanswerable": 3.0}) == 1.5
    config = write_config(home, tiny_gemma_dir, max_steps=1)
    for name, weight in [("plain", 1.0), ("double", 2.0)]:
        both = f"data.weights={{answerable: {weight}, unanswerable: {weight}}}"
        train_sft.main(["-c", str(config), "--set", f"output_dir={name}", "--set", both])
    plain, double = (
        read_json(home / name / "training_history.json")["train_losses"][0]["loss"]
        for name in ("plain", "double")
    )
    assert double == pytest.approx(2 * plain, rel=1e-5)
    with pytest.raises(UsageError, match="no sample is of 'popqaa'; did you mean 'popqa'"):
        train_sft.main(["-c", str(config), "--set", "output_dir=x", "--set", "data.weights={popqaa: 2.0}"])


def test_full_finetuning_writes_a_model_that_loads_alone(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=2)
    train_sft.main(["-c", str(config), "--set", "full_finetuning=true"])
    assert (home / "sft/checkpoint-best/model.safetensors").is_file() and not (
        home / "sft/checkpoint-best/adapter_config.json"
    ).exists()
    assert len(losses(home)) == 2 and "all weights trained" in (home / "sft/README.md").read_text()
    with pytest.raises(UsageError, match="full_finetuning"):
        train_sft.main(
            [
                "-c",
                str(config),
                "--set",
                "output_dir=x",
                "--set",
                "full_finetuning=true",
                "--set",
                "load_in_8bit=true",
            ]
        )


def test_a_merged_checkpoint_answers_like_its_adapter(tiny_gemma_dir, home, tokenizer, capsys):
    from transformers import AutoModelForCausalLM

    from models.loading import LoadOptions, load_model

    config = write_config(home, tiny_gemma_dir, max_steps=2)
    with pytest.raises(DataError, match="no complete checkpoint to merge"):
        train_sft.main(["-c", str(config), "--merge", "merged"])
    train_sft.main(["-c", str(config)])
    capsys.readouterr()
    train_sft.main(["-c", str(config), "--merge", "merged"])
    assert (
        "largest logit gap" in capsys.readouterr().out
        and is_whole(home / "merged")
        and (home / "merged/README.md").is_file()
    )
    merged = AutoModelForCausalLM.from_pretrained(home / "merged")
    assert merged.dtype == torch.bfloat16 and not list((home / "merged").glob("*.bin"))
    ids = torch.arange(5, 40)[None]
    adapter = load_model(str(home / "sft/checkpoint-best"), LoadOptions(bf16=False))
    with torch.inference_mode():
        assert torch.allclose(merged.float()(ids).logits, adapter(ids).logits, atol=0.05)
    with pytest.raises(UsageError, match="not empty"):
        train_sft.main(["-c", str(config), "--merge", "merged"])


def test_the_adapter_needs_no_more_than_peft_and_vllm_read(tiny_gemma_dir, home):
    train_sft.main(["-c", str(write_config(home, tiny_gemma_dir, max_steps=1))])
    adapter = json.loads((home / "sft/checkpoint-best/adapter_config.json").read_text())
    assert (
        adapter["modules_to_save"] is None
        and adapter["peft_type"] == "LORA"
        and adapter["bias"] == "none"
        and not adapter["use_dora"]
    )
    names = load_file(home / "sft/checkpoint-best/adapter_model.safetensors").keys()
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in names)
    card = (home / "sft/README.md").read_text()
    assert "schema_valid_rate" in card and "Data and licences" in card and "Apache-2.0" in card


@pytest.mark.parametrize(
    ("block", "key", "value", "message"),
    [
        ("training", "metric_for_best", "eval_joint_f", "did you mean 'eval_joint_f1'"),
        ("training", "metric_for_best", "eval_joint_f1", "max_generated_val_samples"),
        ("data", "weights", {"fever": -1}, "from 0 on"),
        ("data", "twin_pairs", "near", "adjacent or shuffled"),
        ("data", "max_samples", 0, "data.max_samples: expected a whole number from 1 on"),
        ("data", "max_per_source", "1e3", "data.max_per_source: expected a whole number"),
        ("data", "unanswerable_fraction", "half", "a share from 0 to below 1"),
        ("training", "early_stopping_patience", 1.5, "early_stopping_patience: expected a whole number"),
        ("training", "save_total_limit", 0, "save_total_limit: expected a whole number from 1 on"),
        ("training", "num_train_epochs", 0.0, "must be above 0"),
    ],
)
def test_values_that_no_type_check_sees_are_refused(block, key, value, message):
    config = {**DEFAULTS, block: {**DEFAULTS[block], key: value}}
    with pytest.raises(UsageError, match=message):
        check_config(config)


def test_a_tracker_that_is_not_installed_is_named(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir)
    with pytest.raises(UsageError, match="trackio is not installed; `pip install trackio`"):
        train_sft.main(["-c", str(config), "--set", "training.report_to=trackio"])
