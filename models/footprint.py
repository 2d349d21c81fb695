"""The memory of a model and its passes by arithmetic: weights, caches, one layer, logits, in bytes.

Per weight: 2 bytes in half precision, 4 in float32, 1 in 8 bits, 0.516 in 4 bits (NF4 with a quantized scale
per 64 weights); embeddings and the output layer are never quantized. Passes are of b bytes per value. With
`eager` attention, each head and position of a row has the float32 softmax and its copy in half precision, and
in Gemma-2 the capped score: 6, with caps 8 bytes. Other attention keeps no scores.

What training adds is in models/training_footprint.py.
"""

from dataclasses import dataclass

from models.shape import Shape

# Python with its libraries and the pieces that malloc cannot use again, measured, fewer with jemalloc, more
# with bitsandbytes; what CUDA and its libraries take of a GPU is a usual figure.
CPU_LIBRARIES = 900_000_000
JEMALLOC_LIBRARIES = 650_000_000
BITSANDBYTES = 150_000_000
CUDA_LIBRARIES = 700_000_000
_BYTES_PER_WEIGHT = {4: 0.5 + 1 / 64 + 4 / (64 * 256), 8: 1.0, 16: 2.0, 32: 4.0}
# Tokens that a batch without gradients may have, padding and completions included, however many rows are
# wanted.
MAX_BATCH_TOKENS = 1 << 16
# Drafts, whose logits are read in one pass, are rarely longer than a completion.
LONGEST_DRAFT = 64


@dataclass(frozen=True)
class Passes:
    """A model and how its passes run. `attention`: eager, grouped (the CPU's own), or one without scores."""

    shape: Shape
    # Per weight: 4, 8, 16 or 32.
    bits: int
    # Whether passes are in half precision.
    half: bool
    attention: str
    on_gpu: bool
    # On a CPU, in place of the C library's malloc.
    jemalloc: bool = False

    @property
    def bytes_per_value(self) -> int:
        return 2 if self.half else 4

    @property
    def libraries(self) -> int:
        if self.on_gpu:
            return CUDA_LIBRARIES
        own = JEMALLOC_LIBRARIES if self.jemalloc else CPU_LIBRARIES
        return own + (BITSANDBYTES if self.bits < 16 else 0)

    @property
    def weights(self) -> float:
        """Bytes of the weights as loaded."""
        unquantized = self.bytes_per_value if self.bits < 16 else self.bits / 8
        n_embedded = self.shape.n_embedded * unquantized
        return n_embedded + self.shape.n_inner * _BYTES_PER_WEIGHT[self.bits]

    @property
    def mapped_files(self) -> float:
        """Bytes of the files that a CPU run keeps mapped beside weights of another precision."""
        n_bytes = self.shape.file_bytes or 0
        is_as_stored = round(8 * n_bytes / self.shape.n_parameters) == self.bits
        return 0 if self.on_gpu or is_as_stored else n_bytes

    @property
    def widest_matrix(self) -> int:
        """Bytes of the widest quantized matrix while it is multiplied: in half precision, one at a time."""
        return self.shape.hidden * self.shape.intermediate * self.bytes_per_value if self.bits < 16 else 0


def score_bytes(passes: Passes, width: int) -> float:
    """Bytes per token of the attention scores that a layer keeps, for rows of this width."""
    shape = passes.shape
    b = passes.bytes_per_value
    per_score = 0.0
    if passes.attention == "eager":
        per_score = (6 if passes.half else 4) + b * shape.soft_capped
    elif passes.attention == "grouped" and shape.soft_capped:
        # Blocks skip the future, about half of all scores; soft-capped ones go through autograd.
        per_score = 1.5 * b
    return shape.n_heads * width * per_score


def row_bytes(passes: Passes, width: int, n_logits: int) -> float:
    """Bytes of a row of `width` tokens without gradients: its cache, a layer's tensors, `n_logits` logits."""
    shape = passes.shape
    b = passes.bytes_per_value
    cache = 2 * shape.n_layers * shape.key * b * width
    layer = (8 * shape.hidden + 3 * shape.intermediate * b) * width
    scores = 1.5 * score_bytes(passes, width) * width if passes.attention == "eager" else 0
    # Logits, with Gemma-2's cap twice more, and those of the chosen places in float32 with their exponents.
    logits = n_logits * shape.vocab * (b * (1 + 2 * shape.soft_capped) + 8)
    return cache + layer + scores + logits
