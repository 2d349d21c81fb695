"""The memory of a run by arithmetic: weights, what trains, activations, logits and caches, in bytes.

Per weight: 2 bytes in half precision, 4 in float32, 1 in 8 bits, 0.516 in 4 bits (NF4 with a quantized scale
per 64 weights); embeddings and the output layer are never quantized. A weight that trains has 16 more bytes,
all in float32 but the moments of an 8-bit optimizer: itself, its gradient and the two moments of Adam; with
full fine-tuning it is the weight itself, and autocast keeps a copy of the matrices in half precision. Where
gradients do not accumulate over batches, they take the place of activations, and the larger of both counts.

Per token and layer, with passes of b bytes, autograd keeps:
- a float32 copy of the input of each norm (2 norms, in Gemma-2 and 3 4), 4 h bytes each, and in Gemma-3 of
  queries and keys, which have norms too;
- the input of each matrix that trains or has an adapter: PEFT converts it to float32 and autocast back, so
  in half precision each adapter has a copy of its own; dropout adds its mask;
- queries, keys and values as attention reads them, b (3 q), and gate, up and their product, b (3 m);
- with `eager` attention, for each head and position of the row, the float32 softmax and its copy in half
  precision, and in Gemma-2 the capped score: 6, with caps 8 bytes. Other attention keeps no scores.

A checkpointed layer keeps its input alone, b h, and all of the above while it is computed again. At each
label: logits, their float32 copy, its softmax and gradient, 12 bytes per token of the vocabulary, with
Gemma-2's cap 2 b more.

The CPU's own layers (models/cpu_layers.py) keep inputs once and in b bytes. Constants were compared with what
autograd saves; whole processes were measured at toy size (tests/test_estimate.py).
"""

from dataclasses import dataclass, field

from models.shape import Shape

# Python with its libraries, measured, more with bitsandbytes; what CUDA and its libraries take of a GPU is a
# usual figure.
CPU_LIBRARIES = 900_000_000
BITSANDBYTES = 150_000_000
CUDA_LIBRARIES = 700_000_000
_BYTES_PER_WEIGHT = {4: 0.5 + 1 / 64 + 4 / (64 * 256), 8: 1.0, 16: 2.0, 32: 4.0}
# The two moments of Adam, per weight.
_MOMENTS = 8
_MOMENTS_8BIT = 2
_GRADIENT = 4
# Tokens that a batch without gradients may have, padding and completions included, however many rows are
# wanted.
MAX_BATCH_TOKENS = 1 << 16
# Drafts, whose logits are read in one pass, are rarely longer than a completion.
LONGEST_DRAFT = 64
# Architectures for which the CPU's own layers exist.
_OWN_LAYERS = ("llama", "qwen2", "gemma3_text")


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

    @property
    def bytes_per_value(self) -> int:
        return 2 if self.half else 4

    @property
    def libraries(self) -> int:
        if self.on_gpu:
            return CUDA_LIBRARIES
        return CPU_LIBRARIES + (BITSANDBYTES if self.bits < 16 else 0)

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


@dataclass(frozen=True)
class Trained:
    """What trains, and the longest batch of it."""

    # Rows of a batch, tokens of the longest row with its prefix, tokens that all rows share and read once.
    n_rows: int
    width: int
    n_shared: int
    # Positions per row with logits.
    n_labels: int
    # Names of adapted matrices, and their rank; empty with full fine-tuning.
    targets: list[str] = field(default_factory=list)
    r: int = 0
    dropout: bool = False
    n_adapted: int = 0
    # The share of layers that is computed again in the backward pass.
    checkpointed: float = 0.0
    optim_8bit: bool = False
    # Whether gradients of earlier batches wait while a batch runs.
    accumulates: bool = False

    @property
    def n_tokens(self) -> int:
        return self.n_shared + self.n_rows * (self.width - self.n_shared)


def n_adapter_weights(shape: Shape, trained: Trained) -> int:
    """Parameters of the adapters; a name that is not known here counts as a square matrix."""
    n_sides = 0
    for name in trained.targets:
        n_sides += sum(shape.projections.get(name, (shape.hidden, shape.hidden)))
    return trained.n_adapted * trained.r * n_sides


def n_trained(shape: Shape, trained: Trained) -> int:
    """Parameters that train: those of the adapters, or all."""
    return n_adapter_weights(shape, trained) if trained.targets else shape.n_parameters


