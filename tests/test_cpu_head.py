"""The loss of a frozen head, block after block of the vocabulary, is the cross-entropy of its logits."""

import functools

import pytest
import torch
from torch import nn

from models import cpu_head
from models.cpu_head import frozen_head
from models.hardware import token_losses

IDS = torch.tensor([[5, 9, 2, 14, 7, 3, 8, 1], [4, 4, 6, 2, 9, 11, 13, 1]])
TARGETS = torch.tensor([3, 8, 1, 0])


def frozen(make_model, kind: str, dtype=torch.float32):
    """A model of which all but the head (and the embedding, where they are one) is trained."""
    model = make_model(kind).to(dtype).train()
    model.get_output_embeddings().weight.requires_grad_(False)
    return model


def logits_of(model):
    return model(input_ids=IDS).logits[:, [3, 6]].flatten(0, 1)


def losses_and_gradient(losses, model):
    model.zero_grad()
    # Rows count differently, so that their gradients cannot be mixed up.
    (losses * torch.tensor([1.0, 2.0, 0.5, 3.0])).sum().backward()
    return losses.detach(), torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


@pytest.mark.parametrize("kind", ["llama", "qwen2", "gemma3_text"])
@pytest.mark.parametrize("block", [7, 8192])
def test_losses_and_gradients_are_those_of_the_logits(kind, block, make_model, monkeypatch):
    monkeypatch.setattr(cpu_head, "VOCAB_BLOCK", block)
    model = frozen(make_model, kind)
    assert frozen_head(model) is model.get_output_embeddings()
    found, gradient = losses_and_gradient(token_losses(model, lambda: logits_of(model), TARGETS), model)
    plain = nn.functional.cross_entropy(logits_of(model), TARGETS, reduction="none")
    expected, expected_gradient = losses_and_gradient(plain, model)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradient, expected_gradient, rtol=1e-4, atol=1e-6)
    # And without gradients, as in an evaluation.
    with torch.no_grad():
        again = token_losses(model, functools.partial(logits_of, model), TARGETS)
    torch.testing.assert_close(again, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_rounds_no_more_than_the_logits_do(make_model):
    exact = frozen(make_model, "llama")
    half = frozen(make_model, "llama", torch.bfloat16)
    found, gradient = losses_and_gradient(token_losses(half, lambda: logits_of(half), TARGETS), half)
    expected, expected_gradient = losses_and_gradient(
        token_losses(exact, lambda: logits_of(exact), TARGETS), exact
    )
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, rtol=0, atol=0.03)
    distance = (gradient.float() - expected_gradient).norm() / expected_gradient.norm()
    plain = nn.functional.cross_entropy(logits_of(half).float(), TARGETS, reduction="none")
    _, of_logits = losses_and_gradient(plain, half)
    assert distance < 1.1 * (of_logits.float() - expected_gradient).norm() / expected_gradient.norm()


def test_logits_of_the_whole_vocabulary_are_never_made(make_model):
    model = frozen(make_model, "llama")
    shapes = []

    def hidden():
        found = logits_of(model)
        shapes.append(found.shape)
        return found

    token_losses(model, hidden, TARGETS)
    assert shapes == [(4, model.config.hidden_size)]
    # Outside of it the head is itself, after an error too.
    assert logits_of(model).shape == (4, model.config.vocab_size)
    with pytest.raises(ZeroDivisionError):
        token_losses(model, lambda: 1 / 0, TARGETS)
    assert logits_of(model).shape == (4, model.config.vocab_size)


def test_other_heads_keep_their_logits(make_model):
    trained = make_model("llama").train()
    capped = frozen(make_model, "gemma2")
    biased = frozen(make_model, "llama")
    head = biased.get_output_embeddings()
    head.bias = nn.Parameter(torch.randn(head.out_features))
    for model in (trained, capped, biased):
        assert frozen_head(model) is None
        found = token_losses(model, functools.partial(logits_of, model), TARGETS)
        plain = nn.functional.cross_entropy(logits_of(model), TARGETS, reduction="none")
        assert torch.equal(found, plain)


def test_an_adapter_on_the_head_is_not_passed_over(make_model):
    from peft import LoraConfig, get_peft_model

    def adapted(target: str):
        return get_peft_model(make_model("llama"), LoraConfig(target_modules=[target]))

    assert frozen_head(adapted("q_proj")) is not None
    assert frozen_head(adapted("lm_head")) is None
