"""The block `lora` of a YAML: the usual names of layers, and what `lora.target_modules` may be.

No model library is imported, so that a wrong YAML is named at once.
"""

from utils.errors import UsageError

# The projections of Llama, Qwen2, Gemma-2 and their like.
LORA_TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
# What `lora.target_modules` says in place of names.
ALL_LINEAR = "all-linear"


def check_target_modules(value: list | str) -> None:
    """UsageError for a value of `lora.target_modules` that is neither names of layers nor all-linear."""
    if value == ALL_LINEAR:
        return
    is_list = isinstance(value, list) and value
    # In a list, all-linear would be the name of a layer.
    if is_list and all(isinstance(name, str) and name and name != ALL_LINEAR for name in value):
        return
    # A single name in place of a list is most likely.
    hint = f"; write [{value}] or {ALL_LINEAR}" if isinstance(value, str) and value else ""
    raise UsageError(
        f"lora.target_modules: expected a list of names of layers, or {ALL_LINEAR} without a list, "
        f"found {value!r:.60}{hint}"
    )
