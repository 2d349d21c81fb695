"""Low-rank adapters on a loaded model: a new one as the block `lora` of a YAML says, or the one that it has.

It knows which layers have an adapter, not what is trained with it.
"""

from peft import LoraConfig, get_peft_model

from models.distributed import note_in_first_process
from models.lora_keys import LORA_TARGETS
from models.lora_targets import adapted_layers, choose_targets, excluded_layers, has_transposed_layers
from utils.config import portable_path
from utils.errors import UsageError
from utils.hub_names import split_revision


def add_lora(model, name: str, lora: dict):
    """`model` frozen, with LoRA (Hu et al., 2021) on the named projections, from layer `first_layer` on.

    `name` is that of the model. UsageError if it has no such layers.
    """
    targets, lacking = choose_targets(model, name, lora["target_modules"], LORA_TARGETS)
    if lacking:
        note_in_first_process([lacking])
    adapter = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        use_rslora=lora["use_rslora"],
        target_modules=targets,
        exclude_modules=excluded_layers(model),
        layers_to_transform=adapted_layers(model, name, lora["first_layer"]),
        fan_in_fan_out=has_transposed_layers(model),
        task_type="CAUSAL_LM",
    )
    try:
        model = get_peft_model(model, adapter)
    except ValueError as error:
        # Layers of a kind that LoRA cannot adapt: norms, for example.
        reason = str(error).splitlines()[0]
        raise UsageError(f"lora.target_modules do not fit {name}: {reason}") from error
    # The name from the YAML: PEFT would store the local path that it was resolved to.
    hub_id, revision = split_revision(name)
    model.peft_config["default"].base_model_name_or_path = portable_path(hub_id)
    model.peft_config["default"].revision = revision
    return model


def train_further(model) -> None:
    """Make the adapter that a frozen PEFT model has the only weights that are trained, in float32."""
    for path, weight in model.named_parameters():
        is_adapter = "lora_" in path
        weight.requires_grad_(is_adapter)
        # Half precision would lose small updates to rounding.
        if is_adapter:
            weight.data = weight.data.float()
