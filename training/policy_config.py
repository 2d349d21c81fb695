"""Keys and defaults of train_dpo.py's YAML, and the settings of the run that they and its SFT model give.

configs/dpo.yaml explains every key.
"""

import math
from pathlib import Path

from evidence.reserved import training_path
from models.base import base_for
from models.choices import ATTENTION_FLAGS
from models.directories import adapter_base, check_adapter_dir
from models.revisions import base_facts
from training.memory_config import SECOND_TYPES
from training.rows import COMPLETION_TOKENS
from training.sft_config import DEFAULTS as SFT_DEFAULTS
from training.sft_config import check_config
from utils.config import input_path, nearest
from utils.config_values import Defaults, check_count
from utils.errors import DataError, UsageError
from utils.json_values import is_number
from utils.jsonl import read_json_object
from utils.own_files import CHECKPOINT
from utils.shapes import read_if_there

# The losses of train_dpo.py.
LOSS_NAMES = ("dpo", "ipo", "rejection")
# What the weights of pairs may be balanced by (preferences/head_training.py).
BALANCED = ("group", "kind")
CANDIDATES = ("all", "sampled")
CHOSEN = ("right", "any")
# What runs of an earlier version did where a key of today was not yet there.
OF_OLDER_ROUNDS = {"base_model": None, "data": {"chosen": "any"}}

# Also the type of each key: a value from the YAML is converted to the type of its default.
_VALUES = {
    "sft_model": "checkpoints/sft/model/checkpoint-best",
    "base_model": None,
    "output_dir": "checkpoints/policy/model",
    "load_in_4bit": False,
    "load_in_8bit": False,
    "bf16": True,
    "trust_remote_code": False,
    "attn_implementation": "auto",
    "objective": {
        "loss": "dpo",
        "beta": 2.5,
        "length_normalized": True,
        "sft_weight": 1.0,
    },
    "keep": {"max_em_drop": 0.01, "max_answered_drop": 0.05},
    "lora": SFT_DEFAULTS["lora"],
    "training": {
        "per_device_train_batch_size": 4,
        "per_device_eval_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "learning_rate": 5e-5,
        "num_train_epochs": 1.0,
        "max_steps": -1,
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "lr_scheduler_type": "cosine",
        "logging_steps": 10,
        "eval_steps": 50,
        "save_steps": 50,
        "save_total_limit": 1,
        "gradient_checkpointing": False,
        "optim": "adamw_torch_fused",
        "max_grad_norm": 1.0,
        "liger_kernels": "auto",
        "metric_for_best": "eval_net_score",
        "early_stopping_patience": None,
        "report_to": "none",
        "seed": 42,
    },
    "data": {
        "val_path": "data/processed/val.jsonl",
        "max_pairs": None,
        "candidates": "all",
        "chosen": "right",
        "pair_weights": ["group", "kind"],
        "kind_weights": {},
        "val_fraction": 0.1,
        "max_generated_val_samples": 200,
        "max_calibration_samples": 200,
    },
}
POLICY_DEFAULTS = Defaults(_VALUES, SECOND_TYPES)

_RANGES = {
    "objective.sft_weight": (0, math.inf),
    "keep.max_em_drop": (0, 1),
    "keep.max_answered_drop": (0, 1),
    "data.val_fraction": (0.01, 0.5),
}


def check_policy_config(config: dict) -> None:
    """UsageError for values of the right type that make no sense."""
    objective = config["objective"]
    data = config["data"]
    choices = {
        "objective.loss": (objective["loss"], LOSS_NAMES),
        "data.candidates": (data["candidates"], CANDIDATES),
        "data.chosen": (data["chosen"], CHOSEN),
        "attn_implementation": (config["attn_implementation"], ATTENTION_FLAGS),
    }
    for name, (value, known) in choices.items():
        if value not in known:
            raise UsageError(f"{name}: unknown {value!r}{nearest(value, known)}")
    for name in data["pair_weights"]:
        if name not in BALANCED:
            raise UsageError(f"data.pair_weights: unknown {name!r}{nearest(str(name), BALANCED)}")
    for kind, value in data["kind_weights"].items():
        if not is_number(value) or value < 0:
            raise UsageError(f"data.kind_weights.{kind}: expected a number from 0 on, found {value!r}")
    if objective["beta"] <= 0:
        raise UsageError(f"objective.beta: expected a number above 0, found {objective['beta']}")
    for name, (low, high) in _RANGES.items():
        block, _, key = name.partition(".")
        if not low <= config[block][key] <= high:
            raise UsageError(f"{name}: expected a number from {low} to {high}, found {config[block][key]}")
    check_count("data.max_pairs", data["max_pairs"])
    if not data["max_generated_val_samples"]:
        raise UsageError(
            "data.max_generated_val_samples: a policy is kept by its answers; expected a number from 1 on"
        )
    # The rest has the rules of SFT.
    check_config(_as_sft(config, {}))


