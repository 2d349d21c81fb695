"""Whether the stages can use a model: a decoder, of which no weight is missing in its files.

It sees a config and what transformers tells of a loading, not how either is found.
"""

from typing import Any

from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

from utils.errors import DataError, UsageError

# Their attention bias is by the distance of columns, and takes no position ids.
_COUNT_PADDING = ("mpt",)
# They take no cache but one of their own class.
_OWN_CACHE = ("minimax",)


def check_architecture(config: Any, name: str) -> None:
    """UsageError for a model whose class cannot write an answer token by token, from its past alone."""
    kind = config.model_type
    if kind in _COUNT_PADDING:
        raise UsageError(
            f"{name}: the positions of {kind} models in transformers count padding, so a row's answer would "
            "depend on its batch; choose another base model"
        )
    if kind in _OWN_CACHE:
        raise UsageError(
            f"{name}: {kind} models keep what they read in a cache of their own, which nothing here makes; "
            "choose another base model"
        )
    if getattr(config, "is_encoder_decoder", False):
        raise UsageError(
            f"{name}: {kind} is an encoder with a decoder, and the stages need a model that is a decoder "
            "alone; choose another base model"
        )
    if kind in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not getattr(config, "is_decoder", False):
        raise UsageError(
            f"{name}: {kind} is an encoder, whose tokens see those that follow, so it cannot write answers; "
            "choose another base model"
        )


def check_weights(found: dict, config: Any, name: str) -> None:
    """DataError if weights of the model are in none of its files: they would be random numbers.

    `found` is what transformers tells of a loading (`output_loading_info`).
    """
    missing = sorted(found.get("missing_keys", ()))
    if not missing:
        return
    quantized = getattr(config, "quantization_config", None)
    if quantized:
        settings = quantized if isinstance(quantized, dict) else vars(quantized)
        method = settings.get("quant_method", "another method")
        remedy = f"they are quantized ({method}), which is not read here; take the model as it was before"
    else:
        remedy = "copy or download the model again, or name one with an output layer of its own"
    raise DataError(
        f"{name}: its files lack {len(missing)} weights of {type(config).__name__.removesuffix('Config')}, "
        f"{missing[0]} for one, so they would be random; {remedy}"
    )
