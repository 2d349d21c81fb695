"""What a model's files may not ask for: settings that would load other code than the installed libraries.

A model is a folder made by somebody else. Its weights are numbers, and its config chooses among the classes
of transformers and peft. What asks for more is refused here, before a library reads it; the weights' own
format is checked in models/folders.py.
"""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from utils.errors import DataError
from utils.jsonl import read_json_object

# Adapters of other kinds load further models that their config names (X-LoRA), tokenizers with arguments of
# their own (prompt tuning), or settings that no stage here would keep.
_PEFT_TYPE = "LORA"
# Keys of a LoRA config for which peft imports a module that the config names, or opens a file that it names.
_OTHER_CODE = ("megatron_config", "corda_config", "lora_ga_config")

# torch reads tensors and plain values of a pickle, and raises this for all else that one asks for. It is
# taken from torch, because no module here imports what reads pickles.
UnpicklingError = torch.serialization.pickle.UnpicklingError


@contextlib.contextmanager
def pickles_refused(name: str) -> Iterator[None]:
    """DataError in place of torch's error about weights that would run code."""
    try:
        yield
    except UnpicklingError as error:
        raise DataError(
            f"{name}: its weights are a pickle with more than tensors in it, which could run code and is not "
            "read; use a copy of the model in safetensors"
        ) from error


@contextlib.contextmanager
def adapter_settings_refused(folder: str) -> Iterator[None]:
    """DataError in place of peft's errors about the settings of an adapter."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise DataError(
            f"{folder}: its adapter_config.json does not fit its weights or peft ({reason:.160}); copy the "
            "whole folder again, or train the adapter again"
        ) from error


def check_adapter_config(folder: Path) -> None:
    """DataError for an adapter that is no LoRA adapter, or whose config asks for other code or files."""
    path = folder / "adapter_config.json"
    config = read_json_object(path)
    kind = config.get("peft_type")
    if kind != _PEFT_TYPE:
        raise DataError(
            f"{path}: adapters of peft_type {kind!r:.40} are not read, only {_PEFT_TYPE}; "
            "merge it into its base"
        )
    for key in _OTHER_CODE:
        if config.get(key):
            raise DataError(
                f"{path}: {key} would load a module or a file that the config names, which is not done; "
                "set it to null if the adapter is from somebody that you trust"
            )


def check_attention_of(config: Any, name: str) -> None:
    """DataError for a model whose config names an attention kernel of the hub, which is code.

    transformers loads the one of the config even where another attention is asked for.
    """
    parts = [config, *(getattr(config, part, None) for part in getattr(config, "sub_configs", {}))]
    for part in parts:
        kernel = getattr(part, "_attn_implementation", None)
        if isinstance(kernel, str) and "/" in kernel:
            raise DataError(
                f"{name}: its config.json asks for the attention kernel {kernel!r:.60}, code of the hub, "
                "which is not loaded; remove the key attn_implementation or _attn_implementation from it"
            )
