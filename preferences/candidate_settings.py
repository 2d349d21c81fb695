"""Everything that changes the candidates' texts: what names a cache. The template is handed in."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from evidence.reserved import train_ids
from models.base import added_ends, base_for, model_key
from models.choices import attention_settings, engine_settings
from models.directories import check_adapter_dir
from models.hardware import choose_dtype
from preferences.cache import GENERATION_DEFAULTS
from utils.config import input_path, portable_path
from utils.decisions import decision_settings
from utils.errors import DataError, UsageError
from utils.input_files import unreadable_reason
from utils.jsonl import sha256_file, sha256_value
from utils.own_files import CHECKPOINT
from utils.shapes import manifest_in

# Of a checkpoint that does not tell its longest prompt.
_MAX_INPUT_TOKENS = 2048
# 2: one random number per token (generation/draws.py).
_DRAWS = 2


def n_candidates(settings: dict) -> int:
    """Candidates per model and sample."""
    # At temperature 0 each repetition is the same text.
    return settings["n_generations"] if settings["temperature"] > 0 else 1


def generation_settings(flags: dict, load_template: Callable[[str], str]) -> dict:
    """Everything that changes the texts, from the flags and the checkpoint, and the models' places.

    UsageError when no base model is known or the given one is another than the checkpoint's, DataError when
    checkpoint, base or data are missing.
    """
    checkpoint = check_adapter_dir(flags["sft_model"])
    trained = manifest_in(Path(checkpoint), CHECKPOINT)
    settings = sampling_settings(flags)
    # A checkpoint answers best in the format that it was trained on.
    settings["template"] = settings["template"] or trained.get("template", "default")
    # And to prompts of the lengths that it was trained on.
    longest = trained.get("max_prompt_tokens", _MAX_INPUT_TOKENS)
    settings["max_input_tokens"] = settings["max_input_tokens"] or longest
    base = base_for(checkpoint, flags["base_model"])
    if base is None:
        raise UsageError("--base-model is needed: the checkpoint names none")
    data_path = input_path(flags["data_path"])
    if reason := unreadable_reason(data_path, remedy="run build_data.py or correct --data-path"):
        raise DataError(f"{data_path}: {reason}")
    return settings | {
        "data_sha256": sha256_file(data_path),
        "sft_model": portable_path(flags["sft_model"]),
        "sft_key": model_key(checkpoint, base),
        "base_model": portable_path(base),
        "base_key": model_key(base),
        "template_text": load_template(settings["template"]),
        # Rounding differs by precision, and with it the sampled tokens.
        "precision": str(choose_dtype()),
        **attention_settings(flags.get("attn_impl")),
        **engine_settings(flags.get("engine")),
        **decision_settings(flags.get("decisions"), checkpoint),
        **_rare_settings(settings, checkpoint, base),
        **_policy_settings(flags),
    }


def sampling_settings(flags: dict) -> dict:
    """Whose candidates are taken, how many, and how they are drawn: the flags, or the defaults."""
    settings = {}
    for name, default in GENERATION_DEFAULTS.items():
        settings[name] = default if flags[name] is None else flags[name]
    settings["models"] = settings["models"] or _default_models(flags, settings)
    return settings


def _default_models(flags: dict, settings: dict) -> str:
    """Whose candidates are taken where no flag says it: enough models for two candidates per sample."""
    if flags.get("policy_model"):
        return "sft,policy"
    return "sft" if n_candidates(settings) > 1 else "sft,base"


def _policy_settings(flags: dict) -> dict[str, str]:
    """The policy and its key; nothing without one, so that other caches keep their names."""
    if not flags.get("policy_model"):
        return {}
    policy = check_adapter_dir(flags["policy_model"])
    return {"policy_model": portable_path(flags["policy_model"]), "policy_key": model_key(policy)}


def _rare_settings(settings: dict, checkpoint: str, base: str) -> dict:
    """What changes the texts of some models, or with some flags, alone: other caches keep their names."""
    ends = {"sft_ends": added_ends(checkpoint, base), "base_ends": added_ends(base)}
    found: dict[str, Any] = {name: value for name, value in ends.items() if value}
    if settings["temperature"] > 0:
        # Counted up when the same random numbers give other tokens.
        found["draws"] = _DRAWS
    if settings["unseen_only"]:
        # They decide which samples are drawn.
        found["train_ids"] = sha256_value(sorted(train_ids(checkpoint)))
    return found
