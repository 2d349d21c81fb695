"""Text -> token ids, so that nothing inside evidence or question can become a chat control token."""

import re

_SLOT = "\x02slot\x02"
_SHOWN_TURN = "<<(.+?)>>"
_ANSWER_OPENS = '{"answer": "'


def encode_plain(tokenizer, text: str) -> list[int]:
    """Ids of text as text: no BOS or EOS is added, and control tokens in it are spelt out, not recognised."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


def encode_completion(tokenizer, text: str) -> list[int]:
    """Ids of a completion, without EOS; the opening quote of the answer ends a token.

    BPE joins the quote with a refusal's bracket, so that a refusal is decided one position before the one that looks an
    answer up in the evidence. Apart, bracket and first word compete at the same position; joined, refusals were not learnt
    at all (docs/log.md).
    """
    n_opening = len(_ANSWER_OPENS) if text.startswith(_ANSWER_OPENS) else 0
    opening = encode_plain(tokenizer, text[:n_opening]) if n_opening else []
    return opening + encode_plain(tokenizer, text[n_opening:])


class ChatFrame:
    """What stands around a prompt's changing part: `prefix` (ids up to the evidence) and `closing` (ids after the question).

    With a chat template, `head` opens a user message and `closing` opens the assistant's turn; `<<...>>` in `head` is a turn that the assistant
    is shown to have taken. A base model gets the text as it is, after the tokenizer's BOS if it has one.
    """

    def __init__(self, tokenizer, head: str):
        if tokenizer.chat_template:
            contents = re.split(rf" ?{_SHOWN_TURN}\n*", head)  # user, assistant, ..., user
            messages = [
                {"role": "assistant" if i % 2 else "user", "content": _SLOT} for i in range(len(contents))
            ]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            *openings, closing = text.split(_SLOT)
            self.prefix = []
            for opening, content in zip(openings, contents):
                self.prefix += tokenizer(opening, add_special_tokens=False)["input_ids"] + encode_plain(
                    tokenizer, content
                )
            self.closing = tokenizer(closing, add_special_tokens=False)["input_ids"]
        else:
            bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
            self.prefix = bos + encode_plain(tokenizer, re.sub(_SHOWN_TURN, r"\1", head))
            self.closing = []
