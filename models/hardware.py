"""Every choice that the device makes: precision, attention, merged adapters, kernels.

Three doors hide the kernels: `speed_up_generation`, `speed_up_training` and `token_losses`. No package but
`models` imports the module of a kernel, so a new device needs a file here, named for it, and a line in a
door. This module does not know how models are found or loaded.
"""

from collections.abc import Callable
from typing import Any

import torch

from models.choices import ATTENTION_FLAGS, ATTENTION_NAMES, LoadOptions
from models.cpu_attention import use_grouped_attention
from models.cpu_head import frozen_head, head_losses
from models.flash_attention import gpu_fault, kernel_fault, largest_head
from utils.errors import UsageError
from utils.launch import is_first_process
from utils.runs import note


def has_cuda() -> bool:
    """True where this process can use a GPU."""
    return torch.cuda.is_available()


def device() -> torch.device:
    """The device of this process, on CUDA with its index."""
    # Loaders may read a bare "cuda" as the first GPU, which every process of a launch would then share.
    if has_cuda():
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")


def compute_capability() -> tuple[int, int] | None:
    """The compute capability of this process's GPU, such as (8, 0); None where the driver does not tell."""
    try:
        return torch.cuda.get_device_capability()
    except (AssertionError, RuntimeError):
        return None


def has_fast_bf16() -> bool:
    """True where bfloat16 runs in hardware: NVIDIA GPUs from Ampere on, CPUs with AVX512-BF16 or AMX."""
    # Elsewhere it is emulated, up to 60 times slower.
    if has_cuda():
        return torch.cuda.is_bf16_supported(including_emulation=False)
    # Private names that older and newer versions of torch may lack; without them the safe answer is no.
    names = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    checks = [getattr(torch.cpu, name, None) for name in names]
    return any(check() for check in checks if check)


def choose_dtype(want_bf16: bool = True) -> torch.dtype:
    """The precision of weights and passes: float32, or half precision if `want_bf16` and the hardware has it.

    Half precision is bfloat16; without it the note names the fallback: float16 on CUDA, float32 on a CPU.
    """
    if not want_bf16:
        return torch.float32
    if has_fast_bf16():
        return torch.bfloat16
    fallback = torch.float16 if has_cuda() else torch.float32
    name = str(fallback).removeprefix("torch.")
    say_once(f"precision: no bfloat16 support on this machine, using {name}")
    return fallback


def weights_precision(options: LoadOptions) -> str:
    """`torch.bfloat16`, or with quantized weights `4-bit, torch.bfloat16`: by it a model's answers differ."""
    dtype = str(choose_dtype(options.bf16))
    if options.load_in_4bit:
        return f"4-bit, {dtype}"
    return f"8-bit, {dtype}" if options.load_in_8bit else dtype


def _is_soft_capped(config) -> bool:
    return getattr(config.get_text_config(), "attn_logit_softcapping", None) is not None


