"""How far the training of a reward's adapter is, in one file that is whole or absent."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from utils.atomic import atomic_write


def save_state(
    path: Path, weights: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer, schedule: Any, facts: dict
) -> None:
    """Write the weights and all that the next step depends on; `facts` are values that JSON can hold."""
    tensors = {}
    for i, weight in enumerate(weights):
        tensors[f"{i}.weight"] = weight.detach().cpu().contiguous()
    state = optimizer.state_dict()
    for i, values in state["state"].items():
        for name, value in values.items():
            tensors[f"{i}.optimizer.{name}"] = value.detach().cpu().contiguous()
    others = {"groups": state["param_groups"], "schedule": schedule.state_dict(), "facts": facts}
    with atomic_write(path, "wb") as handle:
        handle.write(save(tensors, metadata={"state": json.dumps(others)}))


def load_state(
    path: Path, weights: Sequence[torch.Tensor], optimizer: torch.optim.Optimizer, schedule: Any
) -> dict:
    """Put a saved state into these objects; returns its facts."""
    tensors = load_file(path)
    with safe_open(path, framework="pt") as handle:
        others = json.loads(handle.metadata()["state"])
    of_optimizer: dict[int, dict[str, torch.Tensor]] = {}
    for name, tensor in tensors.items():
        number, _, key = name.partition(".optimizer.")
        if key:
            of_optimizer.setdefault(int(number), {})[key] = tensor
    with torch.no_grad():
        for i, weight in enumerate(weights):
            weight.copy_(tensors[f"{i}.weight"])
    optimizer.load_state_dict({"state": of_optimizer, "param_groups": others["groups"]})
    schedule.load_state_dict(others["schedule"])
    return others["facts"]
