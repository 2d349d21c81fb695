"""Passes in float16 whose hidden states leave its range (65,504), for cards without bfloat16 (T4, V100).

Gemma adds up the layers' results behind norms with large weights: in the 270 M model of Gemma-3 a hidden
state was 103,821 and the result of a single norm 19,853, but no product of a matrix more than 506. So hidden
states and norms are kept in float32, and autocast computes the products in float16. That model's next-token
probabilities then differ from those of float32 by a KL divergence of at most 4.4e-5 (bfloat16: 2.0e-3), where
plain float16 gave NaN alone. Weights keep their size; caches are in float32, twice as large.
"""

import torch
from torch import nn

from models.hardware import device, say_once

# For messages: what to do where a pass overflows all the same.
OTHER_PRECISIONS = "a card with bfloat16, or the CPU (CUDA_VISIBLE_DEVICES= before the command)"

# By `model_type`: Gemma-2 and Gemma-3, the second also as the text part of a model that reads images.
_OVERFLOWING = {"gemma2", "gemma3", "gemma3_text"}


def leaves_float16(config) -> bool:
    """True for a model whose hidden states are known to leave the range of float16."""
    return bool(_OVERFLOWING & {config.model_type, config.get_text_config().model_type})


def widen_hidden_states(model) -> None:
    """Keep the hidden states of a float16 model in float32; autocast still computes its layers in float16."""
    # The embeddings' output is cast, as all later hidden states take its type: their weights in float32 would
    # take gigabytes.
    model.get_input_embeddings().register_forward_hook(lambda module, inputs, output: output.float())
    # A norm behind a layer would return its product's type, float16, in which a large weight overflows.
    for module in model.modules():
        if type(module).__name__.endswith("RMSNorm"):
            module.register_forward_pre_hook(_widen_input)


def _widen_input(module: nn.Module, inputs: tuple) -> tuple:
    return (inputs[0].float(), *inputs[1:])


def keep_in_range(model) -> None:
    """Let every pass of a float16 model run with wide hidden states, whoever calls it."""
    name = model.config.model_type
    say_once(f"float16: hidden states of {name} models leave its range, so these are kept in float32")
    widen_hidden_states(model)
    # Not a hook: PEFT calls `forward` itself, without those of its base.
    model.forward = torch.autocast(device().type, torch.float16)(model.forward)
