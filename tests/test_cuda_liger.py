"""Liger's kernels are asked for where they can run, with the names that Liger knows, and never its losses."""

import sys
import types

import pytest
import torch

from models import cuda_liger, hardware
from models.cuda_liger import KERNELS, use_liger_kernels
from models.hardware import speed_up_training
from models.lora import add_lora
from tests.conftest import tiny_config
from training.sft_config import DEFAULTS

# The arguments of liger-kernel 0.8.5 by type of model, read from its source.
_COMMON = ("rope", "cross_entropy", "fused_linear_cross_entropy", "rms_norm")
LIGER = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3", "smollm3"), {*_COMMON, "swiglu"}),
    **dict.fromkeys(("gemma", "gemma2", "gemma3_text"), {*_COMMON, "geglu"}),
    "gemma3": {*_COMMON, "geglu", "layer_norm"},
}


@pytest.fixture
def liger(monkeypatch):
    """A stub of the package; the list of the calls that it got, as (class of the model, arguments)."""
    calls = []

    def apply(model, **kwargs):
        # As the real one, it takes what the function for this type of model has.
        taken = {name: value for name, value in kwargs.items() if name in LIGER[model.config.model_type]}
        calls.append((type(model).__name__, taken))

    names = ("liger_kernel", "liger_kernel.transformers", "liger_kernel.transformers.monkey_patch")
    modules = {name: types.ModuleType(name) for name in names}
    modules[names[1]]._apply_liger_kernel_to_instance = apply
    modules[names[2]].MODEL_TYPE_TO_APPLY_LIGER_FN = LIGER
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(cuda_liger, "is_installed", lambda: True)
    monkeypatch.setattr(hardware, "_SAID", set())
    return calls


@pytest.fixture
def on_cuda(monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: torch.device("cuda", 0))


def make(kind: str):
    from transformers import AutoModelForCausalLM, BloomConfig

    config = BloomConfig(hidden_size=32, n_layer=1, n_head=4) if kind == "bloom" else tiny_config(kind, 50)
    return AutoModelForCausalLM.from_config(config, attn_implementation="eager")


def test_every_kernel_is_one_that_liger_knows():
    assert set(KERNELS) == set().union(*LIGER.values())
    # Its own defaults would replace the forward pass, and with it the logits at the labels alone.
    assert [name for name, is_on in KERNELS.items() if not is_on] == [
        "cross_entropy",
        "fused_linear_cross_entropy",
    ]


@pytest.mark.parametrize("kind, gate", [("gemma2", "geglu"), ("llama", "swiglu"), ("qwen2", "swiglu")])
def test_norms_positions_and_gates_are_replaced_below_the_adapter(kind, gate, liger, on_cuda, capsys):
    model = add_lora(make(kind), DEFAULTS["model_name"], DEFAULTS["lora"])
    assert speed_up_training(model, "eager") is model
    ((name, arguments),) = liger
    assert name == type(model.get_base_model()).__name__
    losses = {"cross_entropy": False, "fused_linear_cross_entropy": False}
    assert arguments == {"rope": True, "rms_norm": True, gate: True, **losses}
    assert capsys.readouterr().err == ""


def test_kernels_stay_away_where_they_are_not_wanted_or_not_installed(liger, on_cuda, monkeypatch):
    model = make("llama")
    speed_up_training(model, "eager", False)
    monkeypatch.setattr(cuda_liger, "is_installed", lambda: False)
    speed_up_training(model, "eager", "auto")
    assert liger == []


@pytest.mark.parametrize("setting, said", [("auto", ""), (True, "for CUDA only")])
def test_a_cpu_trains_without_kernels(setting, said, liger, capsys):
    speed_up_training(make("llama"), "eager", setting)
    notes = capsys.readouterr().err
    assert liger == [] and said in notes and bool(notes) == bool(said)


def test_a_model_that_liger_does_not_know_trains_without_it(liger, on_cuda, capsys):
    model = make("bloom")
    assert speed_up_training(model, "eager") is model
    assert liger == []
    assert "no kernels for bloom models, training without" in capsys.readouterr().err


@pytest.mark.parametrize("error", [ImportError("triton is too old\nmore"), TypeError("another layer")])
def test_a_package_that_fails_costs_one_line(error, liger, on_cuda, monkeypatch, capsys):
    def fail(model, **kwargs):
        raise error

    monkeypatch.setattr(sys.modules["liger_kernel.transformers"], "_apply_liger_kernel_to_instance", fail)
    speed_up_training(make("llama"), "eager")
    notes = capsys.readouterr().err
    assert "fails for llama models" in notes and notes.count("\n") == 1
    assert use_liger_kernels(make("llama")).count("\n") == 0
