"""Keys and defaults of train_sft.py's YAML, and the checks that types alone cannot make.

configs/sft_gemma2.yaml explains every key.
"""

import importlib.util
import math

from models.choices import ATTENTION_FLAGS
from models.lora_keys import LORA_TARGETS, check_target_modules
from training.data_config import check_data
from training.memory_config import SECOND_TYPES, check_memory
from training.rows import COMPLETION_TOKENS
from utils.config import nearest
from utils.config_values import MAX_SEED, Defaults, check_count, check_prompt_room
from utils.errors import UsageError
from utils.launch import trains_sharded
from utils.metrics import SELECTION_METRICS

# The mean loss on val, one of the metrics that can choose the best checkpoint.
LOSS = "eval_loss"

# Also the type of each key: a value from the YAML is converted to the type of its default.
_VALUES = {
    "model_name": "google/gemma-2-9b",
    "output_dir": "checkpoints/sft/model",
    "load_in_4bit": False,
    "load_in_8bit": False,
    "full_finetuning": False,
    "bf16": True,
    "trust_remote_code": False,
    "attn_implementation": "auto",
    "lora": {
        "r": 16,
        "alpha": 32,
        "dropout": 0.05,
        "target_modules": LORA_TARGETS,
        "first_layer": 0,
        "use_rslora": False,
    },
    "training": {
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 16,
        "learning_rate": 2e-4,
        "num_train_epochs": 1.0,
        "max_steps": -1,
        "max_seq_length": 2048,
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "lr_scheduler_type": "cosine",
        "logging_steps": 10,
        "eval_steps": 100,
        "save_steps": 100,
        "save_total_limit": 2,
        "gradient_checkpointing": True,
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "liger_kernels": "auto",
        "tokens_per_pass": None,
        "metric_for_best": "eval_loss",
        "early_stopping_patience": None,
        "average_last": 0,
        "skeleton_share": 1.0,
        "report_to": "none",
        "seed": 42,
    },
    "data": {
        "train_path": "data/processed/train.jsonl",
        "made_path": None,
        "made_share": 1.0,
        "val_path": "data/processed/val.jsonl",
        "template": "default",
        "max_samples": None,
        "max_per_source": None,
        "max_val_samples": None,
        "max_generated_val_samples": 0,
        "max_calibration_samples": 200,
        "twin_pairs": "adjacent",
        "prompt_ids": "whole",
        "unanswerable_fraction": None,
        "answerable_first": 0.0,
        "short_evidence_first": 0.0,
        "reshuffle_chunks": True,
        "share_evidence": False,
        "weights": {},
    },
}
DEFAULTS = Defaults(_VALUES, SECOND_TYPES)

# The values that a run had of keys that it is older than. Its prompts were encoded in pieces.
OF_OLDER_RUNS = {**DEFAULTS, "data": {**DEFAULTS["data"], "prompt_ids": "pieces"}}

# Values of `report_to`, and the package that each needs.
TRACKERS = {"none": None, "tensorboard": "tensorboard", "trackio": "trackio", "wandb": "wandb"}
# Keys of `training` that count something, from 1 on.
_COUNTS = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "max_seq_length",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "save_total_limit",
)
_COUNTS_OR_NULL = ("early_stopping_patience", "tokens_per_pass")

# Keys with a range, and its limits. Where 0 makes no sense, the smallest number that does.
_RANGES = {
    "lora.r": (1, math.inf),
    "lora.alpha": (1, math.inf),
    "lora.dropout": (0, 0.99),
    "lora.first_layer": (0, math.inf),
    "training.warmup_ratio": (0, 1),
    "training.weight_decay": (0, math.inf),
    "training.seed": (0, MAX_SEED),
    "training.max_steps": (-1, math.inf),
    "training.skeleton_share": (0, 1),
}
# Of transformers' schedules, those that need no settings of their own.
SCHEDULERS = (
    *("linear", "cosine", "cosine_with_restarts", "polynomial", "constant", "constant_with_warmup"),
    "inverse_sqrt",
)


def check_config(config: dict) -> None:
    """UsageError for values of the right type that make no sense, alone or together."""
    _check_counts(config)
    check_prompt_room("training.max_seq_length", config["training"]["max_seq_length"], COMPLETION_TOKENS)
    _check_ranges(config)
    _check_training(config)
    check_memory(config)
    check_data(config, DEFAULTS["data"])
    _check_selection(config)


def _check_counts(config: dict) -> None:
    training = config["training"]
    for key in (*_COUNTS, *_COUNTS_OR_NULL):
        check_count(f"training.{key}", training[key], or_null=key in _COUNTS_OR_NULL)


def _check_ranges(config: dict) -> None:
    for name, (low, high) in _RANGES.items():
        block, _, key = name.partition(".")
        if not low <= config[block][key] <= high:
            limit = f"from {low} on" if math.isinf(high) else f"from {low} to {high}"
            raise UsageError(f"{name}: expected a number {limit}, found {config[block][key]}")
    choices = {
        "training.lr_scheduler_type": (config["training"]["lr_scheduler_type"], SCHEDULERS),
        "attn_implementation": (config["attn_implementation"], ATTENTION_FLAGS),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UsageError(f"{name}: unknown {value!r}{nearest(value, known)}")
    check_target_modules(config["lora"]["target_modules"])


def _check_training(config: dict) -> None:
    training = config["training"]
    is_positive = training["num_train_epochs"] > 0 and training["learning_rate"] > 0
    if not is_positive or training["max_steps"] == 0:
        raise UsageError(
            "training: num_train_epochs and learning_rate must be above 0, and max_steps too "
            "(or -1: as many steps as the epochs need)"
        )
    if config["full_finetuning"] and (config["load_in_4bit"] or config["load_in_8bit"]):
        raise UsageError(
            "full_finetuning trains the weights themselves, which 4-bit or 8-bit loading freezes; "
            "set one of them to false"
        )
    _check_averaging(training["average_last"])
    tracker = training["report_to"]
    if tracker not in TRACKERS:
        raise UsageError(f"training.report_to: expected one of {', '.join(TRACKERS)}, found {tracker!r}")
    package = TRACKERS[tracker]
    # Before the training: Trainer would only find out after the model is loaded.
    if package and importlib.util.find_spec(package) is None:
        raise UsageError(
            f"training.report_to: {package} is not installed; `pip install {package}`, or set report_to: none"
        )


def _check_averaging(n_points: int) -> None:
    if n_points < 0 or n_points == 1:
        raise UsageError(
            f"training.average_last: expected 0, or a number of save points from 2 on, found {n_points}"
        )
    if n_points and trains_sharded():
        raise UsageError(
            "training.average_last: not with FSDP, whose processes have parts of the weights; set it to 0"
        )


def _check_selection(config: dict) -> None:
    metric = config["training"]["metric_for_best"]
    known = (LOSS, *SELECTION_METRICS)
    if metric not in known:
        raise UsageError(f"training.metric_for_best: unknown {metric!r}{nearest(metric, known)}")
    # Without answers the metric would never appear, and no checkpoint would ever be the best.
    if metric != LOSS and not config["data"]["max_generated_val_samples"]:
        raise UsageError(
            f"training.metric_for_best: {metric} needs generated answers; "
            "set data.max_generated_val_samples, for example to 64"
        )
