"""Whole runs of train_sft.py on a toy model: processes, stops, selection, weights, full training, merging."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerState, TrainingArguments

import train_sft
from models.loading import LoadOptions, load_model
from tests.conftest import ROOT, TWO_PROCESSES, TWO_PROCESSES_ENV
from tests.test_train_sft import config_text, losses
from training.checkpoints import RunFiles
from training.rows import row_weight
from training.run_report import write_history
from training.sampler import RowOrder, TwinSampler
from training.sft_config import DEFAULTS, check_config
from training.stopping import NothingLeft
from training.trainer import training_arguments
from training.whole import is_whole, mark_whole, numbered_checkpoints
from utils.commands import stage_command
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.runs import close_run_dir, open_run_dir

HISTORY = "training_history.json"
ADAPTER = "adapter_model.safetensors"

# Under FSDP on two CPU processes; tests/fsdp_on_cpu.py explains how accelerate is brought to it.
FSDP = [
    *("-m", "accelerate.commands.launch", "--config_file", "configs/accelerate/fsdp.yaml"),
    *("--num_processes", "2", "--main_process_port", "0", "--mixed_precision", "no"),
    *("tests/fsdp_on_cpu.py", "train_sft.py"),
]


def write_config(home, base, **training):
    path = home / "c.yaml"
    path.write_text(config_text(base, **training))
    return path


def overrides(*values: str) -> list[str]:
    """`--set` flags."""
    flags = []
    for value in values:
        flags += ["--set", value]
    return flags


def train(config, *values: str) -> None:
    """A run in this process, with overrides."""
    train_sft.main(["-c", str(config), *overrides(*values)])


def trained_weights(folder, checkpoint: str) -> dict:
    return load_file(folder / checkpoint / ADAPTER)


# --- several processes


def test_two_processes_learn_what_one_with_twice_the_accumulation_learns(tiny_gemma_dir, home, stage):
    config = write_config(home, tiny_gemma_dir, max_steps=3, eval_steps=3, save_steps=3)
    # In float32, where the order of additions moves little. Checkpointing: DDP and a second pass do not mix.
    # Five val rows for two processes: one of them evaluates a row again, which must not count.
    same = ("bf16=false", "training.gradient_checkpointing=true", "data.max_val_samples=5")
    values = overrides(*same, "output_dir=two", "training.per_device_eval_batch_size=1")
    two = [*TWO_PROCESSES, "train_sft.py", "-c", str(config), *values]
    done = stage(*two, home=home, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    # Only one process prints.
    assert done.stderr.count(" supervised and ") == 1
    assert "on 2 processes" in done.stderr
    assert done.stderr.count("step 1/3: loss") == 1
    assert read_json(home / "two/run.json")["tokens_per_second"] > 0

    train(config, *same, "output_dir=one", "training.gradient_accumulation_steps=2")
    shared = read_json(home / "two" / HISTORY)
    alone = read_json(home / "one" / HISTORY)
    # The calibration's answers were shared out, and come together in the order of the samples.
    assert read_json(home / "two/calibration.json") == read_json(home / "one/calibration.json")
    losses_alone = [log["loss"] for log in alone["train_losses"]]
    assert [log["loss"] for log in shared["train_losses"]] == pytest.approx(losses_alone, rel=1e-4)
    last_alone = alone["eval_metrics"][-1]["eval_loss"]
    assert shared["eval_metrics"][-1]["eval_loss"] == pytest.approx(last_alone, rel=1e-4)
    weights = trained_weights(home / "two", "checkpoint-final")
    expected = trained_weights(home / "one", "checkpoint-final")
    assert all(torch.allclose(weights[key], expected[key], atol=1e-5) for key in expected)

    # The first process decides what to do with the directory, and the other hears of it.
    again = stage(*two, home=home, env=TWO_PROCESSES_ENV)
    assert again.returncode == 0
    assert "nothing to do" in again.stdout
    other = stage(*two, *overrides("training.seed=9"), home=home, env=TWO_PROCESSES_ENV)
    assert other.returncode != 0
    assert "made with other settings" in other.stderr


def test_sharded_weights_train_generate_and_save_like_whole_ones(tiny_gemma_dir, home, stage):
    config = write_config(home, tiny_gemma_dir, max_steps=3, eval_steps=3, save_steps=3)
    same = ("bf16=false", "data.max_generated_val_samples=2")
    sharded = [*FSDP, "-c", str(config), *overrides(*same, "output_dir=two")]
    done = stage(*sharded, home=home, env=TWO_PROCESSES_ENV)
    assert done.returncode == 0, done.stderr[-3000:]
    # Only FSDP saves its own file beside the adapter: without it, this run was not sharded.
    assert (home / "two/checkpoint-3/pytorch_model_fsdp.bin").is_file()
    assert done.stderr.count("step 3/3: loss") == 1

    train(config, *same, "output_dir=one", "training.gradient_accumulation_steps=2")
    # A checkpoint once had no weights at all: every process wrote its own share over that of the first.
    weights = trained_weights(home / "two", "checkpoint-best")
    expected = trained_weights(home / "one", "checkpoint-best")
    assert weights.keys() == expected.keys()
    assert all(torch.allclose(weights[key], expected[key], atol=1e-5) for key in expected)
    assert read_json(home / "two/calibration.json") == read_json(home / "one/calibration.json")


# --- stops and resumed runs


def last_child(process: subprocess.Popen) -> int:
    """The process id of the last worker of a launch."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text()
    return max(int(pid) for pid in children.split())


