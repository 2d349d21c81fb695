"""What a LoRA layer is that adds B A x to a linear layer, and nothing else.

The faster passes of `cpu_layers.py` and `cuda_lora.py` compute no more than that.
"""

from typing import Any

from peft.tuners.lora import LoraLayer
from torch import nn


def is_plain_lora(layer: Any, adapter: str) -> bool:
    """True for an adapter on a linear layer, without a bias of its own and without variants such as DoRA."""
    if not isinstance(layer, LoraLayer) or not isinstance(layer.base_layer, nn.Linear):
        return False
    # Under embeddings and convolutions the adapter has other names.
    return adapter in layer.lora_A and not layer.lora_variant and not layer.lora_bias[adapter]
