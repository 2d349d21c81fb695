"""Schema-constrained decoding: which tokens keep a completion inside the output schema.

A token may come next if all its characters lead to a state of generation/schema_states.py. Inside a literal
the one token that training sees there is forced; everything else is free within the schema. This module does
not know what a right answer is.
"""

import hashlib
import re
from collections.abc import Iterable

import torch

from generation.drafting import Drafter
from generation.schema_states import DONE, START, State, step
from utils.completions import MAX_ANSWER_CHARS
from utils.tokens import encode_plain

# The characters of a completion behind its answer.
_STRUCTURE = set('", "citations": [0123456789], "confidence": 0.0}')
# In a token: the colon of a key with the space and the beginning of its value.
_ACROSS = re.compile(r'(^|"): ([\[01]|$)')

# The name of a token of one byte, below 128, in vocabularies with byte fallback.
_ASCII_BYTE = re.compile(r"<0x[0-7][0-9A-Fa-f]>")

_NOTHING = torch.empty(0, dtype=torch.long)


def token_texts(tokenizer) -> list[str | None]:
    """The text that each token adds after another; None for special tokens, and for spare ASCII bytes.

    Behind bytes that are no whole character, byte fallback shows an ASCII byte as another character, so the
    text would not be the one that was judged. Most have an ordinary token as well.
    """
    # Some tokenizers drop the space of a text's first token; after an anchor it is kept.
    anchor = encode_plain(tokenizer, ":")
    n_anchor = len(tokenizer.decode(anchor, clean_up_tokenization_spaces=False))
    texts = tokenizer.batch_decode(
        [[*anchor, i] for i in range(len(tokenizer))], clean_up_tokenization_spaces=False
    )
    special = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
    names = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    is_byte = [bool(_ASCII_BYTE.fullmatch(name or "")) for name in names]
    added = [text[n_anchor:] for text in texts]
    ordinary = {text for text, byte in zip(added, is_byte) if not byte}
    found: list[str | None] = []
    for i, text in enumerate(added):
        is_spare = is_byte[i] and text in ordinary
        found.append(None if i in special or is_spare else text)
    return found


class Schema:
    """The vocabulary of a tokenizer, and which of its tokens are allowed in a state; one for all rows."""

    def __init__(self, tokenizer, device: torch.device | str = "cpu"):
        self.tokenizer = tokenizer
        # Where the logits are: allowed tokens wait there, because a copy per token would stop the device.
        self.device = device
        self.texts = token_texts(tokenizer)
        # Few vocabularies have a token that spans the end of a literal and what follows it. Where one does,
        # training may see it there, so literals are not forced.
        self.spans_literals = any(_ACROSS.search(text) for text in self.texts if text)
        self._literals: dict[State, list[int]] = {}
        self._allowed: dict[tuple[State, int], torch.Tensor] = {}
        # Most answers, however long, may continue with the same tokens: one tensor for all of them.
        self._same: dict[bytes, torch.Tensor] = {}
        # Following all tokens character by character takes long. Outside the answer only tokens of these
        # characters fit; inside it, tokens without quotes and backslashes are judged by length alone.
        texts = [(i, text) for i, text in enumerate(self.texts) if text]
        self.structural = [i for i, text in texts if not set(text) - _STRUCTURE]
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
            state = step(state, char, n_chunks)
        return state

    def literal_tokens(self, state: State) -> list[int]:
        """The tokens of the rest of a literal as training sees them: after the text that precedes it.

        None of them if the vocabulary has tokens that span literals; `allowed` then names what may come next.
        """
        # The opening is encoded on its own, and a refusal ends with its literal.
        if self.spans_literals and state[2][0] in ("list", "confidence"):
            return []
        if state not in self._literals:
            text = state[1]
            # Every literal but the first follows a quote, which no tokenizer joins with ", ".
            quote = encode_plain(self.tokenizer, '"')
            ids = encode_plain(self.tokenizer, '"' + text)
            is_separate = ids[: len(quote)] == quote
            self._literals[state] = ids[len(quote) :] if is_separate else encode_plain(self.tokenizer, text)
        return self._literals[state]

    def allowed(self, state: State, n_chunks: int) -> torch.Tensor:
        """Ids of the tokens that may come next, on the device; a single one in main memory, to be read."""
        kind = state[0]
        if kind == "literal" and (forced := self.literal_tokens(state)):
            return torch.tensor(forced[:1])
        if kind in ("answer", "escape") and not self.spans_literals:
            # Only the length of an answer matters. The number of chunks does not, because no token reaches
            # from the answer into the list of citations.
            state = (kind, "x" * len(state[1]))
            n_chunks = 0
        key = (state, n_chunks)
        if key not in self._allowed:
            found = self._find_allowed(state, n_chunks)
            digest = hashlib.sha256(found.numpy().tobytes()).digest()
            if digest not in self._same:
                self._same[digest] = found if len(found) == 1 else found.to(self.device)
            self._allowed[key] = self._same[digest]
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
        # The tokens followed so far, and the states before, between and after them.
        self._ids: list[int] = []
        self._states: list[State | None] = [START]

    def _read(self, ids: list[int]) -> State | None:
        """The state after the tokens; None if they break the schema."""
        n_same = len(self._ids)
        # Tokens are added one by one, until a look ahead is taken back.
        if ids[:n_same] != self._ids:
            n_same = next(n for n, token in enumerate(self._ids) if ids[n : n + 1] != [token])
            del self._ids[n_same:]
            del self._states[n_same + 1 :]
        for token in ids[n_same:]:
            state = self._states[-1]
            if state is not None:
                state = self.schema.follow(state, token, self.n_chunks)
            self._ids.append(token)
            self._states.append(state)
        return self._states[-1]

    def draft(self, ids: list[int]) -> list[int]:
        """The rest of the literal, if the completion is inside one, and what probably follows."""
        state = self._read(ids)
        assert state is not None, "a token was chosen that is not allowed"
        forced = self.schema.literal_tokens(state) if state[0] == "literal" else []
        return forced + self.drafter.draft(ids + forced)

    def allowed(self, ids: list[int]) -> torch.Tensor:
        """Ids of the tokens that keep the completion inside the schema; none after tokens that break it."""
        state = self._read(ids)
        if state is None or state == DONE:
            return _NOTHING
        return self.schema.allowed(state, self.n_chunks)

    def stop(self, ids: list[int]) -> bool:
        """True when the closing brace is there."""
        return self._read(ids) == DONE
