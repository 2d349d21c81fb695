"""Estimates for `--dry-run`: tokens, time, memory and disk of a run, from files and model names alone.

The only thing that is measured is the matmul speed of this machine. Nothing here loads a model or a
tokenizer.
"""

import math
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING

from models.embedded import EMBEDDED
from utils.config import input_path
from utils.input_files import home_hint
from utils.jsonl import read_json
from utils.runs import format_seconds
from utils.schema import read_samples

if TYPE_CHECKING:
    import torch

    from models.loading import LoadOptions

# A usual average for English text; no tokenizer is loaded for an estimate.
CHARS_PER_TOKEN = 4.0
# Title and text of a chunk get a number and separators in the prompt.
_CHARS_AROUND_CHUNK = 6
_EMBEDDED_PARAMETERS = 134_515_008
_UNITS = {"b": 1e9, "m": 1e6}


def count_parameters(name: str) -> int | None:
    """Parameters of a model, from its directory or its name ("gemma-2-9b": 9e9); None if unknown."""
    if name == EMBEDDED:
        return _EMBEDDED_PARAMETERS
    path = input_path(name)
    if (path / "adapter_config.json").is_file():
        return count_parameters(read_json(path / "adapter_config.json")["base_model_name_or_path"])
    if path.is_dir():
        n_bytes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        # Two bytes per parameter: published weights are bfloat16 or float16.
        return n_bytes // 2 or None
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", name.lower())
    if match is None:
        return None
    number, unit = match.groups()
    return int(float(number) * _UNITS[unit])


def measured_flops(dtype: "torch.dtype") -> float:
    """The matmul speed of this machine in FLOP/s: that of the fastest of all products within 0.2 s.

    The fastest, because other programs may slow down the rest.
    """
    # Here, not at the top: plans are made by packages that start without torch.
    import torch

    from models.hardware import has_cuda

    on_gpu = has_cuda()
    n = 1024
    a = torch.ones(n, n, dtype=dtype, device="cuda" if on_gpu else "cpu")
    best = math.inf
    started = time.perf_counter()
    while time.perf_counter() - started < 0.2:
        before = time.perf_counter()
        a @ a
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - before)
    return 2 * n**3 / best


def planned_samples(path: Path) -> list[dict] | None:
    """The samples of a file; None, and a warning, if it does not exist yet."""
    if not path.is_file():
        print(f"warning: {home_hint(path) or f'{path} does not exist yet; an earlier stage writes it'}")
        return None
    return read_samples(path)


def count_tokens(samples: list[dict]) -> int:
    """Estimated tokens of questions and evidence, without template and completion."""
    n_chars = 0
    for sample in samples:
        n_chars += len(sample["question"])
        for chunk in sample["evidence_chunks"]:
            n_chars += len(chunk["title"]) + len(chunk["text"]) + _CHARS_AROUND_CHUNK
    return int(n_chars / CHARS_PER_TOKEN)


def warn_missing_model(name: str) -> None:
    """Print where a model that is not a directory here will come from, or that it does not exist."""
    if name == EMBEDDED or input_path(name).exists():
        return
    # A hub id is an owner and a name; anything longer, or with a leading dot or slash, is a path.
    is_path = name.startswith((".", "/")) or name.count("/") > 1
    if is_path:
        print(f"warning: {name} does not exist yet")
    else:
        print(f"note: {name} will be loaded from the hub or its cache")


def bits_per_weight(options: "LoadOptions", full_finetuning: bool = False) -> int:
    """Bits of memory per parameter; with `full_finetuning`, gradient and optimizer state included."""
    if full_finetuning:
        # Weights, gradients and the two moments of Adam, all in float32.
        return 4 * 32
    if options.load_in_4bit:
        return 4
    if options.load_in_8bit:
        return 8
    return 16 if options.bf16 else 32


def training_passes(full_finetuning: bool, share_recomputed: float) -> float:
    """The cost of a training step, in forward passes. `share_recomputed`: of the layers, by checkpointing."""
    # Forward and backward to the activations; backward to all weights if they train; the forward recomputed.
    return 2 + full_finetuning + share_recomputed


def estimate(name: str, n_tokens: int, passes: float, bits: int, bf16: bool = True) -> str:
    """One line with the time, memory and disk space of `passes` forward passes over `n_tokens` tokens.

    `bits`: memory per parameter, gradients and optimizer included (`bits_per_weight`).
    """
    n_parameters = count_parameters(name)
    if n_parameters is None:
        return f"size of {name} unknown: no estimate of time and memory"
    from models.hardware import choose_dtype

    # A token costs 2 FLOP per parameter. Whole runs reach about a third of the matmul speed, as measured;
    # some took half of this time, some twice.
    n_flop = 2 * n_parameters * n_tokens * passes
    seconds = n_flop / (measured_flops(choose_dtype(bf16)) / 3)
    # Rules of thumb: 30% for activations and caches, 1.5 GB for Python and its libraries.
    memory = n_parameters * bits / 8e9 * 1.3 + 1.5
    # Files have 16 bits per weight, however few the model has in memory.
    disk = n_parameters * 16 / 8e9
    return (
        f"{format_seconds(seconds / 2)} to {format_seconds(2 * seconds)} on this machine, "
        f"about {memory:.1f} GB of memory, "
        f"{disk:.1f} GB of weights on disk"
    )
