"""Text -> token ids, so that nothing inside evidence or question can become a chat control token.

It knows tokenizers and turns of a chat, not templates: `prompt_schema.py` decides what the text says.
"""

import re

_SLOT = "\x02slot\x02"
_SHOWN_TURN = "<<(.+?)>>"
_ANSWER_OPENS = '{"answer": "'


def encode_plain(tokenizer, text: str) -> list[int]:
    """Ids of text as text: no BOS or EOS, and control tokens in it are spelled out, not recognized."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def _encode_markup(tokenizer, text: str) -> list[int]:
    """Ids of the chat template's own text, whose control tokens are recognized."""
    return tokenizer(text, add_special_tokens=False)["input_ids"]


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


class ChatFrame:
    """The constant ids around a prompt's changing part: `prefix` before it, `closing` after it.

    With a chat template, `head` opens a user message and `closing` opens the assistant's turn; `<<...>>` in
    `head` is an earlier turn of the assistant. A base model gets the text as it is, after the tokenizer's BOS
    if it has one.
    """

    def __init__(self, tokenizer, head: str):
        self.prefix: list[int] = []
        self.closing: list[int] = []
        if tokenizer.chat_template:
            self._open_chat(tokenizer, head)
            return
        # Train and evaluation must agree on BOS, and both build their prompts here.
        if tokenizer.bos_token_id is not None:
            self.prefix.append(tokenizer.bos_token_id)
        self.prefix += encode_plain(tokenizer, re.sub(_SHOWN_TURN, r"\1", head))

    def _open_chat(self, tokenizer, head: str) -> None:
        # Splitting at the shown turns gives user, assistant, ..., user.
        contents = re.split(rf" ?{_SHOWN_TURN}\n*", head)
        messages = []
        for i in range(len(contents)):
            messages.append({"role": "assistant" if i % 2 else "user", "content": _SLOT})
        # Only the markup between the slots goes through the template: its control tokens count, those in a
        # content do not.
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        *openings, closing = text.split(_SLOT)
        for opening, content in zip(openings, contents):
            self.prefix += _encode_markup(tokenizer, opening)
            self.prefix += encode_plain(tokenizer, content)
        self.closing = _encode_markup(tokenizer, closing)
