"""LoRA layers on CPU with fewer passes over the activations than PEFT's own: same sums, same parameters, other order of additions."""

import torch
from peft.tuners.lora import Linear as LoraLayer
from torch import nn


class _LoraProduct(torch.autograd.Function):
    """y = x W^T + s (x A^T) B^T with W (n_out, n_in) frozen, A (r, n_in) and B (n_out, r) trained (Hu et al., 2022).

    The low-rank product is added into the result of the wide one, forward and backward, where PEFT writes it out, scales it and
    adds it in passes of their own.
    """

    @staticmethod
    def forward(ctx, x, weight, a, b, scale):
        rows = x.reshape(-1, x.shape[-1])  # (n_tokens, n_in)
        a, scaled_b = a.to(x.dtype), (b * scale).to(x.dtype)
        inner = rows @ a.T  # (n_tokens, r)
        ctx.save_for_backward(rows, inner, weight, a, scaled_b)
        ctx.scale = scale
        return (rows @ weight.T).addmm_(inner, scaled_b.T).view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, grad):
        rows, inner, weight, a, scaled_b = ctx.saved_tensors
        shape, grad = grad.shape, grad.reshape(-1, grad.shape[-1])  # (n_tokens, n_out)
        grad_inner = grad @ scaled_b  # (n_tokens, r)
        grad_x = (grad @ weight).addmm_(grad_inner, a).view(*shape[:-1], -1) if ctx.needs_input_grad[0] else None
        return grad_x, None, (grad_inner.T @ rows).float(), (grad.T @ inner).float() * ctx.scale, None


def _forward(layer: LoraLayer, adapter: str, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
    if not layer.training or layer.disable_adapters or layer.merged:
        return type(layer).forward(layer, x, *args, **kwargs)
    base, a, b = layer.base_layer, layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
    y = _LoraProduct.apply(x.to(base.weight.dtype), base.weight, a, b, layer.scaling[adapter])
    return y if base.bias is None else y + base.bias


def speed_up_lora(model, adapter: str = "default") -> int:
    """Give every plain LoRA layer of a PEFT model on CPU the forward pass above, for training. Returns the number of layers.

    Left alone: layers with dropout, quantised bases, variants such as DoRA, and models on other devices.
    """
    n_layers = 0
    for layer in model.modules():
        if not isinstance(layer, LoraLayer) or type(layer.base_layer) is not nn.Linear or layer.base_layer.weight.device.type != "cpu":
            continue
        if layer.lora_variant or not isinstance(layer.lora_dropout[adapter], nn.Identity):
            continue
        layer.forward = lambda x, *args, layer=layer, **kwargs: _forward(layer, adapter, x, *args, **kwargs)
        n_layers += 1
    return n_layers
