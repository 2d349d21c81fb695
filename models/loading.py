"""Models and tokenizers by name: hub id, directory, PEFT checkpoint or `embedded`. Precision, quantisation and attention are chosen here."""

import contextlib
import gc
import json
import logging
import os
import warnings
from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig
from transformers.utils import logging as hf_logging

from models.embedded import EMBEDDED, embedded_dir
from utils.config import input_path
from utils.errors import DataError, StageError, UsageError

ATTENTION_FLAGS = ("auto", "eager", "sdpa", "flash2", "flash_attention_2", "flex")


def quiet_libraries() -> None:
    """Model libraries say warnings and worse; their progress bars of loading are ours to draw."""
    hf_logging.set_verbosity_error()
    hf_logging.disable_progress_bar()
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")


def resolve_model(name: str) -> str:
    """A model name as transformers loads it: the directory for `embedded` and for local paths, else the hub id."""
    if name == EMBEDDED:
        return str(embedded_dir())
    local = input_path(name)
    if local.exists():
        return str(local)
    if name.startswith((".", "/", "~")) or name.count("/") > 1:
        raise DataError(_missing_checkpoint(local))
    return name


def _missing_checkpoint(path: Path) -> str:
    present = sorted(path.parent.glob("checkpoint-*")) or sorted(path.parent.glob("*/checkpoint-best"))
    if not present:
        return f"{path}: no such checkpoint, and {path.parent} holds none; train one with train_sft.py"
    best = next((p for p in present if p.name == "checkpoint-best"), present[-1])
    return f"{path}: no such checkpoint; {path.parent} holds {', '.join(str(p.relative_to(path.parent)) for p in present)}; use {best}"


def adapter_base(name: str) -> str | None:
    """The base model that a PEFT checkpoint directory names; None when `name` is no such directory."""
    config = Path(name) / "adapter_config.json"
    return (
        json.loads(config.read_text(encoding="utf-8"))["base_model_name_or_path"]
        if config.is_file()
        else None
    )


def check_adapter_dir(name: str) -> str:
    """The directory of a model to evaluate: a PEFT checkpoint or a full model. DataError says what is missing."""
    path = input_path(name)
    if not path.is_dir():
        raise DataError(_missing_checkpoint(path))
    if not (path / "adapter_config.json").is_file() and not (path / "config.json").is_file():
        inside = sorted(p.name for p in path.glob("checkpoint-*"))
        hint = (
            f"it holds {', '.join(inside)}: name one of them"
            if inside
            else "it was not written by train_sft.py"
        )
        raise DataError(
            f"{path}: holds neither an adapter (adapter_config.json) nor a model (config.json); {hint}"
        )
    return str(path)


@contextlib.contextmanager
def _loading(name: str):
    """What transformers raises when a model cannot be loaded, as one line."""
    try:
        yield
    except (OSError, ValueError) as error:
        text = str(error).strip() or type(error).__name__
        if "trust_remote_code" in text:
            raise StageError(
                f"{name}: needs code from the hub; set trust_remote_code: true in the YAML if you trust it"
            ) from error
        if isinstance(error, OSError):
            what = "cannot be loaded from this machine or the hub"
            raise DataError(
                f"{name}: {what}; check the name, log in for gated models, or use `embedded` ({text.splitlines()[0]:.120})"
            ) from error
        raise


def device() -> torch.device:
    """This process's own: a bare "cuda" may be read as the first GPU by loaders, and every process of a launch would share it."""
    return (
        torch.device("cuda", torch.cuda.current_device())
        if torch.cuda.is_available()
        else torch.device("cpu")
    )


def has_fast_bf16() -> bool:
    """bfloat16 in hardware: Ampere or newer, or a CPU with AVX512-BF16 or AMX. Elsewhere it is emulated, up to 60 times slower."""
    if torch.cuda.is_available():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private names that older and newer versions of torch may lack; without them the safe answer is no.
    checks = [
        getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    ]
    return any(check() for check in checks if check)


def choose_dtype(want_bf16: bool = True) -> torch.dtype:
    """bfloat16 where the hardware has it, else float16 on CUDA and float32 on CPU; a change from the wish is printed."""
    if not want_bf16:
        return torch.float32
    if has_fast_bf16():
        return torch.bfloat16
    fallback = torch.float16 if torch.cuda.is_available() else torch.float32
    _say_once(f"precision: no bfloat16 hardware here, taking {str(fallback).removeprefix('torch.')}")
    return fallback