def test_a_signal_to_one_process_stops_all_in_the_same_step_and_sharded_runs_resume(
    tiny_gemma_dir, home, stage
):
    config = write_config(home, tiny_gemma_dir, max_steps=24, eval_steps=1000, save_steps=1000)
    command = [*FSDP, "-c", str(config), *overrides("bf16=false")]
    straight = stage(*command, *overrides("output_dir=straight"), home=home, env=TWO_PROCESSES_ENV)
    assert straight.returncode == 0, straight.stderr[-3000:]

    process = subprocess.Popen(
        [sys.executable, "-u", *command],
        cwd=ROOT,
        env={**os.environ, **TWO_PROCESSES_ENV},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    # Only one worker gets the signal; both must stop, or they would wait for each other.
    for line in process.stderr:
        if line.startswith("step 4/"):
            os.kill(last_child(process), signal.SIGTERM)
            break
    _, notes = process.communicate(timeout=120)
    # The checkpoints before the last one are those of the epochs' ends.
    *_, saved = numbered_checkpoints(home / "sft")
    step = int(saved.name.removeprefix("checkpoint-"))
    assert process.returncode != 0
    assert notes.count(f"stopped at step {step}; resume with: ") == 1
    assert notes.count(f"accelerate.commands.launch --num_processes 2 train_sft.py -c {config}") == 1

    resumed = stage(*command, "--resume", home=home, env=TWO_PROCESSES_ENV)
    assert resumed.returncode == 0, resumed.stderr[-3000:]
    assert resumed.stderr.count(f"resuming from {saved}") == 1, resumed.stderr[-3000:]
    # Bit for bit: weights, optimizer, schedule, random states and the order of the rows all come back.
    weights = trained_weights(home / "straight", "checkpoint-final")
    after_stop = trained_weights(home / "sft", "checkpoint-final")
    assert all(torch.equal(weights[key], after_stop[key]) for key in weights)


def start_run(arguments: list[str], **options) -> subprocess.Popen:
    command = [sys.executable, "-u", "train_sft.py", *arguments]
    return subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True, **options)


def wait_for_step(process: subprocess.Popen, step: int) -> None:
    for line in process.stderr:
        if line.startswith(f"step {step}/"):
            return


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_signal_saves_and_prints_the_command_that_goes_on(number, tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=300, eval_steps=1000, save_steps=1000)
    flags = ["-c", str(config), "--set", "lora.r=2"]
    process = start_run(flags, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.PIPE)
    wait_for_step(process, 3)
    process.send_signal(number)
    _, notes = process.communicate(timeout=120)
    assert process.returncode == 128 + number
    [saved] = numbered_checkpoints(home / "sft")
    step = int(saved.name.removeprefix("checkpoint-"))
    command = stage_command("train_sft.py", *flags, "--resume")
    # One instruction, the last line.
    assert notes.splitlines()[-1] == f"stopped at step {step}; resume with: {command}"
    assert "interrupted" not in notes
    # Whoever stops a run does not wait for an evaluation.
    assert "eval_loss" not in notes

    # A resumed run takes a signal like a new one.
    process = start_run([*flags, "--resume"])
    wait_for_step(process, step + 1)
    process.send_signal(number)
    # Time for the signal to arrive before this test starts to wait.
    time.sleep(0.01)
    assert process.wait(timeout=120) == 128 + number


