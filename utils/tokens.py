"""Text -> token ids, so that nothing inside evidence or question can become a chat control token."""

_SLOT = "\x02slot\x02"


def encode_plain(tokenizer, text: str) -> list[int]:
    """Ids of text as text: no BOS or EOS is added, and control tokens in it are spelt out, not recognised."""
    return tokenizer(text, add_special_tokens=False, split_special_tokens=True)["input_ids"]


class ChatFrame:
    """What stands around a prompt's changing part: `prefix` (ids up to the evidence) and `closing` (ids after the question).

    With a chat template, `head` opens a user message and `closing` opens the assistant's turn. A base model gets the text as it is,
    after the tokenizer's BOS if it has one.
    """

    def __init__(self, tokenizer, head: str):
        if tokenizer.chat_template:
            messages = [{"role": "user", "content": _SLOT}]
            text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
            opening, closing = text.split(_SLOT)
            self.prefix = tokenizer(opening, add_special_tokens=False)["input_ids"] + encode_plain(tokenizer, head)
            self.closing = tokenizer(closing, add_special_tokens=False)["input_ids"]
        else:
            bos = [tokenizer.bos_token_id] if tokenizer.bos_token_id is not None else []
            self.prefix, self.closing = bos + encode_plain(tokenizer, head), []