# --- the SFT model


def sft_facts(checkpoint: str, base_model: str | None = None, is_plan: bool = False) -> dict:
    """run.json of the SFT checkpoint that is trained further, with `base_model` where that is given.

    DataError if train_sft.py did not write it, or its base model is nowhere; UsageError if `base_model` is
    another one. `is_plan`: none, and a warning, where the checkpoint does not exist yet.
    """
    folder = input_path(checkpoint)
    if is_plan and not folder.is_dir():
        print(f"warning: sft_model: {folder} does not exist yet; train_sft.py writes it")
        return {}
    if not folder.is_dir():
        raise DataError(f"sft_model: {folder}: no such checkpoint; train it with train_sft.py first")
    check_adapter_dir(str(folder))
    path = folder / "run.json"
    facts = read_if_there(path, CHECKPOINT)
    lacking = [key for key in ("template", "base_model", "max_prompt_tokens") if facts.get(key) is None]
    if lacking:
        raise DataError(
            f"sft_model: {path} does not tell {', '.join(lacking)}; name a checkpoint that train_sft.py or "
            "train_dpo.py wrote, with its run.json"
        )
    base = base_for(str(folder), base_model, "--set base_model=DIR")
    facts = {**facts, "base_model": base or facts["base_model"]}
    if adapter_base(str(folder)) is None:
        # A full or merged model is the base of the adapter that is trained on it.
        facts |= base_facts(checkpoint)
    return facts


def _training_file(checkpoint: str, val_path: str) -> str:
    """The training data of the SFT run where its run.json is at hand, else the file beside `val_path`."""
    return training_path(checkpoint) or str(Path(val_path).with_name("train.jsonl"))


def _as_sft(config: dict, facts: dict) -> dict:
    """The settings with the keys of SFT, as the parts that both trainings share read them."""
    data = config["data"]
    answers = {key: data[key] for key in ("max_generated_val_samples", "max_calibration_samples")}
    shares = not config["training"]["gradient_checkpointing"]
    names = ("output_dir", "load_in_4bit", "load_in_8bit", "bf16", "trust_remote_code", "attn_implementation")
    length = facts.get("max_prompt_tokens", SFT_DEFAULTS["training"]["max_seq_length"]) + COMPLETION_TOKENS
    return {
        **SFT_DEFAULTS,
        **{name: config[name] for name in names},
        "lora": config["lora"],
        "model_name": facts.get("base_model", SFT_DEFAULTS["model_name"]),
        "training": {**SFT_DEFAULTS["training"], **config["training"], "max_seq_length": length},
        "data": {
            **SFT_DEFAULTS["data"],
            **answers,
            "val_path": data["val_path"],
            "template": facts.get("template", "default"),
            # The two completions of a pair share the reading of their prompt.
            "share_evidence": shares,
        },
    }


def run_config(config: dict, facts: dict) -> dict:
    """The settings of the whole run, with the keys of SFT too; `facts`: those of `sft_facts`."""
    whole = _as_sft(config, facts)
    whole["data"] = {
        **whole["data"],
        **config["data"],
        "train_path": _training_file(config["sft_model"], config["data"]["val_path"]),
    }
    adapter = input_path(config["sft_model"]) / "adapter_config.json"
    if adapter.is_file():
        found = read_json_object(adapter)
        lora = {
            "r": found["r"],
            "alpha": found["lora_alpha"],
            "target_modules": sorted(found["target_modules"]),
        }
        whole["lora"] = {**config["lora"], **lora}
    return {**config, **whole}
