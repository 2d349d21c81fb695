"""The plan of a training run, for `--dry-run`: rows, tokens, steps, time and memory.

It loads neither tokenizer nor model, so token counts are estimates.
"""

from models.estimate import CHARS_PER_TOKEN, bits_per_weight, count_tokens, estimate, training_passes
from models.loading import LoadOptions
from training.trainer import steps_and_epochs

# Tokens of a typical completion and of the chat format around a prompt.
_OTHER_TOKENS = 25


def plan_training(config: dict, samples: list[dict], n_template_chars: int, n_prefix_chars: int) -> list[str]:
    """Two lines: rows, tokens and steps; time and memory. Prompts share the first `n_prefix_chars`."""
    training = config["training"]
    n_rows = len(samples)
    n_steps, n_epochs = steps_and_epochs(n_rows, training, 1)
    n_per_row = n_template_chars / CHARS_PER_TOKEN + _OTHER_TOKENS
    n_tokens = int(n_epochs * (count_tokens(samples) + n_rows * n_per_row))
    rows = f"would train on {n_rows} rows, about {n_tokens:,} tokens, {n_steps} steps"

    # Without gradient checkpointing, the shared prefix is computed once per batch.
    if not training["gradient_checkpointing"]:
        n_shared = n_prefix_chars / CHARS_PER_TOKEN
        n_tokens -= int(n_epochs * n_rows * n_shared * (1 - 1 / training["per_device_train_batch_size"]))
    n_passes = training_passes(config["full_finetuning"], training["gradient_checkpointing"])
    options = LoadOptions(config["bf16"], config["load_in_4bit"], config["load_in_8bit"])
    n_bits = bits_per_weight(options, config["full_finetuning"])
    return [rows, estimate(config["model_name"], n_tokens, n_passes, n_bits, config["bf16"])]