def trained_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes that training keeps beside the loaded weights: adapters, and the moments of what trains."""
    per_weight = (4 if trained.targets else 0) + (_MOMENTS_8BIT if trained.optim_8bit else _MOMENTS)
    return n_trained(passes.shape, trained) * per_weight


def _input_bytes(passes: Passes, trained: Trained, own_layers: bool) -> float:
    """Bytes per token of the inputs that a layer's trained or adapted matrices keep."""
    shape = passes.shape
    targets = trained.targets or list(shape.projections)
    all_inputs = [shape.projections.get(name, (shape.hidden, 0))[0] for name in targets]
    if trained.dropout:
        # PyTorch keeps the mask of dropout: a byte per value, on a CPU as many as the value has.
        mask = 1 if passes.on_gpu else 4
        return sum(all_inputs) * (passes.bytes_per_value + mask)
    if passes.half and not own_layers:
        return sum(all_inputs) * passes.bytes_per_value
    # The matrices behind one norm share their input.
    groups = (("q_proj", "k_proj", "v_proj"), ("o_proj",), ("gate_proj", "up_proj"), ("down_proj",))
    shared = [max((shape.projections[n][0] for n in group if n in targets), default=0) for group in groups]
    return sum(shared) * passes.bytes_per_value


def _score_bytes(passes: Passes, width: int) -> float:
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


def _normed_width(shape: Shape) -> int:
    """Width of what all norms of a layer read."""
    if shape.model_type == "gemma3_text":
        return 4 * shape.hidden + shape.query + shape.key
    return (4 if shape.soft_capped else 2) * shape.hidden


def layer_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes per token that autograd keeps of a layer that is not checkpointed."""
    shape = passes.shape
    b = passes.bytes_per_value
    is_own = not passes.on_gpu and passes.bits >= 16 and shape.model_type in _OWN_LAYERS
    own_layers = is_own and bool(trained.targets) and not trained.dropout
    norm = b if own_layers else 4
    if not trained.targets:
        # The weights of norms train too, for which the normalized input is kept.
        norm *= 2
    attention = 2 * shape.query + 2 * shape.key if passes.attention == "grouped" else 3 * shape.query
    kept = _normed_width(shape) * norm + b * (attention + 3 * shape.intermediate)
    return kept + _input_bytes(passes, trained, own_layers) + _score_bytes(passes, trained.width)


def training_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes of activations, logits and gradients at the peak of a training step."""
    shape = passes.shape
    b = passes.bytes_per_value
    per_layer = layer_bytes(passes, trained) * trained.n_tokens
    n_again = round(shape.n_layers * trained.checkpointed)
    kept = (shape.n_layers - n_again) * per_layer + n_again * shape.hidden * b * trained.n_tokens
    # Gradients of a layer's widest tensors: the scores, gate and up.
    gradients = (_score_bytes(passes, trained.width) + 2 * b * shape.intermediate) * trained.n_tokens
    in_layer = (per_layer if n_again else 0) + gradients + passes.widest_matrix
    per_logit = 12 + 2 * b * shape.soft_capped
    logits = trained.n_rows * trained.n_labels * shape.vocab * per_logit
    # The loss is done with its logits before the first layer goes backward.
    peak = kept + max(in_layer, logits)
    if passes.half and not trained.targets:
        # What autocast converts the trained matrices to.
        peak += 2 * shape.n_parameters
    # A batch frees its activations while it makes gradients, so that the larger of both counts.
    n_bytes = _GRADIENT * n_trained(shape, trained)
    return peak + n_bytes if trained.accumulates else max(peak, n_bytes)


def row_bytes(passes: Passes, width: int, n_logits: int) -> float:
    """Bytes of a row of `width` tokens without gradients: its cache, a layer's tensors, `n_logits` logits."""
    shape = passes.shape
    b = passes.bytes_per_value
    cache = 2 * shape.n_layers * shape.key * b * width
    layer = (8 * shape.hidden + 3 * shape.intermediate * b) * width
    scores = 1.5 * _score_bytes(passes, width) * width if passes.attention == "eager" else 0
    # Logits, with Gemma-2's cap twice more, and those of the chosen places in float32 with their exponents.
    logits = n_logits * shape.vocab * (b * (1 + 2 * shape.soft_capped) + 8)
    return cache + layer + scores + logits