def test_a_loss_that_is_no_number_never_counts_as_the_best_and_the_history_is_written(tmp_path):
    files = RunFiles(tmp_path, 2, {})
    assert not files.is_better(float("nan"))
    assert files.is_better(1.0)
    # JSON has no NaN and no infinity: null in their place.
    logs = [{"step": 1, "loss": float("nan")}, {"step": 1, "eval_loss": float("inf"), "eval_net_score": None}]
    history = write_history(logs, {}, tmp_path)
    assert history["train_losses"] == [{"step": 1, "loss": None}]
    assert history["eval_metrics"] == [{"step": 1, "eval_loss": None, "eval_net_score": None}]


def test_an_epoch_begun_again_has_its_own_order(tmp_path):
    files = RunFiles(tmp_path, 2, {})
    units = [f"q{i}" for i in range(4)]
    sampler = TwinSampler(units, [1] * 4, [True] * 4, 3, RowOrder(n_blocks=2))
    files.trainer = SimpleNamespace(sampler=sampler)
    # In the middle of the second epoch, several processes once resumed in the order of the first.
    state = TrainerState(epoch=1.25, global_step=5)
    files.on_epoch_begin(SimpleNamespace(eval_steps=100), state, None)
    assert sorted(files.trainer.sampler) == [4, 5, 6, 7]


def test_a_run_that_was_killed_behind_its_last_step_knows_what_its_best_measured(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=2, eval_steps=2)
    train(config, "bf16=false")
    run = home / "sft"
    manifest = read_json(run / "run.json")
    best = read_json(run / "checkpoint-best/run.json")
    assert best["step"] == 2 and best["eval_loss"] > 0
    # A second time, with what the first one wrote.
    for _ in range(2):
        shutil.rmtree(run / "checkpoint-final")
        (run / "run.json").write_text(json.dumps({**manifest, "status": "running"}))
        train(config, "bf16=false")
        assert read_json(run / "checkpoint-best/run.json") == best


def test_an_adapter_is_no_base_for_another(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=1)
    train(config)
    with pytest.raises(UsageError, match="is an adapter, which the new one would replace; merge it first"):
        train(config, "model_name=sft/checkpoint-best", "output_dir=second")


def test_one_process_takes_one_of_several_gpus(tmp_path, monkeypatch, capsys):
    # As transformers counts on a machine with two GPUs: two, until `_n_gpu` is set.
    monkeypatch.setattr(TrainingArguments, "n_gpu", property(lambda self: self.__dict__.get("_n_gpu") or 2))
    assert training_arguments(DEFAULTS, tmp_path, 10).n_gpu == 1
    assert "found 2 GPUs, using 1" in capsys.readouterr().err


# --- directories and checkpoints


def test_overwrite_goes_on_with_an_unfinished_run_of_the_same_settings(tmp_path):
    folder = tmp_path / "r"
    checkpoint = folder / "checkpoint-5"
    run = {"settings": {"seed": 1}, "inputs": {}, "status": "running"}
    other = {**run, "settings": {"seed": 2}}
    assert open_run_dir(folder, run, True) == "new"
    checkpoint.mkdir()
    # Unfinished, same settings: --overwrite keeps hours of training.
    assert open_run_dir(folder, run, True) == "resume"
    assert checkpoint.is_dir()
    close_run_dir(folder, run)
    assert open_run_dir(folder, run, False) == "complete"
    assert open_run_dir(folder, run, True) == "new"
    assert not checkpoint.exists()
    # The complete one stays until the new one is: a killed training must not cost the checkpoint in use.
    kept = tmp_path / ".r.old/checkpoint-5"
    assert kept.is_dir()
    # Unfinished, other settings: nothing in the directory can be used.
    checkpoint.mkdir()
    assert open_run_dir(folder, other, True) == "new"
    assert not checkpoint.exists() and kept.is_dir()
    close_run_dir(folder, other)
    assert not kept.exists() and [path.name for path in tmp_path.iterdir()] == ["r"]


def test_a_torn_checkpoint_is_ignored(tmp_path):
    def found():
        return [path.name for path in numbered_checkpoints(tmp_path)]

    for step in (2, 4):
        folder = tmp_path / f"checkpoint-{step}"
        folder.mkdir()
        (folder / "optimizer.pt").write_bytes(b"x" * 100)
        mark_whole(folder, {"step": step})
    assert found() == ["checkpoint-2", "checkpoint-4"]
    # Cut short.
    (tmp_path / "checkpoint-4/optimizer.pt").write_bytes(b"x" * 60)
    assert found() == ["checkpoint-2"]
    # Without this file, transformers would resume in silence with a new optimizer.
    (tmp_path / "checkpoint-2/optimizer.pt").unlink()
    assert found() == []


