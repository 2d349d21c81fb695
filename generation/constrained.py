"""Schema-guided decoding: which tokens keep a completion inside the output schema, and which of them leave no choice.

A state machine over characters: `_step` takes a state and the next character to the next state, None where the schema ends. States:
("literal", text, state behind it), ("answer", text so far), ("escape", answer so far) behind a backslash, ("list", last citation, text
since its comma), ("comma", last citation), ("confidence", text so far), ("done",). A token may come next when its characters lead
somewhere. Inside a literal it is the token that training sees there, so that it is forced; the rest is free within the schema.
"""

import re

import torch

from generation.drafting import Drafter
from utils.completions import MAX_ANSWER_CHARS
from utils.text import REFUSAL
from utils.tokens import encode_plain

_DONE = ("done",)
# A refusal has no citations and confidence 0.0: nothing is left to choose. Elsewhere the choice starts with the space before the
# bracket, because "[" and "[]" are different tokens.
_CONFIDENCE = ("literal", ', "confidence":', ("confidence", ""))
_AFTER_ANSWER = ("literal", ', "citations":', ("list", -1, ""))
_AFTER_REFUSAL = ("literal", ', "citations": [], "confidence": 0.0}', _DONE)
START = ("literal", '{"answer": "', ("answer", ""))
_FULL_CONFIDENCE = re.compile(r" (0|1|1\.0|0\.\d{1,3})")
_CONFIDENCE_SO_FAR = re.compile(r" ?|( 0\.?)|( 1\.?)|( 1\.0)|( 0\.\d{1,3})")


def _step(state: tuple, char: str, n_chunks: int) -> tuple | None:
    """The state after `char`; None when no completion goes on like this."""
    kind = state[0]
    if kind == "literal":
        _, text, then = state
        return None if text[0] != char else ("literal", text[1:], then) if len(text) > 1 else then
    if kind == "answer":
        text = state[1]
        if char == '"':
            return None if not text else _AFTER_REFUSAL if text.strip() == REFUSAL else _AFTER_ANSWER
        if len(text) == MAX_ANSWER_CHARS or char < " " or (char.isspace() and not text):
            return None
        return ("escape", text) if char == "\\" else ("answer", text + char)
    if kind == "escape":
        return ("answer", state[1] + char) if char in '"\\/bfnrt' else None
    if kind == "list":
        return _step_list(state[1], state[2], char, n_chunks)
    if kind == "comma":
        return ("list", state[1], " ") if char == " " else None
    if kind == "confidence":
        text = state[1] + char
        if char == "}":
            return _DONE if _FULL_CONFIDENCE.fullmatch(state[1]) else None
        return ("confidence", text) if _CONFIDENCE_SO_FAR.fullmatch(text) else None
    return None


def _step_list(last: int, text: str, char: str, n_chunks: int) -> tuple | None:
    """Inside ` [0, 2]`: `text` is what stands since the last comma, `last` the citation before it (-1: none)."""
    opening = " [" if last < 0 else " "
    digits = text.lstrip(" [")
    if len(text) < len(opening):
        return ("list", last, text + char) if char == opening[len(text)] else None
    left = range(last + 1, n_chunks)
    if char.isdigit() and char.isascii():
        return ("list", last, text + char) if any(str(i).startswith(digits + char) for i in left) else None
    is_number = bool(digits) and int(digits) in left
    if char == "]":
        return _CONFIDENCE if is_number or (not digits and last < 0) else None
    return ("comma", int(digits)) if char == "," and is_number and int(digits) + 1 < n_chunks else None


def token_texts(tokenizer) -> list[str | None]:
    """The text that each token adds behind another; None for special tokens."""
    # Some tokenizers drop the space of a text's first token; behind an anchor it is kept.
    anchor = encode_plain(tokenizer, ":")
    n_anchor = len(tokenizer.decode(anchor, clean_up_tokenization_spaces=False))
    texts = tokenizer.batch_decode(
        [[*anchor, i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False
    )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    return [None if i in special else text[n_anchor:] for i, text in enumerate(texts)]


class Schema:
    """The vocabulary of a tokenizer against the output schema; what it finds is kept for all rows."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.texts = token_texts(tokenizer)
        self._known = {}
        texts = list(enumerate(self.texts))
        self.structural = [i for i, text in texts if text and not set(text) - set(' []0123456789,."}')]
        self.marked = [i for i, text in texts if text and ('"' in text or "\\" in text)]
        plain = [i for i, text in texts if text and '"' not in text and "\\" not in text and min(text) >= " "]
        self.plain = torch.tensor(plain)
        self.plain_lengths = torch.tensor([len(self.texts[i]) for i in plain])
        self.plain_opens = torch.tensor([not self.texts[i][0].isspace() for i in plain])

    def follow(self, state: tuple | None, token: int, n_chunks: int) -> tuple | None:
        """The state after a token, None when it leaves the schema."""
        for char in self.texts[token] or "\0":
            state = state and _step(state, char, n_chunks)
        return state

    def literal_tokens(self, state: tuple) -> list[int]:
        """The tokens of the rest of a literal, as training sees them: behind the text that stands before it."""
        if state not in self._known:
            # A quote stands before every literal but the first, and no tokenizer joins it with what follows a space.
            before = encode_plain(self.tokenizer, '"')
            ids = encode_plain(self.tokenizer, '"' + state[1])
            self._known[state] = (
                ids[len(before) :] if ids[: len(before)] == before else encode_plain(self.tokenizer, state[1])
            )
        return self._known[state]

    def allowed(self, state: tuple, n_chunks: int) -> torch.Tensor:
        """Ids of the tokens that lead somewhere."""
        if state[0] == "literal":
            return torch.tensor(self.literal_tokens(state)[:1])
        if state[0] not in ("answer", "escape"):
            key = (state, n_chunks)
            candidates = self.structural
        else:
            # An answer's words do not matter here, only how long it is.
            state = key = (state[0], "x" * len(state[1]))
            candidates = self.marked if state[0] == "answer" else range(len(self.texts))
        if key not in self._known:
            found = torch.tensor([i for i in candidates if self.follow(state, i, n_chunks)], dtype=torch.long)
            if state[0] == "answer":
                fits = (self.plain_lengths <= MAX_ANSWER_CHARS - len(state[1])) & (
                    self.plain_opens | bool(state[1])
                )
                found = torch.cat([self.plain[fits], found])
            self._known[key] = found
        return self._known[key]


class SchemaGuide:
    """Guide of one row: forced tokens as draft, with the drafter's guesses behind them."""

    def __init__(self, schema: Schema, drafter: Drafter, n_chunks: int):
        self.schema = schema
        self.drafter = drafter
        self.n_chunks = n_chunks
        self.state = START
        self.n_read = 0

    def _read(self, ids: list[int]) -> tuple:
        """The state after the tokens so far, which only ever grow."""
        for token in ids[self.n_read :]:
            self.state = self.schema.follow(self.state, token, self.n_chunks)
        self.n_read = len(ids)
        return self.state

    def draft(self, ids: list[int]) -> list[int]:
        state = self._read(ids)
        forced = self.schema.literal_tokens(state) if state[0] == "literal" else []
        return forced + self.drafter.draft(ids + forced)

    def allowed(self, ids: list[int]) -> torch.Tensor:
        return self.schema.allowed(self._read(ids), self.n_chunks)

    def stop(self, ids: list[int]) -> bool:
        return self._read(ids) == _DONE