def choose_attention(flag: str, config, half: bool = True) -> str:
    """The attention implementation for a flag, with what is there; a fall-back is printed in one line. `half`: passes run in half precision."""
    wanted = {"flash2": "flash_attention_2", "flex": "flex_attention"}.get(flag, flag)
    soft_capped = getattr(config, "attn_logit_softcapping", None) is not None
    has_flash = (
        half and torch.cuda.is_available() and _is_installed("flash_attn")
    )  # its kernels take no float32
    if wanted == "auto":
        wanted = (
            "flash_attention_2"
            if has_flash
            else ("flex_attention" if torch.cuda.is_available() else "eager")
            if soft_capped
            else "sdpa"
        )
    usable = {
        "flash_attention_2": has_flash,
        "flex_attention": torch.cuda.is_available(),
        # Soft-capped scores (Gemma-2) have no SDPA kernel.
        "sdpa": not soft_capped,
        "eager": True,
    }
    if wanted not in usable:
        raise UsageError(f"attention {flag!r} is unknown; choose one of {', '.join(ATTENTION_FLAGS)}")
    chosen = wanted if usable[wanted] else choose_attention("auto", config, half)
    if chosen != wanted:
        _say_once(f"attention: {wanted} is not usable here, taking {chosen}")
    return chosen


def _is_installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


_SAID: set[str] = set()


def _say_once(line: str) -> None:
    if line not in _SAID and int(os.environ.get("RANK", 0)) == 0:
        _SAID.add(line)
        print(line, flush=True)


def load_tokenizer(name: str, trust_remote_code: bool = False):
    """Tokenizer, left-padding, with a pad token (EOS where there is none; padding is masked everywhere)."""
    with _loading(name):
        tokenizer = AutoTokenizer.from_pretrained(resolve_model(name), trust_remote_code=trust_remote_code)
    tokenizer.padding_side = "left"
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def quantization(
    load_in_4bit: bool, load_in_8bit: bool, compute_dtype: torch.dtype
) -> BitsAndBytesConfig | None:
    """NF4 with double quantisation (Dettmers et al., 2023) or LLM.int8 (Dettmers et al., 2022); None for neither."""
    if load_in_4bit and load_in_8bit:
        raise UsageError("load_in_4bit and load_in_8bit are both true; choose one")
    if load_in_4bit:
        kind = {
            "bnb_4bit_quant_type": "nf4",
            "bnb_4bit_use_double_quant": True,
            "bnb_4bit_compute_dtype": compute_dtype,
        }
        return BitsAndBytesConfig(load_in_4bit=True, **kind)
    return BitsAndBytesConfig(load_in_8bit=True) if load_in_8bit else None


def trains_sharded() -> bool:
    """True in a process of a launch whose accelerate config says FSDP."""
    return os.environ.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def load_model(
    name: str,
    *,
    bf16=True,
    load_in_4bit=False,
    load_in_8bit=False,
    attention: str = "auto",
    trust_remote_code=False,
    place=True,
    autocast=False,
):
    """A causal LM in eval mode on the device; a PEFT checkpoint directory loads its base and the adapter (a PeftModel).

    Without `place` it stays in main memory, for FSDP to move it layer by layer: whole, it may not fit the device. `autocast`: its passes
    will run in half precision whatever its weights are.
    """
    quiet_libraries()
    resolved = resolve_model(name)
    base = adapter_base(resolved)
    if base is not None:
        from peft import PeftModel

        options = {
            "load_in_4bit": load_in_4bit,
            "load_in_8bit": load_in_8bit,
            "trust_remote_code": trust_remote_code,
            "place": place,
        }
        model = load_model(base, bf16=bf16, attention=attention, autocast=autocast, **options)
        with _loading(name):
            return PeftModel.from_pretrained(model, resolved, autocast_adapter_dtype=False).eval()
    dtype = choose_dtype(bf16)
    with _loading(name):
        config = AutoConfig.from_pretrained(resolved, trust_remote_code=trust_remote_code)
        model = AutoModelForCausalLM.from_pretrained(
            resolved,
            dtype=dtype,
            quantization_config=quantization(load_in_4bit, load_in_8bit, dtype),
            attn_implementation=choose_attention(attention, config, half=bf16 or autocast),
            device_map={"": device()}
            if load_in_4bit or load_in_8bit or (torch.cuda.is_available() and place)
            else None,
            trust_remote_code=trust_remote_code,
        )
    if load_in_4bit and not torch.cuda.is_available():
        _keep_4bit_layout(model)
    return model.eval()


def _keep_4bit_layout(model) -> None:
    """Stop bitsandbytes from repacking 4-bit weights on a CPU with AVX512-BF16: it does so in any pass without gradients, and
    the training passes after it then lose most of their gradient (0.50.2; a test compares the norms)."""
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def merge_for_speed(model):
    """Fold a float32 adapter into its base for generation (exact to rounding); disabling the adapter takes it out again."""
    is_float32 = all(p.dtype == torch.float32 for p in model.parameters())
    if hasattr(model, "merge_adapter") and is_float32:
        model.merge_adapter()
    return model


def model_revision(model) -> str | None:
    """The hub commit of a loaded model, None for local weights."""
    return getattr(model.config, "_commit_hash", None)


def release_memory() -> None:
    """Give back what deleted models held."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
