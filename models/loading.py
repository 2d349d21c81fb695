"""Models and tokenizers by name: hub id, directory, PEFT checkpoint or embedded model.

It resolves names and turns the libraries' errors into one line. models/hardware.py
tells it what the device can do; it does not know what a model is used for.
"""

import contextlib
import dataclasses
import functools
import logging
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as hf_logging

from models import untrusted
from models.base import base_for, check_loaded_base
from models.choices import LoadOptions
from models.directories import adapter_base, is_path, missing_checkpoint
from models.embedded import embedded_dir
from models.embedded_models import EMBEDDED_MODELS
from models.float16 import keep_in_range, leaves_float16
from models.hardware import choose_attention, choose_dtype, device, has_cuda, say_once
from models.hub_cache import load_from
from models.memory import describe_memory
from models.positions import check_max_seq_length
from models.quantization import keep_4bit_layout, quantization
from models.special_tokens import check_spelling, choose_chat_template, set_special_tokens
from models.suitable import check_architecture, check_weights
from utils.config import input_path
from utils.errors import DataError, OutOfMemory, StageError, is_out_of_memory
from utils.hub import check_reachable


def quiet_libraries() -> None:
    """Silence the model libraries below errors, and their progress bars."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def resolve_model(name: str) -> str:
    """A model name as `load_from` takes it: a directory, of embedded models too, else the hub id.

    DataError for a local path that does not exist.
    """
    if name in EMBEDDED_MODELS:
        return str(embedded_dir(name))
    local = input_path(name)
    if local.exists():
        return str(local)
    # It would be looked for on the hub in vain.
    if is_path(name):
        raise DataError(missing_checkpoint(local))
    return name


@contextlib.contextmanager
def _loading(name: str):
    """Replaces the exceptions of transformers for a model that cannot be loaded by errors of one line."""
    try:
        if not Path(resolve_model(name)).exists():
            check_reachable(name)
        with untrusted.pickles_refused(name):
            yield
    except StageError:
        raise
    # A damaged file makes the libraries raise anything.
    except Exception as error:
        raise _loading_error(name, error) from error


def _loading_error(name: str, error: Exception) -> StageError:
    """What a library raised while it loaded a model or a tokenizer, as an error of one line."""
    if is_out_of_memory(error):
        return OutOfMemory(
            f"{name}: does not fit on {describe_memory()}; load it in 4 or 8 bits, or choose a smaller model"
        )
    text = " ".join(str(error).split())
    if "trust_remote_code" in text:
        return StageError(
            f"{name}: needs code from the hub; set trust_remote_code: true in the YAML if you trust it"
        )
    if isinstance(error, OSError):
        return DataError(
            f"{name}: cannot be loaded from this machine or the hub; check name and revision, log in for "
            f"gated models, or use `embedded` ({text or type(error).__name__:.120})"
        )
    return DataError(
        f"{name}: its config, tokenizer or weights are damaged, do not fit each other, or are of a kind that "
        f"transformers cannot load; copy or download it again, or choose another model "
        f"({type(error).__name__}: {text:.200})"
    )


def load_tokenizer(name: str, trust_remote_code: bool = False, max_seq_length: int = 0):
    """The tokenizer of a model, padding on the left, with a pad token.

    DataError if it cannot be loaded, or lacks a token that the stages need; UsageError if the model has fewer
    positions than `max_seq_length`.
    """
    with _loading(name):
        resolved = resolve_model(name)
        tokenizer = AutoTokenizer.from_pretrained(**load_from(resolved), trust_remote_code=trust_remote_code)
    tokenizer.padding_side = "left"
    config = _model_config(resolved, trust_remote_code)
    choose_chat_template(tokenizer, name)
    set_special_tokens(tokenizer, name, getattr(config, "vocab_size", None))
    check_spelling(tokenizer, name)
    if config is not None:
        check_max_seq_length(config, name, max_seq_length)
    return tokenizer


def _model_config(resolved: str, trust_remote_code: bool) -> Any:
    """The config of the model, or of its part that reads text; None if it is not here."""
    # The base of an adapter may have moved: whoever loads the model says so.
    try:
        source = load_from(resolve_model(adapter_base(resolved) or resolved))
        return AutoConfig.from_pretrained(**source, trust_remote_code=trust_remote_code).get_text_config()
    except (OSError, ValueError, StageError):
        return None


def load_model(name: str, options: LoadOptions = LoadOptions()):
    """A causal LM on the device, in eval mode; a PEFT checkpoint gives its base with the adapter.

    DataError if the model cannot be found, StageError if it needs code from the hub, UsageError for an
    architecture that the stages cannot run.
    """
    quiet_libraries()
    resolved = resolve_model(name)
    if adapter_base(resolved) is not None:
        return _load_adapter(name, resolved, options)

    dtype = choose_dtype(options.bf16)
    quantized = quantization(options.load_in_4bit, options.load_in_8bit, dtype)
    # Without a device map the weights stay in main memory, which is the device of a CPU run.
    on_device = quantized is not None or (has_cuda() and options.place)
    with _loading(name):
        where = load_from(resolved)
        config = AutoConfig.from_pretrained(**where, trust_remote_code=options.trust_remote_code)
        check_architecture(config, name)
        untrusted.check_attention_of(config, name)
        attention = choose_attention(options.attention, config, half=options.bf16 or options.autocast)
        load = functools.partial(
            AutoModelForCausalLM.from_pretrained,
            **where,
            dtype=dtype,
            quantization_config=quantized,
            device_map={"": device()} if on_device else None,
            trust_remote_code=options.trust_remote_code,
            output_loading_info=True,
        )
        model, found = _load_with_attention(load, name, attention)
    check_weights(found, config, name)
    if options.load_in_4bit and not has_cuda():
        keep_4bit_layout(model)
    if dtype == torch.float16 and leaves_float16(config):
        keep_in_range(model)
    return model.eval()


def _load_with_attention(load: Callable, name: str, attention: str):
    """What `load(attn_implementation=...)` gives, with the next slower one where the model refuses it."""
    # A class whose code comes with the model tells only now what it does not support.
    slower = ["sdpa", "eager"] if attention != "sdpa" else ["eager"]
    for fallback in slower:
        try:
            return load(attn_implementation=attention)
        except (ValueError, ImportError) as error:
            if attention == "eager" or not re.search("attention|attn", str(error), re.IGNORECASE):
                raise
        say_once(f"attention: {name} does not take {attention}, using {fallback}")
        attention = fallback
    return load(attn_implementation=attention)


def _load_adapter(name: str, resolved: str, options: LoadOptions):
    """The base of a PEFT checkpoint with its adapter. UsageError if the base is another one than it had."""
    # peft takes a second to import, which models without an adapter need not wait for.
    from peft import PeftModel

    base = base_for(resolved, options.base_model)
    assert base is not None, "an adapter names its base"
    untrusted.check_adapter_config(Path(resolved))
    model = load_model(base, dataclasses.replace(options, base_model=None))
    check_loaded_base(resolved, base)
    # PEFT would read it to the first GPU, also in the other processes of a launch.
    where: dict[str, Any] = {"torch_device": str(model.device)}
    with _loading(name), untrusted.adapter_settings_refused(resolved), warnings.catch_warnings():
        warnings.filterwarnings("error", "Found missing adapter keys")
        try:
            return PeftModel.from_pretrained(model, resolved, autocast_adapter_dtype=False, **where).eval()
        except UserWarning as error:
            raise DataError(
                f"{resolved}: its files lack weights of the adapter, which would be as before any training; "
                f"copy the checkpoint again ({' '.join(str(error).split()):.160})"
            ) from error
        except RuntimeError as error:
            if "size mismatch" not in str(error):
                raise
            raise DataError(f"{resolved}: its adapter does not fit {base}, which has other layers") from error
