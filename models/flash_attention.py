"""FlashAttention 2: why it cannot run a model here, if it cannot, and what to install.

transformers takes its kernels from the package `flash_attn` or, through the package `kernels`, from the hub.
What is chosen in its place is decided in models/hardware.py.
"""

import inspect
from importlib import import_module

# The first compute capability with its kernels: Ampere. T4 has 7.5, V100 has 7.0.
_MIN_CAPABILITY = (8, 0)
# The widest head of its kernels.
_MAX_HEAD_DIM = 256


def largest_head(config) -> int:
    """The size of the widest attention head of a model."""
    text = config.get_text_config()
    sizes = [getattr(text, name, None) or 0 for name in ("head_dim", "global_head_dim")]
    if not any(sizes):
        return getattr(text, "hidden_size", 0) // (getattr(text, "num_attention_heads", None) or 1)
    return max(sizes)


def gpu_fault(config, capability: tuple[int, int] | None) -> str | None:
    """Why its kernels cannot run this model on a GPU of this compute capability; None if they can."""
    # A driver that does not tell gets the benefit of the doubt.
    if capability is not None and capability < _MIN_CAPABILITY:
        found = ".".join(map(str, capability))
        return f"needs compute capability 8.0, this GPU has {found}"
    head = largest_head(config)
    if head > _MAX_HEAD_DIM:
        return f"takes heads of at most {_MAX_HEAD_DIM} dimensions, {config.model_type} has {head}"
    return None


def kernel_fault(is_soft_capped: bool) -> str | None:
    """What is wrong with the installed kernels, and the command against it; None if nothing."""
    from transformers.utils import is_flash_attn_2_available, is_kernels_available

    if not is_flash_attn_2_available():
        if is_flash_attn_2_available(kernels_fallback_ok=True):
            return None
        if is_kernels_available():
            return "the package kernels is installed, but has no FlashAttention 2 for this machine"
        return f"not installed: {install_command()}"
    try:
        function = import_module("flash_attn").flash_attn_func
    # A wheel that was built for another torch: its library cannot be loaded.
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        return f"flash_attn cannot be imported ({reason:.80}); pip uninstall flash-attn, {install_command()}"
    # transformers leaves out what the function does not take, without a word: other scores, other answers.
    if is_soft_capped and "softcap" not in inspect.signature(function).parameters:
        return "this flash_attn does not soft-cap; pip install -U flash-attn"
    return None


def install_command() -> str:
    """The command that installs the kernels, in a version that the installed transformers takes."""
    from transformers.utils import import_utils

    # `~=` excludes the next minor version, as transformers does.
    oldest = getattr(import_utils, "KERNELS_MIN_VERSION", None)
    return f"pip install kernels~={oldest}" if oldest else "pip install kernels"
