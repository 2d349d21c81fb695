"""Schema-constrained decoding: which tokens keep a completion inside the output schema.

A state machine over characters: `_step` maps a state and the next character to the next state, or to None
where the character breaks the schema. The states:

    ("literal", text, next state)          the text must follow, character by character
    ("answer", text so far)                inside the answer's string
    ("escape", answer so far)              after a backslash in it
    ("list", last citation, text so far)   inside the list; the text since the last comma
    ("comma", last citation)               after a comma in the list
    ("confidence", text so far)            inside the number
    ("done",)

A token may come next if all its characters lead to a state. Inside a literal the one token that training sees
there is forced; everything else is free within the schema. This module does not know what a right answer is.
"""

import re
from collections.abc import Iterable
from typing import Any

import torch

from generation.drafting import Drafter
from utils.completions import MAX_ANSWER_CHARS
from utils.text import REFUSAL
from utils.tokens import encode_plain

State = tuple[Any, ...]

_DONE: State = ("done",)
_CONFIDENCE: State = ("literal", ', "confidence":', ("confidence", ""))
# The literal ends before the space and the bracket, because "[" and "[]" are different tokens: the choice
# starts there.
_AFTER_ANSWER: State = ("literal", ', "citations":', ("list", -1, ""))
# A refusal has no citations and confidence 0.0: nothing is left to choose.
_AFTER_REFUSAL: State = ("literal", ', "citations": [], "confidence": 0.0}', _DONE)
START: State = ("literal", '{"answer": "', ("answer", ""))
# A number of 0 to 1 with at most three decimals, and what may become one.
_FULL_CONFIDENCE = re.compile(r" (0|1|1\.0|0\.\d{1,3})")
_CONFIDENCE_SO_FAR = re.compile(r" ?|( 0\.?)|( 1\.?)|( 1\.0)|( 0\.\d{1,3})")


def _step(state: State, char: str, n_chunks: int) -> State | None:
    """The state after `char`; None if no valid completion continues like this."""
    kind = state[0]
    if kind == "literal":
        _, text, following = state
        if char != text[0]:
            return None
        return ("literal", text[1:], following) if len(text) > 1 else following
    if kind == "answer":
        return _step_answer(state[1], char)
    if kind == "escape":
        return ("answer", state[1] + char) if char in '"\\/bfnrt' else None
    if kind == "list":
        return _step_list(state[1], state[2], char, n_chunks)
    if kind == "comma":
        return ("list", state[1], " ") if char == " " else None
    if kind == "confidence":
        return _step_confidence(state[1], char)
    return None


def _step_answer(text: str, char: str) -> State | None:
    """Inside the answer's string: `text` is the answer so far."""
    if char == '"':
        if not text:
            return None
        return _AFTER_REFUSAL if text.strip() == REFUSAL else _AFTER_ANSWER
    opens_with_space = char.isspace() and not text
    # JSON allows no control characters in a string.
    if len(text) == MAX_ANSWER_CHARS or char < " " or opens_with_space:
        return None
    return ("escape", text) if char == "\\" else ("answer", text + char)


def _step_list(last: int, text: str, char: str, n_chunks: int) -> State | None:
    """Inside ` [0, 2]`: `text` is what follows the last comma, `last` the citation before it (-1: none)."""
    opening = " [" if last < 0 else " "
    if len(text) < len(opening):
        return ("list", last, text + char) if char == opening[len(text)] else None
    digits = text.lstrip(" [")
    # Citations are distinct and ascending, and cite chunks that were shown.
    left = range(last + 1, n_chunks)
    if char.isdigit() and char.isascii():
        begins_one = any(str(i).startswith(digits + char) for i in left)
        return ("list", last, text + char) if begins_one else None
    is_number = bool(digits) and int(digits) in left
    if char == "]":
        is_empty = not digits and last < 0
        return _CONFIDENCE if is_number or is_empty else None
    if char == "," and is_number and int(digits) + 1 < n_chunks:
        return ("comma", int(digits))
    return None


def _step_confidence(text: str, char: str) -> State | None:
    """Inside the number: `text` is the number so far, the space before it included."""
    if char == "}":
        return _DONE if _FULL_CONFIDENCE.fullmatch(text) else None
    return ("confidence", text + char) if _CONFIDENCE_SO_FAR.fullmatch(text + char) else None


