"""Training that fills memory or leaves float16 says what to change in one line, and keeps its checkpoints."""

import copy
import math
from types import SimpleNamespace

import pytest
import torch

import train_sft
from tests.test_train_sft import config_text
from training.checkpoints import RunFiles
from training.remedies import remedies
from training.sft_config import DEFAULTS, LOSS
from training.whole import is_whole
from utils.errors import OutOfMemory, StageError
from utils.jsonl import read_json

# What torch's CUDA and CPU allocators, and Python, raise.
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory"),
    MemoryError(),
]


def config_of(**keys):
    """The default config with keys of any block."""
    config = copy.deepcopy(dict(DEFAULTS))
    for key, value in keys.items():
        block = config["training"] if key in config["training"] else config
        assert key in block
        block[key] = value
    return config


@pytest.mark.parametrize(
    "keys, said",
    [
        (
            {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 16},
            "train_batch_size=1 with training.gradient_accumulation_steps=64 (the same loss)",
        ),
        ({}, "training.per_device_train_batch_size is 1 already"),
        (
            {"gradient_checkpointing": False},
            "(2) training.gradient_checkpointing=true or load_in_4bit=true, (3)",
        ),
        (
            {"gradient_checkpointing": {"every_n_layers": 2}, "load_in_4bit": True},
            "=true for every layer (load_in_4bit is",
        ),
        ({"tokens_per_pass": 4096}, "(1) training.tokens_per_pass below 4096, or null with training.per_dev"),
        ({"load_in_4bit": True}, "(2) training.gradient_checkpointing and load_in_4bit are true already"),
        (
            {"load_in_8bit": True},
            "(2) load_in_8bit=false and load_in_4bit=true (training.gradient_checkpoint",
        ),
        (
            {"gradient_checkpointing": {"every_n_layers": 1}},
            "(training.gradient_checkpointing is true already)",
        ),
        ({"full_finetuning": True}, "(2) full_finetuning=false and load_in_4bit=true"),
        ({"max_seq_length": 1536}, "(3) training.max_seq_length below 1536"),
    ],
)
def test_each_remedy_has_its_value_or_is_used_up(keys, said):
    line = remedies(config_of(**keys))
    assert said in line and "\n" not in line
    names = ("train_batch_size", "gradient_checkpointing", "load_in_4bit", "max_seq_length")
    assert all(name in line for name in names)


def test_validation_names_its_own_batch_size():
    line = remedies(config_of(per_device_eval_batch_size=8), in_validation=True)
    assert "training.per_device_eval_batch_size=1 (the same loss)" in line and "train_batch_size" not in line


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("in_validation, step", [(False, 3), (True, 2)])
def test_a_batch_that_does_not_fit_ends_the_run_in_one_line(
    error, in_validation, step, tiny_gemma_dir, home, monkeypatch
):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir))
    row_losses = train_sft.SFTTrainer.row_losses

    def fail_later(self, model, inputs):
        # The validation after step 2, or the step after that, when checkpoint-2 is there.
        is_due = not model.training if in_validation else self.state.global_step == 2
        if is_due and (in_validation or model.training):
            raise error
        return row_losses(self, model, inputs)

    monkeypatch.setattr(train_sft.SFTTrainer, "row_losses", fail_later)
    with pytest.raises(OutOfMemory) as caught:
        train_sft.main(["-c", str(config)])
    what = "validation" if in_validation else "training"
    line = str(caught.value)
    assert line.startswith(
        f"{what} does not fit on this machine in step {step}; try (1) training.per_device_"
    )
    assert "\n" not in line and "--overwrite" in line
    assert caught.value.exit_code == 1
    assert read_json(home / "sft/run.json")["status"] == "running"
    if not in_validation:
        assert is_whole(home / "sft/checkpoint-2") and "checkpoint-2 is kept" in line


def test_a_training_whose_first_loss_is_no_number_ends_in_one_line(tiny_gemma_dir, home, monkeypatch):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir))
    row_losses = train_sft.SFTTrainer.row_losses

    def overflow(self, model, inputs):
        losses, n_items = row_losses(self, model, inputs)
        return losses * torch.nan, n_items

    monkeypatch.setattr(train_sft.SFTTrainer, "row_losses", overflow)
    said = (
        "the training loss is not a number at step 1, before anything was learned: the weights of the model"
    )
    with pytest.raises(StageError, match=said) as caught:
        train_sft.main(["-c", str(config)])
    assert "\n" not in str(caught.value)
    assert not (home / "sft/checkpoint-2").exists()


@pytest.mark.parametrize("fp16, remedy", [(True, "bf16: false"), (False, "lower training.learning_rate")])
def test_a_loss_that_is_no_number_names_what_helps_in_this_precision(fp16, remedy, tmp_path, capsys):
    files = RunFiles(tmp_path, 2, {})
    args = SimpleNamespace(fp16=fp16)
    state = SimpleNamespace(global_step=3, log_history=[{"step": 1, "loss": 0.7}, {"loss": math.nan}])
    # Training may recover from a single one.
    files.on_log(args, state, None, logs={"loss": math.nan})
    files.on_evaluate(args, state, None, metrics={LOSS: math.nan})
    said = capsys.readouterr().err
    assert "not a number at step 3" in said and remedy in said
    state.log_history = [{"loss": math.nan}]
    with pytest.raises(StageError, match=remedy):
        files.on_log(args, state, None, logs={"loss": math.nan})


def test_other_errors_keep_their_traceback(tiny_gemma_dir, home, monkeypatch):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir))

    def fail(self, model, inputs):
        raise RuntimeError("shapes cannot be multiplied")

    monkeypatch.setattr(train_sft.SFTTrainer, "row_losses", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        train_sft.main(["-c", str(config)])
