"""`--dry-run`: what a run would read, how long it would take and what it would need, from files and names alone."""

import math
import re
import time
from pathlib import Path

import torch

from models.embedded import EMBEDDED
from models.hardware import choose_dtype
from models.loading import LoadOptions
from utils.config import input_path
from utils.jsonl import read_json
from utils.runs import format_seconds
from utils.schema import read_samples

CHARS_PER_TOKEN = 4.0
_EMBEDDED_PARAMETERS = 134_515_008


def count_parameters(name: str) -> int | None:
    """Parameters of a model from its directory or its name ("gemma-2-9b": 9e9); None when neither tells."""
    if name == EMBEDDED:
        return _EMBEDDED_PARAMETERS
    path = input_path(name)
    if (path / "adapter_config.json").is_file():
        return count_parameters(read_json(path / "adapter_config.json")["base_model_name_or_path"])
    if path.is_dir():
        n_bytes = sum(file.stat().st_size for file in path.glob("*.safetensors"))
        return n_bytes // 2 or None
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", name.lower())
    return int(float(match[1]) * {"b": 1e9, "m": 1e6}[match[2]]) if match else None


def measured_flops(dtype: torch.dtype) -> float:
    """Matmul speed of this machine, FLOP/s: the fastest product of a fifth of a second, as other programs may run beside it."""
    on_gpu = torch.cuda.is_available()
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
    """The samples of a file; None, and a warning, when it is not there yet."""
    if not path.is_file():
        print(f"warning: {path} is not there yet; an earlier stage writes it")
        return None
    return read_samples(path)


def count_tokens(samples: list[dict]) -> int:
    """Tokens of question and evidence, at 4 characters each."""
    chars = sum(
        len(s["question"]) + sum(len(c["title"]) + len(c["text"]) + 6 for c in s["evidence_chunks"])
        for s in samples
    )
    return int(chars / CHARS_PER_TOKEN)


def warn_missing_model(name: str) -> None:
    if name != EMBEDDED and not input_path(name).exists():
        local = name.startswith((".", "/")) or name.count("/") > 1
        print(
            f"warning: {name} is not there yet"
            if local
            else f"note: {name} will be loaded from the hub or its cache"
        )


def bits_per_weight(options: LoadOptions, full_finetuning: bool = False) -> int:
    """Bits of memory per parameter: the weights and, when all of them train, their gradients and optimizer state."""
    if full_finetuning:
        # Weights, gradients and the two moments of Adam, all in float32.
        return 4 * 32
    if options.load_in_4bit:
        return 4
    if options.load_in_8bit:
        return 8
    return 16 if options.bf16 else 32


def training_passes(full_finetuning: bool, gradient_checkpointing: bool) -> int:
    """The cost of a training step in forward passes: forward, backward to the activations, backward to all weights when
    they train, and the recomputed forward pass of gradient checkpointing."""
    return 2 + full_finetuning + gradient_checkpointing


def estimate(name: str, n_tokens: int, passes: float, bits: int, bf16: bool = True) -> str:
    """Time and memory of `passes` forward passes over `n_tokens` tokens (2 FLOP a parameter, a third of the measured matmul speed).

    `bits` of memory a parameter, gradients and optimiser included; its files have 16 however it is loaded.
    """
    n_parameters = count_parameters(name)
    if n_parameters is None:
        return f"size of {name} unknown: no estimate of time and memory"
    seconds = 2 * n_parameters * n_tokens * passes / (measured_flops(choose_dtype(bf16)) / 3)
    memory = n_parameters * bits / 8e9 * 1.3 + 1.5
    disk = n_parameters * 16 / 8e9
    return f"about {format_seconds(seconds)} on this machine, about {memory:.1f} GB of memory, {disk:.1f} GB of weights on disk"
