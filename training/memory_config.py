"""Checks of the YAML keys that decide the memory and the speed of training, before torch is imported.

It knows what a key may be, not what the device makes of it.
"""

import importlib.util

from utils.config import check_keys, nearest
from utils.errors import UsageError
from utils.launch import trains_sharded

# Keys that take values of two types.
SECOND_TYPES: dict[str, type] = {
    "lora.target_modules": str,
    "training.gradient_checkpointing": dict,
    "training.liger_kernels": bool,
}
# Values of `optim`: those of transformers that need torch alone, and those of bitsandbytes.
_TORCH_OPTIMIZERS = ("adamw_torch_fused", "adamw_torch", "adafactor", "sgd", "adagrad", "rmsprop")
_BITSANDBYTES_OPTIMIZERS = (
    *("adamw_8bit", "adamw_bnb_8bit", "paged_adamw_8bit", "paged_adamw_32bit"),
    *("ademamix", "ademamix_8bit", "paged_ademamix_8bit", "paged_ademamix_32bit"),
    *("lion_8bit", "lion_32bit", "paged_lion_8bit", "paged_lion_32bit"),
    *("rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit"),
)
OPTIMIZERS = (*_TORCH_OPTIMIZERS, *_BITSANDBYTES_OPTIMIZERS)


def check_memory(config: dict) -> None:
    """UsageError for a value of one of these keys that cannot work here."""
    training = config["training"]
    if config["load_in_4bit"] and config["load_in_8bit"]:
        raise UsageError("load_in_4bit and load_in_8bit are both true; set one of them to false")
    _check_launch(config)
    layers_per_checkpoint(training["gradient_checkpointing"])
    _check_optimizer(training)
    _check_liger(training["liger_kernels"])


def _check_launch(config: dict) -> None:
    # FSDP shards floating-point weights, and `quantization` in models/loading.py packs them into bytes.
    for key in ("load_in_4bit", "load_in_8bit"):
        if config[key] and trains_sharded():
            raise UsageError(
                f"{key}: FSDP, which this launch asks for, cannot shard weights of 4 or 8 bits; add "
                f"--set {key}=false, or start with `accelerate launch --multi_gpu`"
            )


def layers_per_checkpoint(value: bool | dict) -> int:
    """Of how many layers one is recomputed, for a value of `gradient_checkpointing`: 0 for none, 1 for all.

    UsageError for a value that is neither true, false nor {every_n_layers: N}.
    """
    if isinstance(value, bool):
        return int(value)
    name = "training.gradient_checkpointing"
    check_keys(name, value, ("every_n_layers",))
    n_layers = value.get("every_n_layers")
    if not isinstance(n_layers, int) or isinstance(n_layers, bool) or n_layers < 1:
        raise UsageError(
            f"{name}: expected true, false or {{every_n_layers: N}} with a whole number from 1 on, "
            f"found {value!r:.60}"
        )
    return n_layers


def _check_optimizer(training: dict) -> None:
    name = training["optim"]
    if name not in OPTIMIZERS:
        raise UsageError(f"training.optim: unknown {name!r}{nearest(name, OPTIMIZERS)}")
    if name in _BITSANDBYTES_OPTIMIZERS and importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(f"training.optim: {name} needs bitsandbytes; run `pip install bitsandbytes`")
    if training["max_grad_norm"] < 0:
        raise UsageError(
            "training.max_grad_norm: expected a number above 0, or 0 for gradients of any norm, "
            f"found {training['max_grad_norm']}"
        )


def _check_liger(value: str | bool) -> None:
    if value not in ("auto", True, False):
        raise UsageError(f"training.liger_kernels: expected auto, true or false, found {value!r:.60}")
    # With auto they are used where they can be; true asks for them.
    if value is True and importlib.util.find_spec("liger_kernel") is None:
        raise UsageError(
            "training.liger_kernels: Liger is not installed; run `pip install liger-kernel`, or write auto"
        )
