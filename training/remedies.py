"""What a training run that does not fit the memory can change: one line from its settings.

It knows what each key saves, not how much memory there is.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from models.memory import describe_memory
from training.memory_config import layers_per_checkpoint
from training.trainer import CompletionTrainer
from training.whole import numbered_checkpoints
from utils.errors import OutOfMemory, is_out_of_memory


def _fewer_rows(training: dict, in_validation: bool) -> str:
    if in_validation:
        n_rows = training["per_device_eval_batch_size"]
        key = "training.per_device_eval_batch_size"
        return f"{key}=1 (the same loss)" if n_rows > 1 else f"{key} is 1 already"
    # Packed rows share a pass, whatever the batch size.
    n_tokens = training["tokens_per_pass"]
    if n_tokens:
        return (
            f"training.tokens_per_pass below {n_tokens}, or null with "
            "training.per_device_train_batch_size=1 (the same loss)"
        )
    n_rows = training["per_device_train_batch_size"]
    if n_rows == 1:
        return "training.per_device_train_batch_size is 1 already"
    n_batches = n_rows * training["gradient_accumulation_steps"]
    return (
        "training.per_device_train_batch_size=1 with "
        f"training.gradient_accumulation_steps={n_batches} (the same loss)"
    )


def _smaller_model(config: dict) -> str:
    n_layers = layers_per_checkpoint(config["training"]["gradient_checkpointing"])
    wanted = []
    used_up = []
    if n_layers == 1:
        used_up.append("training.gradient_checkpointing")
    else:
        of_all = " for every layer" if n_layers else ""
        wanted.append(f"training.gradient_checkpointing=true{of_all}")
    if config["load_in_4bit"]:
        used_up.append("load_in_4bit")
    else:
        # What excludes 4 bits has to be switched off with them.
        off = [f"{key}=false and " for key in ("full_finetuning", "load_in_8bit") if config[key]]
        wanted.append(f"{''.join(off)}load_in_4bit=true")
    if not wanted:
        return f"{' and '.join(used_up)} are true already"
    return " or ".join(wanted) + (f" ({used_up[0]} is true already)" if used_up else "")


def remedies(config: dict, in_validation: bool = False) -> str:
    """The three remedies, each with the value to set or the reason why it is used up."""
    length = config["training"]["max_seq_length"]
    rows = _fewer_rows(config["training"], in_validation)
    return f"(1) {rows}, (2) {_smaller_model(config)}, (3) training.max_seq_length below {length}"


@contextlib.contextmanager
def memory_errors(trainer: CompletionTrainer, config: dict, output_dir: Path) -> Iterator[None]:
    """Turns memory that runs out while `trainer` trains into OutOfMemory, with the remedies."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        # Trainer switches the model for its validation.
        in_validation = not trainer.model.training
        what = "validation" if in_validation else "training"
        step = trainer.state.global_step + (not in_validation)
        kept = [f"; {path.name} is kept until then" for path in numbered_checkpoints(output_dir)[-1:]]
        raise OutOfMemory(
            f"{what} does not fit on {describe_memory()} in step {step}; try "
            f"{remedies(config, in_validation)}, with --overwrite, as the settings change{''.join(kept)}"
        ) from error
