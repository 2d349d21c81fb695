"""The settings of train_rm.py: every key of its YAML with the default, which also fixes the type."""

from utils.config import load_config
from utils.errors import UsageError

DEFAULTS = {
    "base_model": "google/gemma-2-9b",
    "output_dir": "checkpoints/rm",
    "learning_rate": 5e-6,
    "batch_size": 16,
    "eval_batch_size": 32,
    "num_epochs": 3,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "max_seq_length": 2048,
    "gradient_accumulation_steps": 1,
    "eval_steps": 100,
    "save_steps": 200,
    "logging_steps": 10,
    "load_in_8bit": False,
    "seed": 42,
    "citation_penalty_weight": 0.2,
    "confidence_penalty_weight": 0.1,
    "length_penalty_weight": 0.05,
    "overcitation_penalty_weight": 0.15,
    "span_penalty_weight": 0.25,
    # Shares of the pairs, by group: val chooses the checkpoint, test has the reported metrics.
    "val_fraction": 0.15,
    "test_fraction": 0.15,
    "template": "default",
    "attn_implementation": "auto",
    "trust_remote_code": False,
}


def load_reward_config(path: str, overrides: list[str]) -> dict:
    """The YAML over the defaults, then `--set` overrides. UsageError names a wrong key, type or fraction."""
    config = load_config(path, DEFAULTS, overrides)
    fractions = [config["val_fraction"], config["test_fraction"]]
    # Train gets what is left, and none of the three may be empty.
    if not (min(fractions) > 0 and sum(fractions) < 1):
        raise UsageError("val_fraction and test_fraction must be above 0 and add up to less than 1")
    return config
