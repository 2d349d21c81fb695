"""LoRA layers for generation on a GPU: two kernels each beside those of the base, where PEFT starts six.

A pass over a few tokens takes as long as starting its kernels, and PEFT's make it half as long again. Merging
the adapter is no way out in half precision. Rounding the sum to bfloat16 changes an adapter of a fortieth of
the weights' norm by 3%, loses 2% of one ten times smaller (and changes it by 30%), and 60% of one a hundred
times smaller, which is the size that small learning rates give. So the base runs as it is, quantized or not,
and the low-rank product is added into its result. This module does not decide when it is used;
models/hardware.py does.
"""

from typing import Any

import torch
from torch import nn

from models.lora_layers import is_plain_lora


class _FusedForward:
    """y = base(x) + (x A^T) (s B)^T, with A (r, n_in) and s B (n_out, r) in the precision of the pass.

    LoRA (Hu et al., 2022). PEFT copies x to float32, scales the product and adds it in passes of their own.
    """

    def __init__(self, layer: nn.Module, adapter: str):
        # PEFT's attributes, which the type of a module does not name.
        self._layer: Any = layer
        self._adapter = adapter
        self._factors: dict[torch.dtype, tuple[torch.Tensor, torch.Tensor]] = {}

    def _in_precision(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """A^T (n_in, r) and s B^T (r, n_out) in the precision of the pass, as in training."""
        # Training's autocast rounds both factors and their product with x in the same way. The error is a few
        # thousandths of the product, and far below that of the sum.
        if dtype not in self._factors:
            a = self._layer.lora_A[self._adapter].weight
            b = self._layer.lora_B[self._adapter].weight
            scaled_b = b.float() * self._layer.scaling[self._adapter]
            self._factors[dtype] = (a.to(dtype).T, scaled_b.to(dtype).T)
        return self._factors[dtype]

    def __call__(self, x: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        layer = self._layer
        is_special = layer.disable_adapters or layer.merged or args or kwargs
        is_training = layer.training or torch.is_grad_enabled()
        if is_special or is_training or layer.active_adapters != [self._adapter]:
            return type(layer).forward(layer, x, *args, **kwargs)
        y = layer.base_layer(x)
        a, scaled_b = self._in_precision(y.dtype)
        inner = x.reshape(-1, x.shape[-1]).to(y.dtype) @ a  # (n_tokens, r)
        # Autocast makes the product float16 where a quantized base returned float32.
        return y.reshape(-1, y.shape[-1]).addmm_(inner.to(y.dtype), scaled_b).view(y.shape)


def fuse_adapters(model, adapter: str = "default") -> int:
    """Replace the forward passes of plain LoRA layers by those above; returns how many.

    A disabled or merged adapter, another active one, and passes with gradients take PEFT's own forward pass.
    """
    layers = [layer for layer in model.modules() if is_plain_lora(layer, adapter)]
    for layer in layers:
        # On the instance: the class's own forward pass stays reachable.
        layer.forward = _FusedForward(layer, adapter)
    return len(layers)
