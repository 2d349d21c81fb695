"""Weights in 4 and 8 bits: what bitsandbytes is asked for, and what must not happen to them on a CPU."""

import torch
from transformers import BitsAndBytesConfig

from utils.errors import UsageError


def quantization(
    load_in_4bit: bool, load_in_8bit: bool, compute_dtype: torch.dtype
) -> BitsAndBytesConfig | None:
    """NF4 with double quantization (Dettmers et al., 2023), LLM.int8 (Dettmers et al., 2022), or None."""
    if load_in_4bit and load_in_8bit:
        raise UsageError("load_in_4bit and load_in_8bit are both true; choose one")
    if load_in_4bit:
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=compute_dtype,
        )
    return BitsAndBytesConfig(load_in_8bit=True) if load_in_8bit else None


def keep_4bit_layout(model) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on a CPU with AVX512-BF16."""
    # It repacks them in any pass without gradients, and training passes after that lose most of their
    # gradient (0.50.2; a test compares the norms).
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
