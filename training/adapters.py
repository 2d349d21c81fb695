"""What is trained and how: the model with its trainable parameters, and a stage's YAML as arguments of `transformers.Trainer`."""

import math
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from transformers import TrainingArguments

from models.distributed import Shards
from models.hardware import choose_dtype, speed_up_training, trains_sharded
from models.loading import LoadOptions, load_model
from utils.errors import UsageError


def load_trainable(config: dict):
    """The model of `model_name` ready to train: LoRA adapters in float32 on a frozen base or, with `full_finetuning`, all weights in float32."""
    full = config["full_finetuning"]
    quantised = config["load_in_4bit"] or config["load_in_8bit"]
    options = LoadOptions(
        # bfloat16 weights would lose small updates to rounding; autocast still computes in bfloat16.
        bf16=config["bf16"] and not full,
        autocast=config["bf16"],
        load_in_4bit=config["load_in_4bit"],
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
        place=not trains_sharded(),
    )
    model = load_model(config["model_name"], options)
    if isinstance(model, PeftModel):
        remedy = "fold it in first: train_sft.py -c ITS_YAML --merge DIR, then model_name: DIR"
        raise UsageError(
            f"model_name: {config['model_name']} is an adapter, which the new one would replace; {remedy}"
        )
    checkpointing = config["training"]["gradient_checkpointing"]
    if quantised:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    if not full:
        model = _with_lora(model, config)
        if checkpointing:
            model.enable_input_require_grads()
    model = speed_up_training(model, config["attn_implementation"])
    n_trained, n_all = (
        sum(p.numel() for p in model.parameters() if p.requires_grad or not trained)
        for trained in (True, False)
    )
    precision = (
        "4-bit"
        if config["load_in_4bit"]
        else "8-bit"
        if config["load_in_8bit"]
        else str(choose_dtype(config["bf16"])).removeprefix("torch.")
    )
    if Shards().is_main:
        print(
            f"training {n_trained:,} of {n_all:,} parameters, {precision}, attention {model.config._attn_implementation}",
            flush=True,
        )
    return model


def _with_lora(model, config: dict):
    """`model` frozen, with LoRA on the named projections, from layer `first_layer` on."""
    lora = config["lora"]
    layers = list(range(lora["first_layer"], model.config.num_hidden_layers)) if lora["first_layer"] else None
    adapter = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        layers_to_transform=layers,
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(model, adapter)
    except ValueError as error:
        raise UsageError(f"lora.target_modules do not fit {config['model_name']}: {error}") from error
    model.peft_config["default"].base_model_name_or_path = config["model_name"]
    return model


def training_arguments(config: dict, output_dir: Path, n_steps: int) -> TrainingArguments:
    """The YAML's `training` block for `transformers.Trainer`; warm-up in steps of the whole run."""
    training = config["training"]
    dtype = choose_dtype(config["bf16"])
    on_cuda = torch.cuda.is_available()
    same = (
        "per_device_train_batch_size",
        "per_device_eval_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "num_train_epochs",
        "max_steps",
        "weight_decay",
        "lr_scheduler_type",
        "logging_steps",
        "eval_steps",
        "save_steps",
        "gradient_checkpointing",
        "seed",
        "report_to",
    )
    arguments = TrainingArguments(
        output_dir=str(output_dir),
        **{key: training[key] for key in same},
        warmup_steps=math.ceil(n_steps * training["warmup_ratio"]),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        save_strategy="steps",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        log_level="error",
    )
    if (
        arguments.n_gpu > 1
    ):  # the library would take all of them for one process: larger batches than the YAML says, and DataParallel
        print(
            f"{arguments.n_gpu} GPUs, one is used; `accelerate launch train_sft.py ...` uses all", flush=True
        )
        arguments._n_gpu = 1
    return arguments


def steps_and_epochs(n_rows: int, training: dict, n_processes: int) -> tuple[int, float]:
    """Optimiser steps of the whole run, and the passes over the rows that they are; `max_steps` stands above `num_train_epochs`."""
    per_epoch = math.ceil(
        max(n_rows, 1)
        / (training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * n_processes)
    )
    n_steps = (
        training["max_steps"]
        if training["max_steps"] > 0
        else math.ceil(per_epoch * training["num_train_epochs"])
    )
    return n_steps, n_steps / per_epoch