# --- what a run learns and writes


def test_generated_val_answers_choose_the_checkpoint_and_stop_early(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=6, eval_steps=1, save_steps=6)
    train(
        config,
        "data.max_generated_val_samples=4",
        "training.metric_for_best=eval_net_score",
        "training.early_stopping_patience=2",
    )
    metrics = read_json(home / "sft/training_history.json")["eval_metrics"]
    # A toy model never gets better than its first evaluation (nothing parsable): two more without a gain end
    # the run.
    assert [m["step"] for m in metrics] == [1, 2, 3]
    assert {m["eval_net_score"] for m in metrics} == {-1.0}
    names = {"eval_joint_f1", "eval_schema_valid_rate", "eval_over_refusal_rate", "eval_under_refusal_rate"}
    assert names <= metrics[0].keys()
    assert "stopping early: 2 evaluations without a better eval_net_score" in capsys.readouterr().err
    assert read_json(home / "sft/checkpoint-best/run.json")["step"] == 1
    assert is_whole(home / "sft/checkpoint-final")


def test_a_run_that_was_cut_behind_an_early_stop_trains_no_further(tmp_path):
    files = RunFiles(tmp_path, 2, {}, "eval_net_score", 1, None)
    state = TrainerState(log_history=[{"eval_net_score": 0.5, "step": 1}, {"eval_net_score": 0.4, "step": 2}])
    with pytest.raises(NothingLeft):
        files.on_train_begin(None, state, None)
    state.log_history.pop()
    files.on_train_begin(None, state, None)


def test_a_metric_that_no_val_sample_can_measure_is_refused_before_the_training(tiny_gemma_dir, home):
    rows = [row for _, row in read_jsonl(home / "data/processed/val.jsonl")]
    config = write_config(home, tiny_gemma_dir, max_steps=2)
    for is_answerable, lacking in ((True, "unanswerable"), (False, "answerable")):
        write_jsonl(home / "one.jsonl", [row for row in rows if row["answerable"] is is_answerable])
        with pytest.raises(UsageError, match=f"eval_refusal_f1 needs {lacking} samples"):
            train(
                config,
                "data.val_path=one.jsonl",
                "data.max_generated_val_samples=4",
                "training.metric_for_best=eval_refusal_f1",
            )


def test_what_would_upload_nothing_is_refused(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir)
    with pytest.raises(UsageError, match="--push-to-hub uploads a training"):
        train_sft.main(["-c", str(config), "--merge", "m", "--push-to-hub", "owner/name"])
    with pytest.raises(UsageError, match="--public says how --push-to-hub uploads"):
        train_sft.main(["-c", str(config), "--public"])
    with pytest.raises(UsageError, match="--calibrate trains nothing"):
        train_sft.main(["-c", str(config), "--calibrate", "--resume"])


def test_a_plan_of_what_trains_nothing_says_what_it_would_write(tiny_gemma_dir, home, capsys):
    config = write_config(home, tiny_gemma_dir)
    for flags, said in (
        (["--merge", "m"], f"would write {home / 'm'}, and compare"),
        (["--calibrate"], "val samples with each decision, and add the fit to"),
    ):
        train_sft.main(["-c", str(config), *flags, "--dry-run"])
        out = capsys.readouterr().out
        assert said in out and "would train" not in out and "checkpoint-best does not exist yet" in out


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--merge", ""], "--merge needs the name of a folder"),
        (["--merge", "data"], "the directory is not empty; name a new one"),
        (["--merge", "m", "--limit", "3"], "--limit is of a training, and --merge trains nothing"),
        (["--calibrate", "--allow-test"], "--allow-test is of a training, and --calibrate trains"),
        (["--export", "gguf", "--overwrite"], "--overwrite is of trainings and --calibrate"),
    ],
)
@pytest.mark.parametrize("plan", [[], ["--dry-run"]])
def test_what_a_finished_run_would_ignore_is_refused(flags, message, plan, tiny_gemma_dir, home):
    with pytest.raises(UsageError, match=message):
        train_sft.main(["-c", str(write_config(home, tiny_gemma_dir)), *flags, *plan])


