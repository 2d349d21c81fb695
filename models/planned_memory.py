"""The memory of a run that is planned, for `--dry-run`: how its passes will run here, and what they take.

The arithmetic is in models/footprint.py and models/training_footprint.py. Nothing here loads a model.
"""

from models.choices import ATTENTION_NAMES, LoadOptions
from models.footprint import LONGEST_DRAFT, MAX_BATCH_TOKENS, Passes, row_bytes
from models.shape import GROUPED_ON_CPU, Shape, find_shape
from models.training_footprint import Trained, trained_bytes, training_bytes
from utils.allocator import has_jemalloc
from utils.config import input_path


def _attention(flag: str, shape: Shape, on_gpu: bool) -> str:
    """The attention of a flag, as far as it decides the memory: where FlashAttention is unknown, without."""
    if flag == "auto":
        if not on_gpu and shape.model_type in GROUPED_ON_CPU:
            return "grouped"
        return "eager" if shape.soft_capped else "sdpa"
    wanted = ATTENTION_NAMES.get(flag, flag)
    if shape.soft_capped and (wanted == "sdpa" or not on_gpu):
        return "eager"
    return wanted


def planned_passes(name: str, options: LoadOptions, full_finetuning: bool = False) -> Passes | None:
    """How the passes of a model will run on this machine; None if its shape is unknown."""
    shape = find_shape(name)
    if shape is None:
        return None
    # Here, not at the top: plans are made by packages that start without torch.
    import torch

    from models.hardware import choose_dtype, has_cuda

    half = choose_dtype(options.bf16) != torch.float32
    bits = 16 if half and not full_finetuning else 32
    if options.load_in_4bit or options.load_in_8bit:
        bits = 4 if options.load_in_4bit else 8
    attention = _attention(options.attention, shape, has_cuda())
    return Passes(shape, bits, half, attention, has_cuda(), has_jemalloc())


def _describe_memory(parts: dict[str, float]) -> str:
    """`about 11.3 GB of memory (weights 6.1, ...)`; `parts`: name -> bytes."""
    each = ", ".join(f"{name} {n_bytes / 1e9:.1f}" for name, n_bytes in parts.items())
    return f"about {sum(parts.values()) / 1e9:.1f} GB of memory ({each})"


def _adapter_bytes(name: str) -> int:
    """Bytes of a checkpoint's adapter, which is loaded beside its base."""
    files = input_path(name).glob("adapter_model*.safetensors")
    return sum(file.stat().st_size for file in files)


def generation_memory(name: str, options: LoadOptions, n_rows: int, width: int, n_logits: int) -> str | None:
    """The memory of reading or completing at most `n_rows` rows of `width` tokens at once; None if unknown.

    `n_logits`: positions of a row whose logits are read in one pass.
    """
    passes = planned_passes(name, options)
    if passes is None:
        return None
    # The engine runs fewer rows at once where these would be too many tokens.
    n_at_once = max(1, min(n_rows, MAX_BATCH_TOKENS // width))
    parts = {
        "weights": passes.weights + passes.mapped_files + _adapter_bytes(name),
        "caches, activations and logits": n_at_once * row_bytes(passes, width, n_logits),
        "libraries": passes.libraries,
    }
    return _describe_memory(parts)


def training_memory(passes: Passes, trained: Trained, n_answered: int) -> str:
    """The memory of a training run, which also completes `n_answered` val prompts at once."""
    answering = n_answered * row_bytes(passes, trained.width, min(trained.n_labels, LONGEST_DRAFT))
    trains = "adapters and optimizer" if trained.targets else "optimizer"
    parts = {
        "weights": passes.weights + passes.mapped_files,
        trains: trained_bytes(passes, trained),
        "activations, logits and gradients": max(training_bytes(passes, trained), answering),
        "libraries": passes.libraries,
    }
    return _describe_memory(parts)
