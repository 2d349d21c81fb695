"""Which layers of a model the names in lora.target_modules adapt, and what is said about names it lacks.

It knows the names of layers, not how an adapter works.
"""

import re

from torch import nn
from transformers.pytorch_utils import Conv1D

from utils.config_values import check_first_layer
from utils.errors import UsageError


def choose_targets(
    model, name: str, wanted: list[str] | str, defaults: list[str]
) -> tuple[list[str], str | None]:
    """(the names of the layers to adapt, a line about what `model` lacks; None if it has all names).

    A name fits a layer whose path is the name, or ends with a point and the name. The text `all-linear`, and
    the `defaults` in a model that has none of them, are all its own layers. UsageError if it has none of
    other names.
    """
    if isinstance(wanted, str):
        return layer_names(model), None
    paths = [path for path, _ in _text_modules(model)]
    missing = [target for target in wanted if not any(_fits(path, target) for path in paths)]
    if not missing:
        return wanted, None
    others = [layer for layer in layer_names(model) if layer not in wanted]
    start = f"lora.target_modules: {name} has no {', '.join(missing)}"
    if len(missing) < len(wanted):
        found = [target for target in wanted if target not in missing]
        line = f"warning: {start}; training {', '.join(found)} alone"
        if others:
            # Fused projections (Phi-3) have other names, and leaving them out halves what is trained.
            line += f"; its other layers are {', '.join(others)}: name them too if they should be trained"
        return found, line
    # The default names mean all projections; architectures of other families name them differently.
    if others and sorted(wanted) == sorted(defaults):
        return others, f"{start}; training its own layers instead: {', '.join(others)}"
    raise UsageError(f"{start}; its layers are {', '.join(others)}")


def _fits(path: str, target: str) -> bool:
    # The rule of PEFT for a list of names.
    return path == target or path.endswith(f".{target}")


def layer_names(model) -> list[str]:
    """The last names of the layers that LoRA can adapt, in the model's order, without its output layer."""
    output = model.get_output_embeddings()
    names = []
    for path, module in _text_modules(model):
        if isinstance(module, (nn.Linear, Conv1D)) and module is not output:
            # A number is a place in a list, such as that of experts.
            parts = [part for part in path.split(".") if not part.isdigit()]
            names.append(parts[-1])
    return list(dict.fromkeys(names))


def _text_model(model) -> str:
    """The path of the part that reads text, with a final point; empty if the model has no other part."""
    text = model.get_decoder() if hasattr(model, "get_decoder") else model
    path = next((f"{path}." for path, module in model.named_modules() if module is text and path), "")
    output = model.get_output_embeddings()
    for other, module in model.named_modules():
        if isinstance(module, nn.Linear) and module is not output and not other.startswith(path):
            return path
    return ""


def _text_modules(model) -> list[tuple[str, nn.Module]]:
    start = _text_model(model)
    return [(path, module) for path, module in model.named_modules() if path.startswith(start)]


def excluded_layers(model) -> str | None:
    """A pattern of the layers that get no adapter whatever their names are; None if there are none.

    Models that read images too (Gemma-3) have the same names in their image part, which no text reaches: its
    adapters would never have a gradient.
    """
    start = _text_model(model)
    return rf"(?!{re.escape(start)}).*" if start else None


def has_transposed_layers(model) -> bool:
    """True if the weights of its layers are (inputs, outputs), as in GPT-2; PEFT would only find out late."""
    return any(isinstance(module, Conv1D) for module in model.modules())


def adapted_layers(model, name: str, first_layer: int) -> list[int] | None:
    """The numbers of the layers from `first_layer` on; None for all. UsageError if there are none."""
    if not first_layer:
        return None
    n_layers = model.config.get_text_config().num_hidden_layers
    # PEFT takes an empty list for all layers.
    check_first_layer(first_layer, n_layers, name)
    return list(range(first_layer, n_layers))
