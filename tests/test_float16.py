"""Cards without bfloat16 compute in float16: models that overflow it answer and train."""

import copy
from types import SimpleNamespace

import pytest
import torch
from transformers import AutoModelForCausalLM

from generation.choice import Choice
from generation.likelihood import next_token_logps
from generation.rows import Row, settle
from generation.sampling import Sampling
from generation.transfers import LateLogps
from models.cuda_lora import fuse_adapters
from models.loading import LoadOptions, load_model
from tests.conftest import tiny_config
from tests.test_cuda_lora import adapted
from training.adapters import load_trainable
from training.sft_config import DEFAULTS
from utils.errors import StageError

KINDS = ("gemma2", "gemma3_text")
BITS = ({}, {"load_in_4bit": True}, {"load_in_8bit": True})
ROWS = [[2, *range(5, 17)], [2, *range(5, 12), 40, 41], [2, 7, 8]]


@pytest.fixture
def float16_card(monkeypatch):
    """Until the end of a test this machine has no bfloat16, and computes in float16 as a GPU would."""
    for module in ("models.loading", "training.adapters"):
        monkeypatch.setattr(f"{module}.choose_dtype", choose_float16)


def choose_float16(want_bf16: bool = True) -> torch.dtype:
    return torch.float16 if want_bf16 else torch.float32


def make(kind: str):
    torch.manual_seed(0)
    return AutoModelForCausalLM.from_config(tiny_config(kind, 600), attn_implementation="eager")


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Models whose hidden states leave float16's range, as those of Gemma-3 do: kind -> folder."""
    found = {}
    for kind in KINDS:
        model = make(kind)
        for layer in model.model.layers:
            torch.nn.init.constant_(layer.post_feedforward_layernorm.weight, 4e4)
        found[kind] = str(tmp_path_factory.mktemp("float16") / kind)
        model.save_pretrained(found[kind])
    return found


def logps_of(model) -> torch.Tensor:
    """Log-probabilities of the token after each of ROWS, as the judge reads them: (n_rows, vocab)."""
    found = {}
    for batch in next_token_logps(model, ROWS, 0, 2):
        found |= dict(batch)
    return torch.stack([found[i] for i in range(len(ROWS))])


@pytest.mark.parametrize("kind", KINDS)
def test_in_plain_float16_these_models_answer_nan_alone(kind, folders):
    model = AutoModelForCausalLM.from_pretrained(folders[kind], dtype=torch.float16).eval()
    assert logps_of(model).isnan().all()


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize(
    "dtype, remedy", [(torch.float16, "CUDA_VISIBLE_DEVICES="), (torch.bfloat16, "--attn-impl eager")]
)
def test_logits_that_are_no_numbers_name_what_helps_in_this_precision(temperature, dtype, remedy):
    choice = Choice(torch.full((1, 1, 600), torch.nan, dtype=dtype), Sampling(temperature))
    row = Row(SimpleNamespace(allowed=lambda ids: None, stop=lambda ids: False), torch.Generator())
    late = LateLogps()
    with pytest.raises(StageError, match=remedy):
        settle([row], choice, 4, {1}, late)
        late.fill()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("bits", BITS, ids=str)
def test_a_loaded_model_that_overflows_float16_answers_as_in_float32(kind, bits, folders, float16_card):
    if bits:
        pytest.importorskip("bitsandbytes")
    expected = logps_of(load_model(folders[kind], LoadOptions(bf16=False, **bits)))
    model = load_model(folders[kind], LoadOptions(**bits))
    assert model.get_input_embeddings().weight.dtype == torch.float16
    torch.testing.assert_close(logps_of(model), expected, rtol=0, atol=0.05)


@pytest.mark.parametrize("bits", BITS, ids=str)
def test_its_adapter_is_within_range_too_also_fused(bits, folders, float16_card):
    if bits:
        pytest.importorskip("bitsandbytes")
    expected = logps_of(adapted(load_model(folders["gemma3_text"], LoadOptions(bf16=False, **bits))))
    model = adapted(load_model(folders["gemma3_text"], LoadOptions(**bits)))
    assert (logps_of(model) - expected).abs().max() < 0.05
    assert fuse_adapters(model)
    assert (logps_of(model) - expected).abs().max() < 0.05


def test_a_model_within_range_stays_in_float16(tmp_path, float16_card):
    make("llama").save_pretrained(tmp_path)
    model = load_model(str(tmp_path))
    found = []
    model.model.norm.register_forward_hook(lambda module, inputs, output: found.append(output.dtype))
    assert logps_of(model).isfinite().all()
    assert set(found) == {torch.float16}


@pytest.mark.parametrize("kind", KINDS)
def test_lora_trains_a_model_that_overflows_float16_without_quantized_weights(kind, folders, float16_card):
    config = copy.deepcopy(DEFAULTS) | {"model_name": folders[kind]}
    config["training"]["gradient_checkpointing"] = False
    model = load_trainable(config).train()
    ids = torch.tensor([ROWS[0]])
    # As Trainer runs it.
    with torch.autocast("cpu", torch.float16):
        loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    assert loss.isfinite() and all(gradient.isfinite().all() for gradient in gradients)
    assert any(gradient.norm() > 0 for gradient in gradients)