def supported_attention(config) -> set[str]:
    """What the model class of a config has besides eager, by the names of transformers."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    found = {"flash_attention_2", "flex_attention", "sdpa"}
    # A class whose code comes with the model is not in the table; loading it shows what it lacks.
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        # The table's type allows pairs of classes, which causal language models do not have.
        model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        # Some classes take the kernels of one maker alone (GPT-OSS: attention sinks).
        flash_kernels = model_class._compatible_flash_implementations or ["flash_attention_2"]
        # With it transformers lets the local layers of GPT-Neo see everything.
        is_local = "local" in getattr(config, "attention_layers", ())
        if is_local or not model_class._supports_flash_attn or "flash_attention_2" not in flash_kernels:
            found.discard("flash_attention_2")
        if not model_class._supports_flex_attn:
            found.discard("flex_attention")
        if not model_class._supports_sdpa:
            found.discard("sdpa")
    # Soft-capped scores (Gemma-2) have no SDPA kernel.
    return found - {"sdpa"} if _is_soft_capped(config) else found


def attention_fault(name: str, config, half: bool = True) -> str | None:
    """Why an implementation cannot run a model here (`half`: in half precision), or None; what to install."""
    if name == "eager":
        return None
    if name == "sdpa" and _is_soft_capped(config):
        return "it does not soft-cap scores"
    if name not in supported_attention(config):
        return f"{config.model_type} models do not have it"
    if name == "sdpa":
        return None
    if not has_cuda():
        return "needs a GPU"
    if name == "flex_attention":
        # Triton multiplies blocks of at least 16.
        return "takes heads of 16 dimensions or more" if largest_head(config) < 16 else None
    fault = gpu_fault(config, compute_capability()) if half else "takes no float32"
    # The kernels are looked up last: on a first use they may be loaded from the hub.
    return fault or kernel_fault(_is_soft_capped(config))


def choose_attention(flag: str, config, half: bool = True) -> str:
    """The attention implementation for a flag of `ATTENTION_FLAGS`; falls back, with a note, if unavailable.

    `auto` is FlashAttention 2 where it can run, else eager for soft-capped models and sdpa for others.
    `config` is the model's, `half` says that passes run in half precision. UsageError for an unknown flag.
    """
    if flag not in ATTENTION_FLAGS and flag not in ATTENTION_NAMES.values():
        raise UsageError(f"attention {flag!r} is unknown; choose one of {', '.join(ATTENTION_FLAGS)}")
    wanted = ATTENTION_NAMES.get(flag, flag)
    # Asked one after another: who wants eager or sdpa needs no kernels from the hub.
    fault = None if flag == "auto" else attention_fault(wanted, config, half)
    if flag != "auto" and not fault:
        return wanted
    # Flex never: it compiles for each new shape until torch gives up, and then computes all scores.
    missing = attention_fault("flash_attention_2", config, half)
    slower = "eager" if attention_fault("sdpa", config) else "sdpa"
    fastest = slower if missing else "flash_attention_2"
    if flag != "auto":
        say_once(f"attention: {wanted} is not available, using {fastest} ({fault})")
    elif has_cuda() and "pip install" in (missing or ""):
        say_once(f"attention: using {fastest}; flash_attention_2 would be faster ({missing})")
    # Of a soft-capped model it is known, and on a CPU our own kernel replaces eager.
    elif fastest == "eager" and not _is_soft_capped(config):
        say_once(f"attention: {config.model_type} models have no sdpa in transformers, using eager")
    return fastest


# A model and its adapter, or an SFT model and its base, choose twice; one note is enough.
_SAID: set[str] = set()


def say_once(line: str) -> None:
    """Print a note the first time, from the first process of a launch alone."""
    if line not in _SAID and is_first_process():
        _SAID.add(line)
        note(line)


def merge_for_speed(model):
    """The model with a float32 adapter folded into its base (exact to rounding) until it is disabled."""
    # Unmerged, the adapter's small products nearly halve the decoding speed. In half precision folding would
    # round part of the adapter away (most of a small one), and the base would not come back to the bit when
    # the adapter is disabled, so the model stays as it is.
    is_float32 = all(p.dtype == torch.float32 for p in model.parameters())
    if hasattr(model, "merge_adapter") and is_float32:
        model.merge_adapter()
    return model


def speed_up_generation(model, attention: str = "auto"):
    """The model with the fastest kernels for passes without gradients."""
    if hasattr(model, "peft_config"):
        # peft takes a second to import; runs without an adapter never need it.
        if has_cuda():
            from models.cuda_lora import fuse_adapters

            fuse_adapters(model)
        else:
            from models.cpu_layers import speed_up_layers

            # As in training, so that a checkpoint answers as it did in the process that trained it.
            speed_up_layers(model)
    # With any flag but "auto" the model keeps the attention that it was loaded with.
    return use_grouped_attention(model) if attention == "auto" else model


def speed_up_training(model, attention: str = "auto", liger: str | bool = "auto"):
    """The model with the fastest kernels for training; only "auto" may change its attention.

    `liger`: on CUDA, Liger's kernels: "auto" where they are installed, True (with a note where they cannot be
    used) or False.
    """
    # The device of the process, because under FSDP the model is still in main memory here.
    if device().type != "cpu":
        from models.cuda_liger import use_liger_kernels

        if liger and (fault := use_liger_kernels(model)):
            say_once(f"Liger: {fault}, training without its kernels")
        return model
    if liger is True:
        say_once("Liger: its kernels are for CUDA only, training without them")
    # As above.
    from models.cpu_layers import speed_up_layers

    speed_up_layers(model)
    return use_grouped_attention(model) if attention == "auto" else model


def token_losses(model, logits_of: Callable[[], torch.Tensor], targets: torch.Tensor) -> torch.Tensor:
    """-log p of each target: (n,), float32, from the fastest kernel for the model's head.

    `logits_of` runs the model and returns its logits (n, vocab) at the positions before `targets` (n,).
    """
    if head := frozen_head(model):
        return head_losses(head, logits_of, targets)
    return torch.nn.functional.cross_entropy(logits_of().float(), targets, reduction="none")