@pytest.mark.parametrize(
    "override, message",
    [
        ("lora.first_layer=9", "lora.first_layer: 9, but the layers of .* are 0 to 1"),
        ("data.train_path=data/processed", "is a folder|directory"),
    ],
)
def test_a_plan_refuses_what_the_run_would(override, message, tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir)
    with pytest.raises((UsageError, DataError), match=message):
        train_sft.main(["-c", str(config), "--set", override, "--dry-run"])


def test_rows_without_a_twin_come_first_by_their_units(tiny_gemma_dir):
    data = {**DEFAULTS["data"], "answerable_first": 0.1, "twin_pairs": "shuffled"}
    with pytest.raises(UsageError, match="data.answerable_first: rows without a twin"):
        check_config({**DEFAULTS, "data": data})


def test_weights_scale_the_loss_of_their_rows(tiny_gemma_dir, home, samples):
    weights = {samples[0]["source"]: 0.5, "answerable": 3.0, "unanswerable": 3.0}
    assert row_weight(samples[0], weights) == 1.5
    config = write_config(home, tiny_gemma_dir, max_steps=1)
    for name, weight in [("plain", 1.0), ("double", 2.0)]:
        both = f"data.weights={{answerable: {weight}, unanswerable: {weight}}}"
        train(config, f"output_dir={name}", both)
    plain, double = (read_json(home / name / HISTORY)["train_losses"][0] for name in ("plain", "double"))
    # Doubled, not the same: weights are in the numerator of the mean only.
    assert double["loss"] == pytest.approx(2 * plain["loss"], rel=1e-5)
    with pytest.raises(UsageError, match="no sample is of 'popqaa'; did you mean 'popqa'"):
        train(config, "output_dir=x", "data.weights={popqaa: 2.0}")


def test_full_finetuning_writes_a_model_that_loads_alone(tiny_gemma_dir, home):
    config = write_config(home, tiny_gemma_dir, max_steps=2)
    train(config, "full_finetuning=true")
    assert (home / "sft/checkpoint-best/model.safetensors").is_file()
    assert not (home / "sft/checkpoint-best/adapter_config.json").exists()
    assert len(losses(home)) == 2
    assert "all weights trained" in (home / "sft/README.md").read_text()
    # Quantized weights are frozen, so there would be nothing to train.
    with pytest.raises(UsageError, match="full_finetuning"):
        train(config, "output_dir=x", "full_finetuning=true", "load_in_8bit=true")


def test_a_merged_checkpoint_answers_like_its_adapter(tiny_gemma_dir, home, tokenizer, capsys):
    config = write_config(home, tiny_gemma_dir, max_steps=2)
    with pytest.raises(DataError, match="no complete checkpoint to merge"):
        train_sft.main(["-c", str(config), "--merge", "merged"])
    train(config)
    capsys.readouterr()
    train_sft.main(["-c", str(config), "--merge", "merged"])
    assert "largest logit gap" in capsys.readouterr().out
    assert is_whole(home / "merged")
    assert (home / "merged/README.md").is_file()

    # With transformers alone, as a server that knows nothing of this project loads it.
    merged = AutoModelForCausalLM.from_pretrained(home / "merged")
    assert merged.dtype == torch.bfloat16
    assert not list((home / "merged").glob("*.bin"))
    ids = torch.arange(5, 40)[None]
    adapter = load_model(str(home / "sft/checkpoint-best"), LoadOptions(bf16=False))
    # The gap is the rounding of merged weights to bfloat16.
    with torch.inference_mode():
        assert torch.allclose(merged.float()(ids).logits, adapter(ids).logits, atol=0.05)
    with pytest.raises(UsageError, match="not empty"):
        train_sft.main(["-c", str(config), "--merge", "merged"])


def test_the_adapter_needs_no_more_than_peft_and_vllm_read(tiny_gemma_dir, home):
    train(write_config(home, tiny_gemma_dir, max_steps=1))
    adapter = read_json(home / "sft/checkpoint-best/adapter_config.json")
    # vLLM takes no adapter with extra modules, biases or DoRA.
    assert adapter["modules_to_save"] is None
    assert adapter["peft_type"] == "LORA"
    assert adapter["bias"] == "none"
    assert not adapter["use_dora"]
    names = load_file(home / "sft/checkpoint-best/adapter_model.safetensors").keys()
    assert all(name.endswith(("lora_A.weight", "lora_B.weight")) for name in names)
    card = (home / "sft/README.md").read_text()
    assert "schema_valid_rate" in card
    assert "Data and licences" in card
    assert "Apache-2.0" in card


# --- the checks of the config


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
        train(config, "training.report_to=trackio")
