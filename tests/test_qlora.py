"""Training on a base in 4 or 8 bits: half precision throughout, and gradients that nothing disturbs."""

import copy
import json

import pytest
import torch

import train_sft
from tests.test_train_sft import losses, write_config_and_data
from training.adapters import load_trainable
from training.memory_config import layers_per_checkpoint
from training.sft_config import DEFAULTS, check_config
from training.trainer import training_arguments
from utils.errors import UsageError
from utils.jsonl import read_json

BITS = ("load_in_4bit", "load_in_8bit")
IDS = torch.arange(5, 25)[None]


@pytest.fixture
def load(tiny_gemma_dir, monkeypatch):
    """A function from keys of the YAML to a trainable toy model, as if this machine had bfloat16."""
    pytest.importorskip("bitsandbytes")
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: True)

    def make(checkpointing: bool | dict, **keys):
        # Of the adapter's first weights.
        torch.manual_seed(0)
        config = copy.deepcopy(DEFAULTS) | {"model_name": str(tiny_gemma_dir), **keys}
        config["training"]["gradient_checkpointing"] = checkpointing
        model = load_trainable(config)
        n_layers = layers_per_checkpoint(checkpointing)
        # As Trainer does at the start of the training.
        if n_layers:
            model.gradient_checkpointing_enable({"use_reentrant": False}, every_n_layers=n_layers)
        return model.train()

    return make


def lora_gradients(model) -> dict[str, torch.Tensor]:
    """Gradients of the adapter after a pass over IDS, as Trainer makes it."""
    model.train().zero_grad()
    # LoRA's dropout is random.
    torch.manual_seed(0)
    with torch.autocast("cpu", torch.bfloat16):
        loss = model(input_ids=IDS, labels=IDS, use_cache=False).loss
    loss.backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def hidden_types(model, autocast: torch.dtype) -> set[torch.dtype]:
    """The types of the embeddings' and of every layer's output in a pass."""
    found = set()

    def record(module, inputs, output):
        found.add((output[0] if isinstance(output, tuple) else output).dtype)

    decoder = model.get_base_model().model
    hooks = [module.register_forward_hook(record) for module in (decoder.embed_tokens, *decoder.layers)]
    with torch.no_grad(), torch.autocast("cpu", autocast):
        assert model(input_ids=IDS, use_cache=False).logits.isfinite().all()
    for hook in hooks:
        hook.remove()
    return found


# --- precision


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("checkpointing", [True, False])
def test_only_the_adapter_of_a_quantized_model_is_float32(bits, checkpointing, load):
    model = load(checkpointing, **{bits: True})
    float32 = [name for name, p in model.named_parameters() if p.dtype == torch.float32]
    assert float32 and all("lora_" in name for name in float32)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trained == float32
    assert hidden_types(model, torch.bfloat16) == {torch.bfloat16}
    # B starts at zero, so only its own gradient is not.
    gradients = lora_gradients(model)
    assert set(gradients) == set(trained)
    assert all(gradient.norm() > 0 for name, gradient in gradients.items() if "lora_B" in name)


def test_hidden_states_of_a_quantized_float16_model_are_float32(load, monkeypatch):
    # Those of Gemma-2 leave the range of float16.
    for module in ("training.adapters", "models.loading"):
        monkeypatch.setattr(f"{module}.choose_dtype", lambda wanted=True: torch.float16)
    model = load(False, load_in_4bit=True)
    assert model.get_input_embeddings().weight.dtype == torch.float16
    assert hidden_types(model, torch.float16) == {torch.float32}


# --- gradients


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("checkpointing", [True, False])
@pytest.mark.parametrize("no_gradients", [torch.no_grad, torch.inference_mode])
def test_gradients_survive_an_evaluation_pass(bits, checkpointing, no_gradients, load):
    # On some CPUs bitsandbytes repacks 4-bit weights in a pass without gradients, and training after it lost
    # most of its gradient.
    model = load(checkpointing, **{bits: True})
    before = lora_gradients(model)
    with no_gradients(), torch.autocast("cpu", torch.bfloat16):
        model.eval()(input_ids=IDS)
    after = lora_gradients(model)
    assert sum(gradient.norm() for gradient in before.values()) > 0
    for name, gradient in before.items():
        assert torch.equal(after[name], gradient), name


@pytest.mark.parametrize("bits", BITS)
@pytest.mark.parametrize("checkpointing", [True, {"every_n_layers": 2}])
def test_checkpointing_recomputes_the_same_gradients(bits, checkpointing, load):
    plain = lora_gradients(load(False, **{bits: True}))
    model = load(checkpointing, **{bits: True})
    # The first of the two layers or both.
    recomputes = [layer.gradient_checkpointing for layer in model.get_base_model().model.layers]
    assert recomputes == [True, checkpointing is True]
    recomputed = lora_gradients(model)
    for name, gradient in plain.items():
        assert torch.allclose(recomputed[name], gradient, rtol=1e-2, atol=1e-6), name


def test_checkpoints_are_not_reentrant_and_ddp_searches_no_unused_weights(tmp_path):
    arguments = training_arguments(DEFAULTS, tmp_path, 10)
    assert arguments.gradient_checkpointing_kwargs["use_reentrant"] is False
    assert arguments.ddp_find_unused_parameters is False


# --- launches


@pytest.mark.parametrize("bits", BITS)
def test_sharding_a_quantized_model_is_refused_in_one_line(bits, monkeypatch):
    config = {**DEFAULTS, bits: True}
    check_config(config)
    # As `accelerate launch` sets it.
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    with pytest.raises(UsageError, match=f"{bits}: FSDP.*; add --set {bits}=false") as caught:
        check_config(config)
    assert "\n" not in str(caught.value)
    check_config({**config, bits: False})


# --- a whole run


def test_a_run_with_paged_8bit_states_resumes_with_the_same_losses(
    tiny_gemma_dir, data_home, tmp_path, monkeypatch
):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = write_config_and_data(tmp_path, data_home, tiny_gemma_dir)
    keys = {
        "load_in_4bit": "true",
        "lora.target_modules": "all-linear",
        "lora.use_rslora": "true",
        "training.optim": "paged_adamw_8bit",
        "training.max_grad_norm": "0.1",
        "training.gradient_checkpointing.every_n_layers": "2",
    }
    flags = ["-c", str(config)]
    for key, value in keys.items():
        flags += ["--set", f"{key}={value}"]
    train_sft.main(flags)
    whole = losses(tmp_path)
    adapter = read_json(tmp_path / "sft/checkpoint-best/adapter_config.json")
    assert adapter["use_rslora"] is True
    assert set(adapter["target_modules"]) == set(DEFAULTS["lora"]["target_modules"])

    # As a kill during the last save leaves it.
    (tmp_path / "sft/checkpoint-4/run.json").unlink()
    manifest = read_json(tmp_path / "sft/run.json")
    (tmp_path / "sft/run.json").write_text(json.dumps({**manifest, "status": "running"}))
    train_sft.main(flags)
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)
