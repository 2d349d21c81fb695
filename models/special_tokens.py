"""What every stage relies on of a tokenizer: the end of a completion, padding, and that it can spell JSON.

It knows tokenizers and the size of a vocabulary, not how either is loaded.
"""

from pathlib import Path

from transformers import GenerationConfig

from utils.completions import render_completion
from utils.errors import DataError
from utils.text import REFUSAL
from utils.tokens import decode, encode_completion, end_id

# A completion with all that the format needs.
_SPELLED = render_completion(REFUSAL, [0, 1], 0.85)


def choose_chat_template(tokenizer, name: str) -> None:
    """Of several chat templates, take the one named "default". DataError without it."""
    templates = tokenizer.chat_template
    if not isinstance(templates, dict):
        return
    if "default" not in templates:
        raise DataError(
            f"{name}: its tokenizer has the chat templates {', '.join(sorted(templates))}, and none named "
            "default; leave one of them in its config"
        )
    tokenizer.chat_template = templates["default"]


def check_spelling(tokenizer, name: str) -> None:
    """DataError for a tokenizer that cannot write a completion, as those of uncased models."""
    found = decode(tokenizer, encode_completion(tokenizer, _SPELLED)).strip()
    if found != _SPELLED:
        raise DataError(
            f"{name}: its tokenizer turns the completion {_SPELLED} into {found:.120}, so no answer could be "
            "read; choose a model whose tokenizer keeps every character"
        )


def set_special_tokens(tokenizer, name: str, n_embedded: int | None) -> None:
    """Give a tokenizer a pad token where it has none. DataError if EOS or BOS cannot be used.

    `n_embedded` is the number of tokens that the model has embeddings of, None if it is not known.
    """
    if tokenizer.eos_token_id is None:
        raise DataError(
            f"{name}: its tokenizer has no EOS token, so no completion would have an end; set eos_token in "
            "the tokenizer's config to a token of its vocabulary"
        )
    for kind, token_id in (("EOS", tokenizer.eos_token_id), ("BOS", tokenizer.bos_token_id)):
        if _is_outside(token_id, n_embedded):
            token = tokenizer.convert_ids_to_tokens(token_id)
            raise DataError(
                f"{name}: its {kind} token {token} has the id {token_id}, but the model has embeddings for "
                f"{n_embedded} tokens; set {kind.lower()}_token in the tokenizer's config to one of them, "
                "or resize the model's embeddings"
            )
    if _is_outside(end_id(tokenizer), n_embedded):
        token = tokenizer.convert_ids_to_tokens(end_id(tokenizer))
        raise DataError(
            f"{name}: its chat template ends a turn with {token}, id {end_id(tokenizer)}, but the model has "
            f"embeddings for {n_embedded} tokens; resize the model's embeddings, or remove the chat template"
        )
    _check_added_tokens(tokenizer, name, n_embedded)
    # Padding is masked everywhere, so EOS can serve.
    if tokenizer.pad_token_id is None or _is_outside(tokenizer.pad_token_id, n_embedded):
        tokenizer.pad_token = tokenizer.eos_token


def _check_added_tokens(tokenizer, name: str, n_embedded: int | None) -> None:
    """DataError for a token that a text may contain and the model has no embedding of.

    Special tokens that no prompt contains, such as one for padding, may be beyond them.
    """
    template = str(tokenizer.chat_template or "")
    for token_id, token in tokenizer.added_tokens_decoder.items():
        is_used = not token.special or token.content in template
        if is_used and _is_outside(token_id, n_embedded):
            raise DataError(
                f"{name}: its tokenizer has the token {token.content!r} with the id {token_id}, but the "
                f"model has embeddings for {n_embedded} tokens; resize the model's embeddings, or take the "
                "token out"
            )


def save_end(folder: Path, tokenizer) -> None:
    """Add the token that ends a completion to the generation config of a saved model: servers stop there."""
    try:
        config = GenerationConfig.from_pretrained(folder)
    except OSError:
        # An adapter has none.
        return
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    ends = [token for token in dict.fromkeys([*ends, end_id(tokenizer)]) if token is not None]
    # A chat model's turn may end with another token than its texts.
    if len(ends) > 1:
        config.eos_token_id = ends
        config.save_pretrained(folder)


def _is_outside(token_id: int | None, n_embedded: int | None) -> bool:
    return token_id is not None and n_embedded is not None and token_id >= n_embedded
