"""The shape of a model, from its config and the headers of its files or, for a name alone, from a table.

No model library is imported and no weights are read. It does not know what the numbers are used for.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from models.directories import adapter_base
from models.embedded_models import EMBEDDED, EMBEDDED_GEMMA
from models.hub_cache import cached_dir
from utils.config import input_path
from utils.hub_names import split_revision
from utils.jsonl import read_json

# Model types whose layers and head have code of their own on CPUs, and the tokens of the vocabulary that this
# head takes at a time: with 8,192 tokens, 194 labels have 3 MB of logits in bfloat16.
OWN_ON_CPU = ("llama", "qwen2", "gemma3_text")
VOCAB_BLOCK = 8192
# Model types that our attention on CPUs is for: tests compare them, and theirs needs nothing else (attention
# sinks, for example).
GROUPED_ON_CPU = (*OWN_ON_CPU, "gemma2")


@dataclass(frozen=True)
class Shape:
    """Layers and widths of a decoder. `n_embedded`: weights of the embeddings and of the output layer."""

    n_layers: int
    hidden: int
    intermediate: int
    n_heads: int
    n_key_heads: int
    head_dim: int
    vocab: int
    n_embedded: int = 0
    # All other weights: those that 4-bit and 8-bit loading makes smaller.
    n_inner: int = 0
    # Soft-capped scores and logits, and norms behind each block too (Gemma-2).
    soft_capped: bool = False
    model_type: str = ""
    # Of the files on this machine; None where they are not here.
    file_bytes: int | None = None

    @property
    def n_parameters(self) -> int:
        return self.n_embedded + self.n_inner

    @property
    def query(self) -> int:
        """Width of the queries of all heads."""
        return self.n_heads * self.head_dim

    @property
    def key(self) -> int:
        """Width of the keys of all heads, and of the values."""
        return self.n_key_heads * self.head_dim

    @property
    def projections(self) -> dict[str, tuple[int, int]]:
        """Name -> (inputs, outputs) of each matrix of a layer."""
        return {
            "q_proj": (self.hidden, self.query),
            "k_proj": (self.hidden, self.key),
            "v_proj": (self.hidden, self.key),
            "o_proj": (self.query, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }


def _computed(shape: Shape, tied: bool) -> Shape:
    """The shape with the weights that its widths amount to; norms and biases are left out."""
    n_of_layer = sum(n_in * n_out for n_in, n_out in shape.projections.values())
    n_embedded = shape.vocab * shape.hidden * (1 if tied else 2)
    return replace(shape, n_embedded=n_embedded, n_inner=shape.n_layers * n_of_layer)


def _published(model_type: str, *sizes: int, tied: bool = True) -> Shape:
    """`sizes`: layers, hidden, intermediate, heads, key heads, head dim, vocabulary."""
    n_layers, hidden, intermediate, n_heads, n_key_heads, head_dim, vocab = sizes
    shape = Shape(n_layers, hidden, intermediate, n_heads, n_key_heads, head_dim, vocab)
    shape = replace(shape, soft_capped=model_type == "gemma2", model_type=model_type)
    return _computed(shape, tied)


# Part of a name -> shape, from the published configs.
_PUBLISHED = {
    "gemma-2-2b": _published("gemma2", 26, 2304, 9216, 8, 4, 256, 256000),
    "gemma-2-9b": _published("gemma2", 42, 3584, 14336, 16, 8, 256, 256000),
    "gemma-2-27b": _published("gemma2", 46, 4608, 36864, 32, 16, 128, 256000),
    "gemma-3-270m": _published("gemma3_text", 18, 640, 2048, 4, 1, 256, 262144),
    "smollm2-135m": _published("llama", 30, 576, 1536, 9, 3, 64, 49152),
    "qwen2.5-0.5b": _published("qwen2", 24, 896, 4864, 14, 2, 64, 151936),
    "qwen2.5-1.5b": _published("qwen2", 28, 1536, 8960, 12, 2, 128, 151936),
    "qwen2.5-3b": _published("qwen2", 36, 2048, 11008, 16, 2, 128, 151936),
    "qwen2.5-7b": _published("qwen2", 28, 3584, 18944, 28, 4, 128, 152064, tied=False),
    "llama-3.1-8b": _published("llama", 32, 4096, 14336, 32, 8, 128, 128256, tied=False),
    "mistral-7b": _published("mistral", 32, 4096, 14336, 32, 8, 128, 32768, tied=False),
}
_EMBEDDED = {EMBEDDED: "smollm2-135m", EMBEDDED_GEMMA: "gemma-3-270m"}
_UNITS = {"b": 1e9, "m": 1e6}


def parameters_in_name(name: str) -> int | None:
    """The number of parameters in a name ("gemma-2-9b": 9e9); None if it has none."""
    # A commit may end like a size.
    match = re.search(r"(\d+(?:\.\d+)?)\s*([bm])\b", split_revision(name)[0].lower())
    if match is None:
        return None
    number, unit = match.groups()
    return int(float(number) * _UNITS[unit])


def _stretched(n_parameters: int) -> Shape:
    """A guess for a number of parameters: the published shape nearest to it, with all sides stretched."""
    nearest = min(_PUBLISHED.values(), key=lambda shape: abs(math.log(shape.n_parameters / n_parameters)))
    ratio = n_parameters / nearest.n_parameters
    side = ratio ** (1 / 3)
    return replace(
        nearest,
        n_layers=max(1, round(nearest.n_layers * side)),
        hidden=round(nearest.hidden * side),
        intermediate=round(nearest.intermediate * side),
        head_dim=max(1, round(nearest.head_dim * side)),
        n_embedded=round(nearest.n_embedded * ratio),
        n_inner=round(nearest.n_inner * ratio),
        soft_capped=False,
        model_type="",
    )


def shape_of_config(config: Mapping[str, Any]) -> Shape | None:
    """The shape that a config.json describes; None if it names no widths that are known here."""
    config = config.get("text_config") or config

    def first(*names: str) -> Any:
        return next((config[name] for name in names if config.get(name)), None)

    n_layers = first("num_hidden_layers", "n_layer", "n_layers")
    hidden = first("hidden_size", "n_embd", "d_model")
    n_heads = first("num_attention_heads", "n_head", "n_heads")
    vocab = first("vocab_size")
    if not all(isinstance(size, int) for size in (n_layers, hidden, n_heads, vocab)):
        return None
    model_type = str(first("model_type") or "")
    # Defaults are not written: Gemma-2 is capped unless its config says null.
    cap = config.get("attn_logit_softcapping", 50.0 if model_type == "gemma2" else None)
    shape = Shape(
        n_layers=n_layers,
        hidden=hidden,
        intermediate=first("intermediate_size", "n_inner", "ffn_dim") or 4 * hidden,
        n_heads=n_heads,
        n_key_heads=first("num_key_value_heads") or n_heads,
        head_dim=first("head_dim") or hidden // n_heads,
        vocab=vocab,
        soft_capped=cap is not None,
        model_type=model_type,
    )
    return _computed(shape, config.get("tie_word_embeddings", True))


def _stored_sizes(files: list[Path]) -> list[list[int]]:
    """The shapes of all tensors in safetensors files, read from their headers."""
    # A tenth of a second, which names alone need not wait for.
    from safetensors import safe_open

    sizes = []
    for file in files:
        with safe_open(file, "np") as tensors:
            names = list(tensors.keys())
            sizes += [tensors.get_slice(name).get_shape() for name in names]
    return sizes


def _shape_of_dir(directory: Path) -> Shape | None:
    config = directory / "config.json"
    shape = shape_of_config(read_json(config)) if config.is_file() else None
    files = sorted(directory.glob("*.safetensors"))
    sizes = _stored_sizes(files)
    if shape is None or not sizes:
        return shape
    # The files know what the config leaves out: whether the output layer is the embedding, experts, biases.
    n_embedded = sum(math.prod(size) for size in sizes if len(size) == 2 and size[0] == shape.vocab)
    n_all = sum(map(math.prod, sizes))
    n_bytes = sum(file.stat().st_size for file in files)
    return replace(shape, n_embedded=n_embedded, n_inner=n_all - n_embedded, file_bytes=n_bytes)


def find_shape(name: str) -> Shape | None:
    """The shape of a model by its name: exact where its config is on this machine, else published or guessed.

    An adapter has that of its base. None if nothing tells.
    """
    if name in _EMBEDDED:
        shape = _PUBLISHED[_EMBEDDED[name]]
        return replace(shape, file_bytes=2 * shape.n_parameters)
    path = input_path(name)
    if base := adapter_base(str(path)):
        return find_shape(base)
    directory = path if path.is_dir() else cached_dir(name)
    if directory is not None:
        return _shape_of_dir(directory)
    for known, shape in _PUBLISHED.items():
        if known in name.lower():
            return shape
    n_parameters = parameters_in_name(name)
    return _stretched(n_parameters) if n_parameters else None
