"""Text -> token ids, so that nothing inside evidence or question can become a chat control token.

It knows tokenizers and turns of a chat, not templates: `prompt_schema.py` decides what the text says.
utils/chat_markup.py renders the turns.

Prompts and completions are encoded in pieces (utils/pieces.py). Where prompts get the ids of the whole text
(`set_prompt_ids`), a space in front of the changing part is encoded with it, for every tokenizer.
"""

import functools
import re

from utils.chat_markup import markup_after_answer, render_turns, thinking_off, trims_contents
from utils.pieces import PROBE, anchors, encode_alone, encode_inside, encode_plain

_SHOWN_TURN = "<<(.+?)>>"
_ANSWER_OPENS = '{"answer": "'
# In the config of a tokenizer: how it encodes prompts.
_PROMPT_IDS = "prompt_ids"


def set_prompt_ids(tokenizer, kind: str):
    """The tokenizer, which from now on encodes prompts "whole" or in "pieces" (docs/recipes.md).

    Its config records it, so that a checkpoint's prompts stay as they were in training.
    """
    tokenizer.init_kwargs.pop(_PROMPT_IDS, None)
    if kind == "whole":
        tokenizer.init_kwargs[_PROMPT_IDS] = kind
    return tokenizer


def _is_whole(tokenizer) -> bool:
    # Checkpoints of earlier versions record nothing.
    return getattr(tokenizer, "init_kwargs", {}).get(_PROMPT_IDS) == "whole"


def encodes_whole(tokenizer) -> bool:
    """True for a tokenizer whose pieces of a prompt get the ids that they have in the whole text."""
    return _is_whole(tokenizer) or bool(anchors(tokenizer))


def encode_completion(tokenizer, text: str) -> list[int]:
    """Ids of a completion, without EOS; the opening quote of the answer ends a token.

    BPE joins the quote with the bracket of a refusal, so the model would decide on refusing one position
    before it looks the answer up in the evidence. Apart, bracket and first word compete at the same position.
    Joined, refusals were not learned at all (docs/log.md).
    """
    if not text.startswith(_ANSWER_OPENS):
        return encode_plain(tokenizer, text)
    opening = encode_plain(tokenizer, _ANSWER_OPENS)
    return opening + encode_plain(tokenizer, text[len(_ANSWER_OPENS) :])


def end_id(tokenizer) -> int:
    """Id of the token that ends a completion: that of the assistant's turn in the chat template, else EOS.

    Many chat models end a turn with another token than a text (Gemma: <end_of_turn>). Only what a model
    learned to write there is known to a server as the end.
    """
    return _turn_end(tokenizer, getattr(tokenizer, "chat_template", None))


@functools.lru_cache(maxsize=16)
def _turn_end(tokenizer, template: str | None) -> int:
    # The template is an argument because a tokenizer can be given another one.
    if template:
        control = set(tokenizer.all_special_ids) | set(tokenizer.added_tokens_decoder)
        for token in encode_inside(tokenizer, markup_after_answer(tokenizer), markup=True):
            if token in control:
                return token
    return tokenizer.eos_token_id


def decode(tokenizer, ids: list[int]) -> str:
    """The text of tokens as it is: without control tokens, no space taken out before punctuation."""
    return tokenizer.decode(ids, skip_special_tokens=True, clean_up_tokenization_spaces=False)


def without_turns(template: str) -> str:
    """A template as a base model reads it: without the marks around earlier turns of the assistant."""
    return re.sub(_SHOWN_TURN, r"\1", template)


class ChatFrame:
    """The constant ids around a prompt's changing part: `prefix` before it, `closing` after it.

    With a chat template, `head` opens a user message and `closing` opens the assistant's turn; `<<...>>` in
    `head` is an earlier turn of the assistant. A base model gets the text as it is, after the tokenizer's BOS
    if it has one. With `thinks` False a template that has a switch for it starts the answer without thinking.
    UsageError if the template refuses.
    """

    def __init__(self, tokenizer, head: str, thinks: bool = True):
        self.tokenizer = tokenizer
        self.prefix: list[int] = []
        self.closing: list[int] = []
        self.closing_text = ""
        # Text that the changing part begins with, and whether a space is put before it.
        self.lead = ""
        self._puts_space = False
        self._is_whole = _is_whole(tokenizer)
        self._trims = bool(self._is_whole and tokenizer.chat_template and trims_contents(tokenizer))
        # Number of BOS tokens in front that no chat template writes.
        self.n_bos = 0
        if tokenizer.chat_template:
            self._open_chat(head, {} if thinks else thinking_off(tokenizer))
            return
        # Train and evaluation must agree on BOS, and both build their prompts here.
        if self._has_bos():
            self.prefix.append(tokenizer.bos_token_id)
            self.n_bos = 1
        self._begin("", without_turns(head), at_start=True)

    def encode(self, text: str) -> list[int]:
        """Ids of the changing part of a prompt, its closing included."""
        return self._encode_content(self.lead + self.shown(text)) + self.closing

    def shown(self, text: str) -> str:
        """The changing part as the chat template shows it: some take white space at the end away."""
        return text.rstrip() if self._trims else text

    def _has_bos(self) -> bool:
        bos = self.tokenizer.bos_token_id
        # Some tokenizers have a BOS and put none in front of a text (GPT-NeoX), and neither does a server.
        return bos is not None and (not self._is_whole or self.tokenizer(PROBE)["input_ids"][0] == bos)

    def _encode_content(self, text: str) -> list[int]:
        if self._puts_space:
            return encode_alone(self.tokenizer, text)
        return encode_plain(self.tokenizer, text)

    def _open_chat(self, head: str, switches: dict) -> None:
        # Splitting at the shown turns gives user, assistant, ..., user.
        contents = re.split(rf" ?{_SHOWN_TURN}\n*", head)
        # Only the markup between the contents goes through the template: its control tokens count, those in a
        # content do not.
        if self._trims:
            contents = [content.strip() for content in contents[:-1]] + [contents[-1].lstrip()]
        *openings, closing = render_turns(self.tokenizer, len(contents), switches)
        for i, (opening, content) in enumerate(zip(openings, contents)):
            # The spaces that end an earlier content stay with it.
            self.prefix += self._encode_content(self.lead) if self.lead else []
            self._begin(opening, content, at_start=i == 0)
        self.closing = encode_inside(self.tokenizer, closing, markup=True)
        self.closing_text = closing

    def _begin(self, markup: str, content: str, at_start: bool) -> None:
        """Extend the prefix by markup and by the beginning of the content behind it."""
        encode = encode_alone if at_start else encode_inside
        if not (self._is_whole or anchors(self.tokenizer)):
            self.prefix += encode(self.tokenizer, markup, True) + self._encode_content(content)
            return
        # Tokenizers join a space with the word behind it, which may be the first of the changing part.
        kept = markup.rstrip(" ")
        content = markup[len(kept) :] + content
        markup_ids = encode(self.tokenizer, kept, True)
        with_probe = encode(self.tokenizer, kept + PROBE, True)
        self.prefix += markup_ids
        # It puts a space before a text at the start and, some of them, before one behind a control token.
        self._puts_space = with_probe == markup_ids + encode_alone(self.tokenizer, PROBE)
        kept = content.rstrip(" ")
        self.lead = content[len(kept) :]
        if kept:
            self.prefix += self._encode_content(kept)
            self._puts_space = False
