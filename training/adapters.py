"""Builds the trainable model (LoRA, old or new, or full), and merges a trained adapter into its base.

It knows which weights are trained; it knows nothing about rows or losses.
"""

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from peft import PeftModel

from models.distributed import note_in_first_process
from models.float16 import widen_hidden_states
from models.hardware import choose_dtype, speed_up_training
from models.loading import LoadOptions, load_model
from models.lora import add_lora, train_further
from models.memory import release_memory
from training.inputs import is_adapter
from training.whole import mark_whole
from utils.config import portable_path
from utils.errors import OutOfMemory, StageError, UsageError
from utils.launch import trains_sharded
from utils.moving import move_folder
from utils.own_files import CHECKPOINT
from utils.shapes import read_shaped

# In float32, merging only changes the order of additions; a larger gap means that something else changed.
MAX_LOGIT_GAP = 1e-2


# --- the model


def load_trainable(config: dict):
    """The model of `model_name`, ready to train.

    LoRA adapters in float32 on a frozen base or, with `full_finetuning`, all weights in float32. UsageError
    if `model_name` is itself an adapter, or has no layers with the names in `lora.target_modules`.
    """
    model = load_model(config["model_name"], _options(config))
    if isinstance(model, PeftModel):
        # Of the hub: a folder is refused before.
        raise is_adapter(config["model_name"])
    # Not PEFT's `prepare_model_for_kbit_training`, whose float32 embeddings, output layer and norms take 2 to
    # 4 GB more, and make every activation float32. `get_peft_model` freezes the base.
    if not config["full_finetuning"]:
        model = add_lora(model, config["model_name"], config["lora"])
    return _ready(model, config)


def load_policy(config: dict, checkpoint: str):
    """An SFT checkpoint, ready to be trained further: its own adapter or, of a full model, a new one."""
    model = load_model(checkpoint, dataclasses.replace(_options(config), base_model=config["base_model"]))
    if isinstance(model, PeftModel):
        train_further(model)
        # Where the base is now, which the policy's checkpoints name.
        model.peft_config["default"].base_model_name_or_path = portable_path(config["model_name"])
    else:
        model = add_lora(model, checkpoint, config["lora"])
    return _ready(model, config)


def _options(config: dict) -> LoadOptions:
    return LoadOptions(
        # bfloat16 weights would lose small updates to rounding; autocast still computes in bfloat16.
        bf16=config["bf16"] and not config["full_finetuning"],
        autocast=config["bf16"],
        load_in_4bit=config["load_in_4bit"],
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
        # Under FSDP the whole model may not fit one device; accelerate moves it there layer by layer.
        place=not trains_sharded(),
    )


def _ready(model, config: dict):
    """The model with all that its training needs beside its trained weights."""
    # The embeddings are frozen, so without this no input of a recomputed layer would need a gradient.
    if config["training"]["gradient_checkpointing"] and not config["full_finetuning"]:
        model.enable_input_require_grads()
    # Of any model: a training that overflows once is lost.
    if choose_dtype(config["bf16"]) == torch.float16:
        widen_hidden_states(model)
    model = speed_up_training(model, config["attn_implementation"], config["training"]["liger_kernels"])
    note_in_first_process([_describe_model(model, config)])
    return model


def _describe_model(model, config: dict) -> str:
    n_all = sum(p.numel() for p in model.parameters())
    n_trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    attention = model.config._attn_implementation
    return f"training {n_trained:,} of {n_all:,} parameters, {_precision(config)}, attention {attention}"


def _precision(config: dict) -> str:
    if config["load_in_4bit"]:
        return "4-bit"
    if config["load_in_8bit"]:
        return "8-bit"
    return str(choose_dtype(config["bf16"])).removeprefix("torch.")


# --- the merge


@torch.inference_mode()
def last_logits(model, prompts: list[list[int]]) -> torch.Tensor:
    """Logits of the next token after each prompt: (n_prompts, vocab), float32, on the CPU."""
    rows = []
    for ids in prompts:
        logits = model(input_ids=torch.tensor([ids], device=model.device), logits_to_keep=1).logits
        rows.append(logits[:, -1].float().cpu())
    return torch.cat(rows)


def merge_checkpoint(
    checkpoint: Path,
    target: Path,
    prompts: list[list[int]],
    options: LoadOptions,
    dtype: torch.dtype,
    finish: Callable[[Path], dict],
) -> dict:
    """Write a LoRA checkpoint, merged into its base, to `target`: one model of this type in safetensors.

    `options`: where the base is, and whether its code is trusted; all is loaded in float32.
    `finish` gets the written weights before they have their name, adds a tokenizer, and returns more facts.
    Returns the largest logit gap in float32 and these facts. StageError, and nothing written, for float32
    logits that differ by more than `MAX_LOGIT_GAP`.
    """
    model = _load_adapter(checkpoint, dataclasses.replace(options, bf16=False))
    expected = last_logits(model, prompts)
    model = model.merge_and_unload()
    gap = (last_logits(model, prompts) - expected).abs().max().item()
    if gap > MAX_LOGIT_GAP:
        raise StageError(
            f"--merge: logits of the merged model differ by {gap:.3g} in float32 (limit {MAX_LOGIT_GAP}); "
            "nothing was written"
        )
    model = model.to(dtype)
    run = read_shaped(checkpoint / "run.json", CHECKPOINT)
    facts = {key: value for key, value in run.items() if key not in ("files", "hashes", "status")}
    # The target appears in one rename, so that a cut leaves no half-written model under its name.
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        model.save_pretrained(partial)
        # `finish` loads what was written.
        del model
        release_memory()
        comparison: dict = {"max_logit_gap_float32": gap, "dtype": str(dtype).removeprefix("torch.")}
        comparison |= finish(partial)
        # What the model was trained on belongs to it: an evaluation warns of samples that it has seen.
        if (checkpoint.parent / "train_ids.txt").is_file():
            shutil.copyfile(checkpoint.parent / "train_ids.txt", partial / "train_ids.txt")
        mark_whole(partial, {**facts, "merged_from": portable_path(checkpoint), "merge": comparison})
        move_folder(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return comparison


def _load_adapter(checkpoint: Path, options: LoadOptions) -> PeftModel:
    """The checkpoint in float32, where merging is exact to rounding. UsageError if it is a full model."""
    try:
        model = load_model(str(checkpoint), options)
    except OutOfMemory as error:
        raise StageError(
            f"--merge: {checkpoint} does not fit the GPU in float32; "
            "put CUDA_VISIBLE_DEVICES= before the command to merge in main memory"
        ) from error
    if not isinstance(model, PeftModel):
        raise UsageError(f"{checkpoint}: this is a full model, so there is nothing to merge")
    return model