def token_texts(tokenizer) -> list[str | None]:
    """The text that each token adds after another; None for special tokens."""
    # Some tokenizers drop the space of a text's first token; after an anchor it is kept.
    anchor = encode_plain(tokenizer, ":")
    n_anchor = len(tokenizer.decode(anchor, clean_up_tokenization_spaces=False))
    texts = tokenizer.batch_decode(
        [[*anchor, i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False
    )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [None if i in special else text[n_anchor:] for i, text in enumerate(texts)]


class Schema:
    """The vocabulary of a tokenizer, and which of its tokens are allowed in a state; one for all rows."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.texts = token_texts(tokenizer)
        self._literals: dict[State, list[int]] = {}
        self._allowed: dict[tuple[State, int], torch.Tensor] = {}
        # Following all tokens character by character takes long. Outside the answer only tokens of these
        # characters fit; inside it, tokens without quotes and backslashes are judged by length alone.
        texts = [(i, text) for i, text in enumerate(self.texts) if text]
        self.structural = [i for i, text in texts if not set(text) - set(' []0123456789,."}')]
        self.marked = [i for i, text in texts if '"' in text or "\\" in text]
        marked = set(self.marked)
        plain = [(i, text) for i, text in texts if i not in marked and min(text) >= " "]
        self.plain = torch.tensor([i for i, _ in plain])
        self.plain_lengths = torch.tensor([len(text) for _, text in plain])
        self.plain_opens = torch.tensor([not text[0].isspace() for _, text in plain])

    def follow(self, state: State | None, token: int, n_chunks: int) -> State | None:
        """The state after a token; None if the token breaks the schema."""
        # A special token has no text, and a zero byte fits nowhere.
        for char in self.texts[token] or "\0":
            if state is None:
                return None
            state = _step(state, char, n_chunks)
        return state

    def literal_tokens(self, state: State) -> list[int]:
        """The tokens of the rest of a literal as training sees them: after the text that precedes it."""
        if state not in self._literals:
            text = state[1]
            # Every literal but the first follows a quote, which no tokenizer joins with ", ".
            quote = encode_plain(self.tokenizer, '"')
            ids = encode_plain(self.tokenizer, '"' + text)
            is_separate = ids[: len(quote)] == quote
            self._literals[state] = ids[len(quote) :] if is_separate else encode_plain(self.tokenizer, text)
        return self._literals[state]

    def allowed(self, state: State, n_chunks: int) -> torch.Tensor:
        """Ids of the tokens that may come next."""
        kind = state[0]
        if kind == "literal":
            return torch.tensor(self.literal_tokens(state)[:1])
        if kind in ("answer", "escape"):
            # Only the length of an answer matters. The number of chunks does not, because no token reaches
            # from the answer into the list of citations.
            state = (kind, "x" * len(state[1]))
            n_chunks = 0
        key = (state, n_chunks)
        if key not in self._allowed:
            self._allowed[key] = self._find_allowed(state, n_chunks)
        return self._allowed[key]

    def _find_allowed(self, state: State, n_chunks: int) -> torch.Tensor:
        kind = state[0]
        candidates: Iterable[int] = self.structural
        if kind == "answer":
            candidates = self.marked
        elif kind == "escape":
            candidates = range(len(self.texts))
        found = [i for i in candidates if self.follow(state, i, n_chunks)]
        followed = torch.tensor(found, dtype=torch.long)
        if kind != "answer":
            return followed
        answer = state[1]
        fits = self.plain_lengths <= MAX_ANSWER_CHARS - len(answer)
        if not answer:
            fits = fits & self.plain_opens
        return torch.cat([self.plain[fits], followed])


class SchemaGuide:
    """The guide of one row: the forced tokens as its draft, followed by the guesses of the drafter."""

    def __init__(self, schema: Schema, drafter: Drafter, n_chunks: int):
        self.schema = schema
        self.drafter = drafter
        self.n_chunks = n_chunks
        self.state = START
        self.n_read = 0

    def _read(self, ids: list[int]) -> State:
        """The state after the tokens so far; `ids` only ever grows."""
        for token in ids[self.n_read :]:
            state = self.schema.follow(self.state, token, self.n_chunks)
            assert state is not None, "a token was chosen that is not allowed"
            self.state = state
        self.n_read = len(ids)
        return self.state

    def draft(self, ids: list[int]) -> list[int]:
        """The rest of the literal, if the completion is inside one, and what probably follows."""
        state = self._read(ids)
        forced = self.schema.literal_tokens(state) if state[0] == "literal" else []
        return forced + self.drafter.draft(ids + forced)

    def allowed(self, ids: list[int]) -> torch.Tensor:
        """Ids of the tokens that keep the completion inside the schema."""
        return self.schema.allowed(self._read(ids), self.n_chunks)

    def stop(self, ids: list[int]) -> bool:
        """True when the closing brace is there."""
        return self._read(ids) == _DONE
