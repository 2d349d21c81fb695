"""Liger's kernels (Hsu et al., 2024) for norms, rotary positions and gated layers, in training on CUDA.

Each replaces several passes over the activations by one. Its losses stay off: they compute the logits of
whole rows, and ours those of the completion alone. This module does not decide when it is used;
models/hardware.py does.
"""

import importlib.util

# Names of transformers' models differ (GeGLU in Gemma, SwiGLU in Llama); Liger takes those that a model has.
KERNELS = {
    "rope": True,
    "rms_norm": True,
    "layer_norm": True,
    "swiglu": True,
    "geglu": True,
    "cross_entropy": False,
    "fused_linear_cross_entropy": False,
}


def is_installed() -> bool:
    return importlib.util.find_spec("liger_kernel") is not None


def use_liger_kernels(model) -> str | None:
    """Have the layers of a model, or of the base of an adapter, run Liger's kernels where they are installed.

    Returns why the installed kernels cannot be used; None if they are, or are not installed.
    """
    if not is_installed():
        return None
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    kind = base.config.model_type
    try:
        from liger_kernel.transformers import _apply_liger_kernel_to_instance
        from liger_kernel.transformers.monkey_patch import MODEL_TYPE_TO_APPLY_LIGER_FN

        if kind not in MODEL_TYPE_TO_APPLY_LIGER_FN:
            return f"it has no kernels for {kind} models"
        _apply_liger_kernel_to_instance(model=base, **KERNELS)
    # It raises errors of several types where Triton, transformers or a layer is not as it expects. Layers
    # that it has changed by then compute the same.
    except Exception as error:
        reason = " ".join(str(error).split())
        return f"it fails for {kind} models ({type(error).__name__}: {reason:.100})"
    return None
