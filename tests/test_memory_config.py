"""Keys of the SFT config that decide memory and speed: what they take, and what they become."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import Trainer, TrainingArguments

from models.estimate import training_passes
from tests.conftest import ROOT
from training.memory_config import OPTIMIZERS, layers_per_checkpoint
from training.sft_config import DEFAULTS, check_config
from training.trainer import training_arguments
from utils.config import load_config
from utils.errors import UsageError


def read(tmp_path: Path, text: str, *overrides: str) -> dict:
    """The checked config of a YAML text."""
    path = tmp_path / "sft.yaml"
    path.write_text(text)
    config = load_config(path, DEFAULTS, list(overrides))
    check_config(config)
    return config


# --- values


@pytest.mark.parametrize(
    "block, key, value, expected",
    [
        ("training", "gradient_checkpointing", "true", True),
        ("training", "gradient_checkpointing", "{every_n_layers: 2}", {"every_n_layers": 2}),
        ("training", "liger_kernels", "auto", "auto"),
        ("training", "liger_kernels", "false", False),
        ("training", "optim", "paged_adamw_8bit", "paged_adamw_8bit"),
        ("training", "max_grad_norm", "3e-1", 0.3),
        ("training", "max_grad_norm", "0", 0.0),
        ("lora", "use_rslora", "true", True),
        ("lora", "target_modules", "all-linear", "all-linear"),
        ("lora", "target_modules", "[q_proj]", ["q_proj"]),
    ],
)
def test_a_value_means_the_same_in_the_file_and_in_a_flag(block, key, value, expected, tmp_path):
    config = read(tmp_path, f"{block}:\n  {key}: {value}\n")
    assert config[block][key] == expected
    assert read(tmp_path, "{}", f"{block}.{key}={value}") == config


def test_a_key_of_a_second_type_can_be_overridden_in_part_and_as_a_whole(tmp_path):
    text = "training:\n  gradient_checkpointing: {every_n_layers: 2}\n"
    one = read(tmp_path, text, "training.gradient_checkpointing.every_n_layers=3", "training.seed=7")
    assert one["training"]["gradient_checkpointing"] == {"every_n_layers": 3}
    off = read(tmp_path, text, "training.gradient_checkpointing=false")
    assert off["training"]["gradient_checkpointing"] is False


@pytest.mark.parametrize(
    "override, message",
    [
        ("training.gradient_checkpointing={every_n_layer: 2}", "did you mean 'every_n_layers'"),
        ("training.gradient_checkpointing={}", "from 1 on, found {}"),
        ("training.gradient_checkpointing={every_n_layers: 0}", "from 1 on"),
        ("training.gradient_checkpointing={every_n_layers: true}", "from 1 on"),
        ("training.gradient_checkpointing=2", "expected bool, found 2"),
        ("training.optim=paged_adam_8bit", "did you mean 'paged_adamw_8bit'"),
        ("training.optim=galore_adamw", "training.optim: unknown 'galore_adamw'"),
        ("training.max_grad_norm=-1", "max_grad_norm: expected a number above 0"),
        ("training.max_grad_norm=.nan", "max_grad_norm.: expected a finite number"),
        ("training.liger_kernels=on_gpu", "expected auto, true or false"),
        ("lora.use_rslora=1", "expected bool"),
        ("lora.target_modules=q_proj", r"write \[q_proj\] or all-linear"),
        ("lora.target_modules=all_linear", "or all-linear"),
        ("lora.target_modules=[]", r"or all-linear without a list, found \[\]$"),
        ("lora.target_modules=[all-linear]", r"all-linear without a list, found \['all-linear'\]$"),
        ("lora.target_modules=''", "found ''$"),
    ],
)
def test_a_value_that_cannot_work_is_one_line(override, message, tmp_path):
    with pytest.raises(UsageError, match=message) as caught:
        read(tmp_path, "{}", override)
    assert "\n" not in str(caught.value)


def test_four_and_eight_bits_exclude_each_other(tmp_path):
    with pytest.raises(UsageError, match="load_in_4bit and load_in_8bit are both true"):
        read(tmp_path, "load_in_4bit: true", "load_in_8bit=true")


@pytest.mark.parametrize(
    "override, package, command",
    [
        ("training.optim=adamw_8bit", "bitsandbytes", "pip install bitsandbytes"),
        ("training.liger_kernels=true", "liger_kernel", "pip install liger-kernel"),
    ],
)
def test_a_package_that_is_missing_is_named_with_its_command(
    override, package, command, tmp_path, monkeypatch
):
    def find_spec(name: str):
        return None if name == package else object()

    monkeypatch.setattr("training.memory_config.importlib.util.find_spec", find_spec)
    with pytest.raises(UsageError, match=command):
        read(tmp_path, "{}", override)
    # The default asks for nothing.
    read(tmp_path, "{}")


def test_the_checks_need_no_torch():
    code = "import sys, training.sft_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


# --- what they become


def test_defaults_are_those_of_transformers(tmp_path):
    own = TrainingArguments(str(tmp_path), use_cpu=True)
    ours = training_arguments(DEFAULTS, tmp_path, 10)
    assert (ours.optim, ours.max_grad_norm) == (own.optim, own.max_grad_norm)


@pytest.mark.parametrize("value, n_layers", [(False, 0), (True, 1), ({"every_n_layers": 3}, 3)])
def test_checkpointing_reaches_the_trainer(value, n_layers, tmp_path):
    config = {**DEFAULTS, "training": {**DEFAULTS["training"], "gradient_checkpointing": value}}
    arguments = training_arguments(config, tmp_path, 10)
    assert layers_per_checkpoint(value) == n_layers
    assert arguments.gradient_checkpointing == (n_layers > 0)
    if n_layers:
        assert arguments.gradient_checkpointing_kwargs == {"use_reentrant": False, "every_n_layers": n_layers}


def test_a_third_of_the_layers_recomputed_costs_a_third_of_a_pass():
    assert training_passes(False, 1 / 3) == pytest.approx(2 + 1 / 3)
    assert training_passes(True, 0) == 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimizer_learns_here_and_says_at_most_one_line(name, tmp_path, monkeypatch, capsys, recwarn):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("models.hardware._SAID", set())
    config = {**DEFAULTS, "training": {**DEFAULTS["training"], "optim": name, "max_grad_norm": 0.5}}
    arguments = training_arguments(config, tmp_path, 10)
    assert arguments.max_grad_norm == 0.5
    make, settings = Trainer.get_optimizer_cls_and_kwargs(arguments)
    # Wide enough for the 8-bit states, which small weights do without.
    layer = torch.nn.Linear(128, 64)
    before = layer.weight.detach().clone()
    optimizer = make(layer.parameters(), **settings)
    layer(torch.ones(2, 128)).sum().backward()
    optimizer.step()
    assert (layer.weight - before).abs().max() > 0
    # A CPU without bfloat16 has a line of its own.
    said = [line for line in capsys.readouterr().err.splitlines() if not line.startswith("precision:")]
    assert len(said) == name.startswith("paged_")
    assert all("without paging" in line for line in said)
    assert not [warning for warning in recwarn if "Paged" in str(warning.message)]
