"""LoRA layers and frozen norms on a CPU, with fewer passes over the activations.

The parameters and the sums are those of PEFT and transformers; only the order of the additions differs. This
module does not decide when it is used; models/hardware.py does.
"""

import functools
from collections import Counter
from typing import Any, cast

import torch
from peft.tuners.lora import Linear as LoraLayer
from torch import nn
from transformers.models.gemma3.modeling_gemma3 import Gemma3RMSNorm
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

from models.lora_layers import is_plain_lora

# Only norms with the formula of `_FrozenNorm` or `_FrozenGemmaNorm`.
_NORMS = (LlamaRMSNorm, Qwen2RMSNorm, Gemma3RMSNorm)


class _LoraProduct(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T; W (n_out, n_in) is frozen, A (r, n_in) and B (n_out, r) train.

    LoRA (Hu et al., 2022). The low-rank product is added into the result of the wide one, forward and
    backward; PEFT writes it out, scales it and adds it in three separate passes.
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scale):
        rows = x.reshape(-1, x.shape[-1])  # (n_tokens, n_in)
        a = a.to(x.dtype)
        scaled_b = (b * scale).to(x.dtype)
        inner = rows @ a.T  # (n_tokens, r)
        ctx.save_for_backward(rows, inner, weight, a, scaled_b)
        ctx.scale = scale
        return (rows @ weight.T).addmm_(inner, scaled_b.T).view(*x.shape[:-1], len(weight))

    @staticmethod
    def backward(ctx, grad):
        rows, inner, weight, a, scaled_b = ctx.saved_tensors
        shape = grad.shape
        grad = grad.reshape(-1, grad.shape[-1])  # (n_tokens, n_out)
        grad_inner = grad @ scaled_b  # (n_tokens, r)
        # The input of the first adapted layer may need no gradient, which saves a product as wide as the
        # layer.
        grad_x = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight).addmm_(grad_inner, a).view(*shape[:-1], weight.shape[1])
        # Adapters are float32 whatever the base is, so their gradients are too. `scaled_b` already has the
        # scale, `inner` not.
        grad_a = (grad_inner.T @ rows).float()
        grad_b = (grad.T @ inner).float() * ctx.scale
        return grad_x, None, grad_a, grad_b, None


def _inverse_rms(x: torch.Tensor, eps: float) -> torch.Tensor:
    """1 / sqrt(mean(x^2) + eps): (..., 1), float32."""
    # The sum of squares in float32 without a float32 copy of x.
    norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
    return (norm.square() / x.shape[-1] + eps).rsqrt()


class _FrozenNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + eps) with w frozen (RMSNorm; Zhang and Sennrich, 2019).

    The norm of transformers writes out x in float32, its square, the normalized x and that in the type of x,
    and as much again backward.
    """

    @staticmethod
    def forward(ctx, x, weight, eps):
        scale = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale, out=torch.empty_like(x)).mul_(weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        grad = grad * weight
        # dy/dx has two parts: that of x itself, and that of the scale, which every element of the row shares.
        along_x = (grad * x).sum(-1, keepdim=True, dtype=torch.float32) * scale.square() / -x.shape[-1]
        return grad.addcmul_(x, along_x.to(x.dtype)).mul_(scale.to(x.dtype)), None, None


class _FrozenGemmaNorm(torch.autograd.Function):
    """y = (1 + w) x / sqrt(mean(x^2) + eps) with w frozen, in float32 up to one rounding of the result.

    So does transformers: 1 + w in bfloat16 would lose most of a small w.
    """

    @staticmethod
    def forward(ctx, x, weight, eps):
        weight = 1.0 + weight.float()
        scale = _inverse_rms(x, eps)
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x * scale, weight, out=torch.empty_like(x))

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        grad = grad * weight
        along_x = (grad * x).sum(-1, keepdim=True) * scale.square() / -x.shape[-1]
        return torch.mul(grad.addcmul_(x, along_x), scale, out=torch.empty_like(x)), None, None


def _norm_forward(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if layer.weight.dtype != x.dtype:
        return type(layer).forward(layer, x)
    if isinstance(layer, Gemma3RMSNorm):
        return cast(torch.Tensor, _FrozenGemmaNorm.apply(x, layer.weight, layer.eps))
    return cast(torch.Tensor, _FrozenNorm.apply(x, layer.weight, layer.variance_epsilon))


def _lora_forward(layer: LoraLayer, adapter: str, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    # PEFT's own forward pass handles the rest: several adapters, for example, or rows of different ones.
    if layer.disable_adapters or layer.merged or args or kwargs or layer.active_adapters != [adapter]:
        return type(layer).forward(layer, x, *args, **kwargs)
    base = layer.base_layer
    a = layer.lora_A[adapter].weight
    b = layer.lora_B[adapter].weight
    weight = cast(torch.Tensor, base.weight)
    y = _LoraProduct.apply(x.to(weight.dtype), weight, a, b, layer.scaling[adapter])
    return y if base.bias is None else y + base.bias


def _is_on_cpu(layer: nn.Module) -> bool:
    return cast(torch.Tensor, layer.weight).device.type == "cpu"


def _is_plain_lora(layer: Any, adapter: str) -> bool:
    """True for a plain LoRA layer on a CPU without dropout and quantized weights."""
    if not is_plain_lora(layer, adapter) or type(layer.base_layer) is not nn.Linear:
        return False
    has_dropout = not isinstance(layer.lora_dropout[adapter], nn.Identity)
    return _is_on_cpu(layer.base_layer) and not has_dropout


def _is_frozen_norm(layer: nn.Module) -> bool:
    return isinstance(layer, _NORMS) and _is_on_cpu(layer) and not layer.weight.requires_grad


def speed_up_layers(model, adapter: str = "default") -> Counter:
    """Replace the forward passes of plain LoRA layers and frozen norms on a CPU by those above.

    Left alone: layers with dropout, quantized bases, variants such as DoRA, norms with other formulas, and
    models on other devices. Returns the number of changed layers of each class.
    """
    n_layers: Counter = Counter()
    for layer in model.modules():
        if _is_plain_lora(layer, adapter):
            forward = functools.partial(_lora_forward, layer, adapter)
        elif _is_frozen_norm(layer):
            forward = functools.partial(_norm_forward, layer)
        else:
            continue
        # On the instance: the class's own forward pass stays reachable for what these cannot do.
        layer.forward = forward
        n_layers[type(layer)] += 1
    return n_layers
