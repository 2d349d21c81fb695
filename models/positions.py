"""The number of positions that a model was made for, and what becomes of texts that need more.

Beyond them a model with learned positions fails, and any other one reads worse without an error. This module
knows lengths in tokens, not what the texts say.
"""

from typing import Any

from models.hardware import say_once
from utils.errors import UsageError


def n_positions(config: Any) -> int | None:
    """The longest text in tokens that a model of this config reads; None if nothing limits it."""
    config = config.get_text_config()
    limit = getattr(config, "max_position_embeddings", None)
    if not isinstance(limit, int) or limit <= 0:
        return None
    # Positions that were stretched after the training (YaRN) may count from those of the training.
    rope = getattr(config, "rope_parameters", None) or {}
    trained = rope.get("original_max_position_embeddings")
    if rope.get("rope_type") == "longrope":
        # Beyond these it rotates all positions otherwise: a text would be read by the longest one beside it.
        return min(limit, trained or getattr(config, "original_max_position_embeddings", None) or limit)
    factor = rope.get("factor")
    return max(limit, int(trained * factor)) if trained and factor else limit


def check_max_seq_length(config: Any, name: str, max_seq_length: int) -> None:
    """UsageError if rows of this length need more positions than the model has."""
    limit = n_positions(config)
    if limit is not None and max_seq_length > limit:
        raise UsageError(
            f"max_seq_length: {max_seq_length}, but {name} has {limit} positions; "
            f"set it to {limit} or less, or choose another model"
        )


def prompt_limit(model, max_tokens: int, n_new: int) -> int:
    """`max_tokens`, or what the model's positions leave for a prompt beside `n_new` tokens, with a note."""
    limit = n_positions(model.config)
    if limit is None or max_tokens + n_new <= limit:
        return max_tokens
    if limit <= n_new:
        raise UsageError(
            f"--max-new-tokens {n_new}: {model.config.model_type} has {limit} positions here, and a prompt "
            "needs some; give a smaller number"
        )
    # Evidence that does not fit is cut, as for any other limit.
    say_once(
        f"prompts: {limit - n_new} tokens at most; {model.config.model_type} has {limit} positions here, and "
        f"{n_new} of them are for the completion"
    )
    return limit - n_new


def check_text_length(model, n_tokens: int) -> None:
    """UsageError for a text to be read that needs more positions than the model has."""
    limit = n_positions(model.config)
    if limit is not None and n_tokens > limit:
        raise UsageError(
            f"a text of {n_tokens} tokens is too long for this {model.config.model_type} model, which has "
            f"{limit} positions; choose another model, or shorter evidence (--max-input-tokens)"
        )
