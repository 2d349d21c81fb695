"""The adapter of a model that generates on a GPU: fewer kernels, and the numbers of PEFT up to rounding."""

import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode

from models import hardware
from models.cuda_lora import fuse_adapters
from models.loading import LoadOptions, load_model

TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
IDS = torch.tensor([[2, 9, 10, 11, 30, 7], [2, 40, 41, 42, 8, 6]])


class Kernels(TorchDispatchMode):
    """Counts the operations that compute something; views and allocations start no kernel."""

    NOT_COUNTED = ("view", "transpose", "t", "expand", "slice", "select", "unsqueeze", "permute", "empty")

    def __init__(self):
        super().__init__()
        self.n = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__.removeprefix("_unsafe_")
        self.n += name not in self.NOT_COUNTED
        return func(*args, **(kwargs or {}))


def adapted(base, **settings):
    """A base with a random adapter in float32, as training writes it."""
    torch.manual_seed(0)
    lora = LoraConfig(r=4, lora_alpha=8, target_modules=TARGETS, init_lora_weights=False, **settings)
    model = get_peft_model(base, lora, autocast_adapter_dtype=False)
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            parameter.data = parameter.data.float()
    return model.eval()


@torch.inference_mode()
def logits(model):
    return model(IDS).logits.float()


@torch.no_grad()
def n_kernels(model):
    # Without gradients, but not in inference mode, where operations are not taken apart.
    with Kernels() as kernels:
        model(IDS)
    return kernels.n


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma2"])
def test_an_adapter_costs_two_kernels_per_layer_and_is_as_exact(kind, make_model):
    expected = logits(adapted(make_model(kind).float()))
    model = adapted(make_model(kind).bfloat16())
    of_peft = logits(model)
    with model.disable_adapter():
        n_base = n_kernels(model)
    n_peft = n_kernels(model)
    n_layers = model.config.num_hidden_layers * len(TARGETS)
    assert fuse_adapters(model) == n_layers
    error = (logits(model) - expected).abs().mean()
    # Both round each layer's sum to bfloat16; the rounded factors add little.
    assert error < 1.3 * (of_peft - expected).abs().mean()
    assert n_kernels(model) == n_base + 2 * n_layers
    assert n_peft >= n_base + 5 * n_layers


def test_in_float32_the_sums_are_those_of_peft(make_model):
    model = adapted(make_model("qwen2"))
    expected = logits(model)
    fuse_adapters(model)
    assert torch.allclose(logits(model), expected, atol=1e-4)


def test_the_base_comes_back_to_the_bit_and_gradients_are_those_of_peft(make_model):
    model = adapted(make_model("llama"))
    with model.disable_adapter():
        base = logits(model)
    whole = logits(model)
    before = model(IDS).logits
    fuse_adapters(model)
    with model.disable_adapter():
        assert torch.equal(logits(model), base)
    assert not torch.allclose(whole, base, atol=1e-3)
    assert torch.equal(model(IDS).logits, before)
    model.merge_adapter()
    assert torch.allclose(logits(model), whole, atol=1e-3)


@pytest.mark.parametrize("option", ["load_in_4bit", "load_in_8bit"])
def test_the_adapter_of_a_quantized_base_is_fused_too(option, tiny_gemma_dir):
    pytest.importorskip("bitsandbytes")
    model = adapted(load_model(str(tiny_gemma_dir), LoadOptions(**{option: True})))
    expected = logits(model)
    assert fuse_adapters(model) == model.config.num_hidden_layers * len(TARGETS)
    found = logits(model)
    with model.disable_adapter():
        size = (expected - logits(model)).abs().mean()
    assert (found - expected).abs().mean() < 0.05 * size


def test_variants_of_lora_keep_the_forward_pass_of_peft(make_model):
    model = adapted(make_model("llama"), use_dora=True)
    expected = logits(model)
    assert fuse_adapters(model) == 0
    assert torch.equal(logits(model), expected)


def test_adapters_are_fused_on_a_gpu_alone(make_model, monkeypatch):
    fused = []

    def record(model):
        fused.append(model)
        return fuse_adapters(model)

    monkeypatch.setattr("models.cuda_lora.fuse_adapters", record)
    hardware.speed_up_generation(adapted(make_model("gemma2")), "eager")
    assert not fused
    monkeypatch.setattr(hardware, "has_cuda", lambda: True)
    hardware.speed_up_generation(adapted(make_model("gemma2")), "eager")
    assert len(fused) == 1
    # A model without an adapter has nothing to fuse.
    hardware.speed_up_generation(make_model("gemma2"), "eager")
    assert len(fused) == 1
