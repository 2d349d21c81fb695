"""Text of others -> token ids of text, none of which is a control token.

Prompts and completions are encoded in pieces. Some tokenizers (Llama-2, Mistral, TinyLlama, Phi-3) put a
space before every text, so a piece encoded alone differs from the same piece inside a text. For these a piece
is encoded behind an anchor, a short text whose ids are then cut off. This module knows pieces, and no prompt.
"""

import functools

from utils.chat_markup import control_ids, split_control

# The first that a tokenizer keeps apart from the text behind it serves. A line break is part of no word and
# no number; where it is not kept as it is (some Unigram models), punctuation is tried.
_ANCHORS = ("\n", ":", '"', ")", "}", "0", "a")
PROBE = "a"


def encode_alone(tokenizer, text: str, markup: bool = False) -> list[int]:
    """Ids of a whole text, without BOS and EOS; with `markup` its control tokens are recognized."""
    ids = tokenizer(text, add_special_tokens=False, split_special_tokens=not markup)["input_ids"]
    if markup or control_ids(tokenizer).isdisjoint(ids):
        return ids
    return _encode_cut(tokenizer, text)


def _encode_cut(tokenizer, text: str) -> list[int]:
    """Ids of a text in which the tokenizer finds control tokens: each is cut behind its first character."""
    first, *others = split_control(tokenizer, text)
    if not others:
        # It finds them in another spelling: a normalizer makes ordinary letters of wide ones, for example.
        return _encode_characters(tokenizer, text)
    ids = encode_alone(tokenizer, first)
    for other in others:
        ids = ids + encode_inside(tokenizer, other, markup=False)
    return ids


def _encode_characters(tokenizer, text: str) -> list[int]:
    """Ids of the characters of a text, each encoded by itself; one that is a control token is left out."""
    ids = []
    for character in text:
        ids += tokenizer(character, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    return [i for i in ids if i not in control_ids(tokenizer)]


def _encode_behind(tokenizer, anchor: str, text: str, markup: bool = False) -> list[int] | None:
    """Ids of a text behind an anchor, without those of the anchor; None if a token would span both."""
    opening = encode_alone(tokenizer, anchor)
    ids = encode_alone(tokenizer, anchor + text, markup)
    return ids[len(opening) :] if ids[: len(opening)] == opening else None


@functools.lru_cache(maxsize=16)
def anchors(tokenizer) -> tuple[str, ...]:
    """The usable anchors of a tokenizer that puts a space before every text; none for any other tokenizer."""
    alone = encode_alone(tokenizer, PROBE)
    usable = []
    for anchor in _ANCHORS:
        inside = _encode_behind(tokenizer, anchor, PROBE)
        # The probe alone is the probe behind a space, and that is not the probe inside a text.
        if alone == inside or alone != _encode_behind(tokenizer, anchor, f" {PROBE}"):
            continue
        # A tokenizer that turns the anchor itself into a space would leave one in front of the text.
        ids = encode_alone(tokenizer, anchor + PROBE)
        if tokenizer.decode(ids, clean_up_tokenization_spaces=False).endswith(anchor + PROBE):
            usable.append(anchor)
    return tuple(usable)


def encode_inside(tokenizer, text: str, markup: bool) -> list[int]:
    for anchor in anchors(tokenizer):
        ids = _encode_behind(tokenizer, anchor, text, markup)
        if ids is not None:
            return ids
    return encode_alone(tokenizer, text, markup)


def encode_plain(tokenizer, text: str) -> list[int]:
    """Ids of text as text, as they are behind other text: no BOS or EOS, no space that the text lacks.

    Control tokens in it are spelled out, not recognized.
    """
    return encode_inside(tokenizer, text, markup=False)
