"""The memory of training by arithmetic: what trains, activations, logits and gradients, in bytes.

A weight that trains has 16 more bytes, all in float32 but the moments of an 8-bit optimizer: itself, its
gradient and the two moments of Adam; with full fine-tuning it is the weight itself, and autocast keeps a copy
of the matrices in half precision. Where gradients do not accumulate over batches, they take the place of
activations, and the larger of both counts.

Per token and layer, with passes of b bytes, autograd keeps:
- a float32 copy of the input of each norm (2 norms, in Gemma-2 and 3 4), 4 h bytes each, and in Gemma-3 of
  queries and keys, which have norms too;
- the input of each matrix that trains or has an adapter: PEFT converts it to float32 and autocast back, so
  in half precision each adapter has a copy of its own; dropout adds its mask;
- queries, keys and values as attention reads them, b (3 q), and gate, up and their product, b (3 m);
- the scores of attention, where it writes them out (models/footprint.py).

A checkpointed layer keeps its input alone, b h, and all of the above while it is computed again. At each
label: logits, their float32 copy, its softmax and gradient, 12 bytes per token of the vocabulary, with
Gemma-2's cap 2 b more.

The CPU's own layers (models/cpu_layers.py) keep inputs once and in b bytes, and its own head
(models/cpu_head.py) has the logits of one block of the vocabulary and of each label a gradient, both in b
bytes and in float32. Constants were compared with what autograd saves; whole processes were measured at toy
size (tests/test_estimate.py).
"""

from dataclasses import dataclass, field

from models.footprint import Passes, score_bytes
from models.shape import OWN_ON_CPU, VOCAB_BLOCK, Shape

# The two moments of Adam, per weight.
_MOMENTS = 8
_MOMENTS_8BIT = 2
_GRADIENT = 4


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


def _is_own(passes: Passes, trained: Trained) -> bool:
    """Whether the CPU's own code computes the frozen part of a model."""
    return not passes.on_gpu and passes.shape.model_type in OWN_ON_CPU and bool(trained.targets)


def _logit_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes per label of the logits and their gradients."""
    shape = passes.shape
    b = passes.bytes_per_value
    if _is_own(passes, trained):
        return (VOCAB_BLOCK + shape.hidden) * (4 + b)
    return shape.vocab * (12 + 2 * b * shape.soft_capped)


def _normed_width(shape: Shape) -> int:
    """Width of what all norms of a layer read."""
    if shape.model_type == "gemma3_text":
        return 4 * shape.hidden + shape.query + shape.key
    return (4 if shape.soft_capped else 2) * shape.hidden


def layer_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes per token that autograd keeps of a layer that is not checkpointed."""
    shape = passes.shape
    b = passes.bytes_per_value
    own_layers = passes.bits >= 16 and _is_own(passes, trained) and not trained.dropout
    norm = b if own_layers else 4
    if not trained.targets:
        # The weights of norms train too, for which the normalized input is kept.
        norm *= 2
    attention = 2 * shape.query + 2 * shape.key if passes.attention == "grouped" else 3 * shape.query
    kept = _normed_width(shape) * norm + b * (attention + 3 * shape.intermediate)
    return kept + _input_bytes(passes, trained, own_layers) + score_bytes(passes, trained.width)


def training_bytes(passes: Passes, trained: Trained) -> float:
    """Bytes of activations, logits and gradients at the peak of a training step."""
    shape = passes.shape
    b = passes.bytes_per_value
    per_layer = layer_bytes(passes, trained) * trained.n_tokens
    n_again = round(shape.n_layers * trained.checkpointed)
    kept = (shape.n_layers - n_again) * per_layer + n_again * shape.hidden * b * trained.n_tokens
    # Gradients of a layer's widest tensors: the scores, gate and up.
    gradients = (score_bytes(passes, trained.width) + 2 * b * shape.intermediate) * trained.n_tokens
    in_layer = (per_layer if n_again else 0) + gradients + passes.widest_matrix
    logits = trained.n_rows * trained.n_labels * _logit_bytes(passes, trained)
    # The loss is done with its logits before the first layer goes backward.
    peak = kept + max(in_layer, logits)
    if passes.half and not trained.targets:
        # What autocast converts the trained matrices to.
        peak += 2 * shape.n_parameters
    # A batch frees its activations while it makes gradients, so that the larger of both counts.
    n_bytes = _GRADIENT * n_trained(shape, trained)
    return peak + n_bytes if trained.accumulates else max(peak, n_bytes)
