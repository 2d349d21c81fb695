"""The settings of train_rm.py: every key of its YAML with the default, which also fixes the type."""

from models.choices import ATTENTION_FLAGS
from models.lora_keys import LORA_TARGETS, check_target_modules
from utils.config import errors_of, load_config, nearest
from utils.config_values import MAX_SEED, Defaults, check_prompt_room
from utils.errors import UsageError

# Tokens of max_seq_length that are kept free for a completion and the token that ends it. The length
# penalty is at its maximum from 128 tokens on, so cutting a longer completion does not hide its length from
# the reward.
COMPLETION_TOKENS = 160
POOLINGS = ("last", "mean", "answer")
# What is kept of a reading; heads of older versions name none of these, and mean the defaults.
FEATURE_KEYS = ("feature_layers", "pooling", "logprob_features")

_VALUES = {
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
    "refusal_penalty_weight": 0.0,
    # Shares of the pairs, by group: val chooses the checkpoint, test has the reported metrics.
    "val_fraction": 0.15,
    "test_fraction": 0.15,
    # What is kept of a reading: states at these shares of the layers (1 is the last), pooled in these ways,
    # and log-probabilities of its parts with and without their evidence.
    "feature_layers": [1.0],
    "pooling": ["last"],
    "logprob_features": False,
    # Of the loss: the share of a pair's margin that its scores must differ by, the weight of the squared sum
    # of its scores, what weighs alike. Then the width of a hidden layer of the head; 0 is a linear head.
    "margin_scale": 1.0,
    "centering": 0.01,
    "pair_weights": ["group", "kind"],
    "head_width": 0,
    # An adapter that is trained before the head: r 0 is none. Its steps are of batch_size prompts with all
    # their pairs.
    "lora": {
        "r": 0,
        "alpha": 32,
        "dropout": 0.0,
        "target_modules": LORA_TARGETS,
        "first_layer": 0,
        "use_rslora": False,
        "learning_rate": 1e-4,
        "num_epochs": 1,
        "batch_size": 8,
        "save_steps": 20,
    },
    "template": "default",
    "attn_implementation": "auto",
    "trust_remote_code": False,
}
DEFAULTS = Defaults(_VALUES, {"lora.target_modules": str})

_COUNTS = (
    *("batch_size", "eval_batch_size", "num_epochs", "gradient_accumulation_steps", "max_seq_length"),
    *("eval_steps", "save_steps", "logging_steps"),
)


def reading_of(saved: dict) -> dict:
    """The keys of a config that decide what a head with this config.json reads."""
    # Heads of earlier versions do not say in how many bits their base was read.
    names = {key: saved[key] for key in ("template", "max_seq_length", "load_in_8bit") if key in saved}
    return names | {key: saved.get(key, DEFAULTS[key]) for key in FEATURE_KEYS}


def _check_lora(lora: dict) -> None:
    for name in ("num_epochs", "batch_size", "save_steps", "alpha"):
        if lora[name] < 1:
            raise UsageError(f"lora.{name}: expected a whole number from 1 on, found {lora[name]}")
    for name in ("r", "first_layer"):
        if lora[name] < 0:
            raise UsageError(f"lora.{name}: expected a whole number from 0 on, found {lora[name]}")
    if lora["learning_rate"] <= 0:
        raise UsageError(f"lora.learning_rate: expected a number above 0, found {lora['learning_rate']}")
    if not 0 <= lora["dropout"] < 1:
        raise UsageError(f"lora.dropout: expected a number from 0 to below 1, found {lora['dropout']}")
    check_target_modules(lora["target_modules"])


def _check_values(config: dict) -> None:
    """UsageError for values of the right type that make no sense."""
    for name in _COUNTS:
        if config[name] < 1:
            raise UsageError(f"{name}: expected a whole number from 1 on, found {config[name]}")
    check_prompt_room("max_seq_length", config["max_seq_length"], COMPLETION_TOKENS)
    if config["learning_rate"] <= 0:
        raise UsageError(f"learning_rate: expected a number above 0, found {config['learning_rate']}")
    for name in (
        "weight_decay",
        "margin_scale",
        "centering",
        "head_width",
        *(key for key in DEFAULTS if key.endswith("_penalty_weight")),
    ):
        if not config[name] >= 0:
            raise UsageError(f"{name}: expected a number from 0 on, found {config[name]}")
    # numpy draws the split with it.
    if not 0 <= config["seed"] <= MAX_SEED:
        raise UsageError(f"seed: expected a number from 0 to {MAX_SEED}, found {config['seed']}")
    if not 0 <= config["warmup_ratio"] <= 1:
        raise UsageError(f"warmup_ratio: expected a number from 0 to 1, found {config['warmup_ratio']}")
    if config["attn_implementation"] not in ATTENTION_FLAGS:
        value = config["attn_implementation"]
        raise UsageError(f"attn_implementation: unknown {value!r}{nearest(value, ATTENTION_FLAGS)}")
    depths = config["feature_layers"]
    if not depths or not all(isinstance(depth, (int, float)) and 0 < depth <= 1 for depth in depths):
        raise UsageError(f"feature_layers: expected shares of the layers above 0, up to 1, found {depths}")
    unknown = [name for name in config["pooling"] if name not in POOLINGS]
    # Without states, the log-probabilities are all that a head sees.
    if unknown or not (config["pooling"] or config["logprob_features"]):
        raise UsageError(f"pooling: expected some of {', '.join(POOLINGS)}, found {config['pooling']}")
    if unknown := [name for name in config["pair_weights"] if name not in ("group", "kind")]:
        raise UsageError(f"pair_weights: expected some of group, kind, found {unknown[0]!r}")
    _check_lora(config["lora"])
    fractions = [config["val_fraction"], config["test_fraction"]]
    # Train gets what is left, and none of the three may be empty.
    if not (min(fractions) > 0 and sum(fractions) < 1):
        raise UsageError("val_fraction and test_fraction must be above 0 and add up to less than 1")


def load_reward_config(path: str, overrides: list[str]) -> dict:
    """The YAML over the defaults, then `--set` overrides. UsageError names a wrong key, type or value."""
    config = load_config(path, DEFAULTS, overrides)
    with errors_of(path, overrides):
        _check_values(config)
    return config
