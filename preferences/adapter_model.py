"""The model whose adapter `lora` of train_rm.py trains. It knows nothing about pairs or losses."""

import torch
from peft import PeftModel

from models.choices import LoadOptions
from models.float16 import widen_hidden_states
from models.hardware import choose_dtype, speed_up_training
from models.loading import load_model
from models.lora import add_lora, train_further
from utils.runs import note


def trainable(config: dict):
    """The base model with the adapter to train: the one that it has, or a new one."""
    options = LoadOptions(
        autocast=True,
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
    )
    name = config["base_model"]
    model = load_model(name, options)
    if isinstance(model, PeftModel):
        note(f"lora: training the adapter of {name} further; r, alpha and target_modules are its own")
        train_further(model)
    else:
        model = add_lora(model, name, config["lora"])
    if choose_dtype() == torch.float16:
        widen_hidden_states(model)
    return speed_up_training(model, config["attn_implementation"]).train()
