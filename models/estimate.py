"""Estimates for `--dry-run`: tokens, time, memory and disk of a run, from files and model names alone.

The only thing that is measured is the matmul speed of this machine. Nothing here loads a model or a
tokenizer.
"""

import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from models.directories import is_path
from models.embedded_models import EMBEDDED_MODELS
from models.shape import find_shape
from utils.config import input_path
from utils.input_files import home_hint
from utils.runs import format_seconds
from utils.schema import read_samples

if TYPE_CHECKING:
    import torch

# A usual average for English text; no tokenizer is loaded for an estimate.
CHARS_PER_TOKEN = 4.0
# Title and text of a chunk get a number and separators in the prompt.
_CHARS_AROUND_CHUNK = 6


def measured_flops(dtype: "torch.dtype") -> float:
    """The matmul speed of this machine in FLOP/s: that of the fastest of all products within 0.2 s.

    The fastest, because other programs may slow down the rest.
    """
    # Here, not at the top: plans are made by packages that start without torch.
    import torch

    from models.hardware import has_cuda

    on_gpu = has_cuda()
    # A GPU is through with small products before Python has started the next.
    n = 4096 if on_gpu else 1024
    a = torch.ones(n, n, dtype=dtype, device="cuda" if on_gpu else "cpu")

    def multiply() -> float:
        before = time.perf_counter()
        a @ a
        if on_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - before

    # The first product loads the library and its kernels, which may take all of the time below.
    multiply()
    best = math.inf
    started = time.perf_counter()
    while time.perf_counter() - started < 0.2:
        best = min(best, multiply())
    return 2 * n**3 / best


def planned_samples(path: Path, read: Callable[[Path], list[dict]] = read_samples) -> list[dict] | None:
    """The rows of a file as `read` reads it; None, and a warning, if it does not exist yet."""
    if not path.exists():
        print(f"warning: {home_hint(path) or f'{path} does not exist yet; an earlier stage writes it'}")
        return None
    return read(path)


def count_tokens(samples: list[dict]) -> int:
    """Estimated tokens of questions and evidence, without template and completion."""
    n_chars = 0
    for sample in samples:
        n_chars += len(sample["question"])
        for chunk in sample["evidence_chunks"]:
            n_chars += len(chunk["title"]) + len(chunk["text"]) + _CHARS_AROUND_CHUNK
    return int(n_chars / CHARS_PER_TOKEN)


def longest_prompt(samples: list[dict]) -> int:
    """Estimated tokens of the longest sample; see `count_tokens`."""
    return max(count_tokens([sample]) for sample in samples)


def warn_missing_model(name: str) -> None:
    """Print where a model that is not a directory here will come from, or that it does not exist."""
    if name in EMBEDDED_MODELS or input_path(name).exists():
        return
    if is_path(name):
        print(f"warning: {name} does not exist yet")
    else:
        print(f"note: {name} will be loaded from the hub or its cache")


def training_passes(full_finetuning: bool, share_recomputed: float) -> float:
    """The cost of a training step, in forward passes. `share_recomputed`: of the layers, by checkpointing."""
    # Forward and backward to the activations; backward to all weights if they train; the forward recomputed.
    return 2 + full_finetuning + share_recomputed


def estimate(
    name: str, n_tokens: int, n_predicted: int, passes: float, memory: str | None, bf16: bool = True
) -> str:
    """One line with the time, memory and disk space of `passes` forward passes over `n_tokens` tokens.

    `n_predicted`: those of them whose next token is predicted, to train on it or to generate it. `memory`:
    from models/planned_memory.py.
    """
    shape = find_shape(name)
    if shape is None or memory is None:
        return f"size of {name} unknown: no estimate of time and memory"
    from models.hardware import choose_dtype

    # A token costs 2 FLOP per weight of the layers; an embedding is looked up. The output layer, half of a
    # small model with a large vocabulary, computes predicted tokens alone. Whole runs reach about a third of
    # the matmul speed, as measured; some took half of this time, some twice.
    n_output = shape.vocab * shape.hidden
    n_flop = 2 * passes * (shape.n_inner * n_tokens + n_output * n_predicted)
    seconds = n_flop / (measured_flops(choose_dtype(bf16)) / 3)
    # Files have 16 bits per weight, however few the model has in memory.
    disk = shape.n_parameters * 16 / 8e9
    duration = f"{format_seconds(seconds / 2)} to {format_seconds(2 * seconds)}"
    return f"{duration} on this machine, {memory}, {disk:.1f} GB of weights on disk"
