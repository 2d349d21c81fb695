"""Training on CPU with fewer passes over the activations: LoRA layers and frozen norms; same sums, same parameters, other order of additions."""

import types
from collections import Counter

import torch
from peft.tuners.lora import Linear as LoraLayer
from torch import nn
from transformers.models.llama.modeling_llama import LlamaRMSNorm
from transformers.models.qwen2.modeling_qwen2 import Qwen2RMSNorm

_NORMS = (LlamaRMSNorm, Qwen2RMSNorm)


class _LoraProduct(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T with W (n_out, n_in) frozen, A (r, n_in) and B (n_out, r) trained (Hu et al., 2022).

    The low-rank product is added into the result of the wide one, forward and backward, where PEFT writes it out, scales it and
    adds it in passes of their own.
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scale):
        rows = x.reshape(-1, x.shape[-1])  # (n_tokens, n_in)
        a = a.to(x.dtype)
        scaled_b = (b * scale).to(x.dtype)
        inner = rows @ a.T  # (n_tokens, r)
        ctx.save_for_backward(rows, inner, weight, a, scaled_b)
        ctx.scale = scale
        return (rows @ weight.T).addmm_(inner, scaled_b.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad):
        rows, inner, weight, a, scaled_b = ctx.saved_tensors
        # (n_tokens, n_out)
        shape = grad.shape
        grad = grad.reshape(-1, grad.shape[-1])
        grad_inner = grad @ scaled_b  # (n_tokens, r)
        grad_x = (
            (grad @ weight).addmm_(grad_inner, a).view(*shape[:-1], -1) if ctx.needs_input_grad[0] else None
        )
        return grad_x, None, (grad_inner.T @ rows).float(), (grad.T @ inner).float() * ctx.scale, None


class _FrozenNorm(torch.autograd.Function):
    """y = w x / sqrt(mean(x^2) + eps) with w frozen (RMSNorm; Zhang and Sennrich, 2019).

    Transformers' own writes out x in float32, its square, the normalised x and that in x's type, and as much again backward.
    """

    @staticmethod
    def forward(ctx, x, weight, eps):
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
        scale = (norm.square() / x.shape[-1] + eps).rsqrt()  # (..., 1), float32
        ctx.save_for_backward(x, weight, scale)
        return torch.mul(x, scale, out=torch.empty_like(x)).mul_(weight)

    @staticmethod
    def backward(ctx, grad):
        x, weight, scale = ctx.saved_tensors
        grad = grad * weight
        along_x = (grad * x).sum(-1, keepdim=True, dtype=torch.float32) * scale.square() / -x.shape[-1]
        return grad.addcmul_(x, along_x.to(x.dtype)).mul_(scale.to(x.dtype)), None, None


def _norm_forward(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    if not (layer.training and x.requires_grad) or layer.weight.dtype != x.dtype:
        return type(layer).forward(layer, x)
    return _FrozenNorm.apply(x, layer.weight, layer.variance_epsilon)


def _lora_forward(layer: LoraLayer, adapter: str, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    if not layer.training or layer.disable_adapters or layer.merged:
        return type(layer).forward(layer, x, *args, **kwargs)
    base = layer.base_layer
    a = layer.lora_A[adapter].weight
    b = layer.lora_B[adapter].weight
    y = _LoraProduct.apply(x.to(base.weight.dtype), base.weight, a, b, layer.scaling[adapter])
    return y if base.bias is None else y + base.bias


def speed_up_layers(model, adapter: str = "default") -> Counter:
    """Give the plain LoRA layers and frozen norms of a PEFT model on CPU the forward passes above, for training. Returns how many of each class.

    Left alone: layers with dropout, quantised bases, variants such as DoRA, norms of other formulas, and models on other devices.
    """
    n_layers = Counter()
    for layer in model.modules():
        if (
            isinstance(layer, LoraLayer)
            and type(layer.base_layer) is nn.Linear
            and layer.base_layer.weight.device.type == "cpu"
        ):
            if layer.lora_variant or not isinstance(layer.lora_dropout[adapter], nn.Identity):
                continue
            layer.forward = lambda x, *args, layer=layer, **kwargs: _lora_forward(
                layer, adapter, x, *args, **kwargs
            )
        elif (
            isinstance(layer, _NORMS) and layer.weight.device.type == "cpu" and not layer.weight.requires_grad
        ):
            layer.forward = types.MethodType(_norm_forward, layer)
        else:
            continue
        n_layers[type(layer)] += 1
    return n_layers
