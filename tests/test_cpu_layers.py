"""The CPU's own LoRA layers and norms against those of PEFT and transformers: same loss, same gradients."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model

from models.cpu_layers import speed_up_layers

MODULES = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def lora_model(make_model, kind, **options):
    torch.manual_seed(1)
    model = get_peft_model(
        make_model(kind),
        LoraConfig(r=4, lora_alpha=8, target_modules=MODULES, task_type="CAUSAL_LM", **options),
    )
    for name, parameter in model.named_parameters():
        # B starts as zeros, which would hide the part of A in loss and gradients.
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        # All 1, in Gemma all 0, they would hide what is done with them.
        if "norm" in name:
            parameter.data.add_(torch.randn_like(parameter), alpha=0.3)
    return model.train()


def loss_and_gradients(model):
    ids = torch.arange(3, 43).view(2, 20)
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.item(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


# Qwen2 has biases, Gemma-3 six norms per layer, which multiply by 1 + w. Gemma-2's stay as they are.
@pytest.mark.parametrize("kind, n_norms", [("llama", 2), ("qwen2", 2), ("gemma2", 0), ("gemma3_text", 6)])
def test_loss_and_gradients_are_those_of_peft(make_model, kind, n_norms):
    model = lora_model(make_model, kind)
    fast = copy.deepcopy(model)
    n_layers = model.config.num_hidden_layers
    n_changed = [n_norms * n_layers + 1] * (n_norms > 0) + [7 * n_layers]
    assert sorted(speed_up_layers(fast).values()) == n_changed
    loss, gradients = loss_and_gradients(model)
    fast_loss, fast_gradients = loss_and_gradients(fast)
    assert fast_loss == pytest.approx(loss, rel=1e-6)
    assert torch.allclose(fast_gradients, gradients, rtol=1e-4, atol=1e-7)


def test_an_adapted_layer_takes_no_rows_at_all(make_model):
    model = lora_model(make_model, "llama")
    speed_up_layers(model)
    layer = model.base_model.model.model.layers[0].mlp.up_proj
    x = torch.zeros(1, 0, layer.in_features, requires_grad=True)
    y = layer(x)
    assert y.shape == (1, 0, layer.out_features)
    y.sum().backward()
    assert x.grad.shape == x.shape


@pytest.mark.parametrize("options", [{"lora_dropout": 0.1}, {"use_dora": True}, {"lora_bias": True}])
def test_layers_with_dropout_and_other_variants_are_left_alone(make_model, options):
    changed = speed_up_layers(lora_model(make_model, "llama", **options))
    assert all("Linear" not in layer.__name__ for layer in changed)


@pytest.mark.parametrize("kind", ["llama", "gemma3_text"])
def test_evaluation_computes_as_training_does_and_a_disabled_adapter_is_the_base(make_model, kind):
    model = lora_model(make_model, kind)
    ids = torch.arange(3, 23)[None]
    expected = model.eval()(ids).logits
    with model.disable_adapter():
        base = model(ids).logits
    speed_up_layers(model)
    found = model(ids).logits
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)
    # To the bit: predictions must not depend on whether a model was trained in this process.
    assert torch.equal(model.train()(ids).logits, found)
    with model.disable_adapter():
        torch.testing.assert_close(model(ids).logits, base, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind, lowest", [("llama", 0.5), ("gemma3_text", -0.5)])
def test_a_norm_in_bfloat16_is_about_as_exact_as_that_of_transformers(make_model, kind, lowest):
    torch.manual_seed(0)
    norm = make_model(kind).model.norm.requires_grad_(False).bfloat16()
    norm.weight.uniform_(lowest, lowest + 1.5)
    found = {}
    x = torch.randn(5, 7, len(norm.weight)).bfloat16()
    grad = torch.randn(5, 7, len(norm.weight)).bfloat16()
    layers = {"exact": copy.deepcopy(norm).float(), "theirs": norm, "ours": copy.deepcopy(norm)}
    for name, layer in layers.items():
        if name == "ours":
            speed_up_layers(layer.train())
        row = x.clone().to(layer.weight.dtype).requires_grad_()
        y = layer(row)
        y.backward(grad.to(y.dtype))
        found[name] = torch.cat([y.detach().flatten(), row.grad.flatten()]).float()
    # Both round to bfloat16, each in its own places; the float32 norm is the measure of both.
    errors = {name: (found[name] - found["exact"]).norm() for name in ("theirs", "ours")}
    assert errors["ours"] < 1.5 * errors["theirs"] < 0.01 * found["exact"].norm()
