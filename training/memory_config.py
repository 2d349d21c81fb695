"""Checks of the YAML keys that decide the memory and the speed of training, before torch is imported.

It knows what a key may be, not what the device makes of it.
"""

from utils.errors import UsageError
from utils.launch import trains_sharded


def check_memory(config: dict) -> None:
    """UsageError for a value of one of these keys that cannot work here."""
    _check_launch(config)


def _check_launch(config: dict) -> None:
    # FSDP shards floating-point weights, and `quantization` in models/loading.py packs them into bytes.
    for key in ("load_in_4bit", "load_in_8bit"):
        if config[key] and trains_sharded():
            raise UsageError(
                f"{key}: FSDP, which this launch asks for, cannot shard weights of 4 or 8 bits; add "
                f"--set {key}=false, or start with `accelerate launch --multi_gpu`"
            )
