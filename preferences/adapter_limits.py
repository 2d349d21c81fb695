"""What ends the training of a reward's adapter in one line: memory that is full, a loss that is no number.

It knows which keys help, not how the adapter is trained.
"""

import contextlib
import math
from collections.abc import Iterator

import torch

from models.float16 import OTHER_PRECISIONS
from models.memory import describe_memory
from utils.errors import OutOfMemory, StageError, is_out_of_memory


def remedies(config: dict) -> str:
    """What can be changed against full memory, each with the value to set or the reason why it is used up."""
    # Layers below the first one with an adapter have no gradient, and so keep no activations.
    bits = "load_in_8bit is true already" if config["load_in_8bit"] else "load_in_8bit=true"
    length = config["max_seq_length"]
    first = config["lora"]["first_layer"]
    return f"(1) {bits}, (2) max_seq_length below {length}, (3) lora.first_layer above {first}"


@contextlib.contextmanager
def memory_errors(config: dict) -> Iterator[None]:
    """Turns memory that runs out within it into OutOfMemory, with the remedies."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # A prompt is one pass already, whatever lora.batch_size is.
        raise OutOfMemory(
            f"lora: a prompt with its completions does not fit on {describe_memory()}; "
            f"try {remedies(config)}, with --overwrite, as the settings change"
        ) from error


def check_loss(loss: float, step: int, dtype: torch.dtype) -> None:
    """StageError for a loss that is not finite; `dtype` is that of the passes."""
    if math.isfinite(loss):
        return
    remedy = "lower lora.learning_rate"
    if dtype == torch.float16:
        remedy += f", or, as a pass may have overflowed in float16, use {OTHER_PRECISIONS}"
    raise StageError(f"lora: the loss is not a number at step {step}; {remedy}; no adapter was written")
