"""The text that a chat template puts around the messages of a conversation, and what is said if it refuses.

It knows roles and turns, neither token ids nor what the messages say.
"""

import functools
import re

from utils.errors import UsageError

# Marks the place of message i; no template and no evidence has this character.
_SLOT = "\x02slot{}\x02"
_ANY_SLOT = re.compile("\x02slot\\d+\x02")
# Variables with which templates of reasoning models leave out the thinking.
_THINKING_SWITCHES = ("enable_thinking", "thinking")
# Gemma has tokens for these, and they mean nothing in a chat.
_HTML_TAG = re.compile(
    "</?(table|caption|thead|tbody|tfoot|tr|th|td|h[1-6]|blockquote|strong|em|b|i|u|s|sub|sup|code|ul|ol|li"
    "|p|a|br|hr|div|span|pre|img)>"
)
# In place of the function that gives templates today's date: a prompt must not change from one day to the
# next. The date is the one that Llama 3 uses where it is told none.
_SAME_DATE = "{%- macro strftime_now(pattern) -%}26 Jul 2024{%- endmacro -%}"


def thinking_off(tokenizer) -> dict[str, bool]:
    """The variables that switch off the thinking in a tokenizer's chat template; empty if it has none."""
    template = str(tokenizer.chat_template or "")
    return {name: False for name in _THINKING_SWITCHES if re.search(rf"\b{name}\b", template)}


def render_turns(tokenizer, n_turns: int, switches: dict) -> list[str]:
    """The markup before, between and after `n_turns` messages (user, assistant, ..., user), in order.

    The last of the n_turns + 1 texts opens the assistant's turn. `switches` are variables of the template,
    such as enable_thinking. UsageError if the template refuses these messages or leaves one out.
    """
    name = getattr(tokenizer, "name_or_path", "") or "this tokenizer"
    roles = ["assistant" if i % 2 else "user" for i in range(n_turns)]
    markup, refusal = _render(tokenizer, roles, {**switches, "add_generation_prompt": True})
    if markup:
        return markup
    if refusal is not None:
        reason = " ".join(str(refusal).split()) or type(refusal).__name__
        raise UsageError(
            f"{name}: its chat template refuses the turns {', '.join(roles)}: {reason:.300}; "
            "use another model, or edit its chat template"
        ) from refusal
    raise UsageError(
        f"{name}: its chat template does not show every message once and unchanged, so prompts would lack "
        "instructions or evidence; use another model, or edit its chat template"
    )


def markup_after_answer(tokenizer) -> str:
    """The markup that ends an assistant's turn; empty if the template ends none, or refuses to show one."""
    markup, _ = _render(tokenizer, ["user", "assistant"], {"add_generation_prompt": False})
    return markup[-1] if markup else ""


def trims_contents(tokenizer) -> bool:
    """True if the template takes the white space around a message away."""
    # No template has these characters of its own around a message.
    around = "\n \n"
    markup, _ = _render(tokenizer, ["user"], {"add_generation_prompt": True}, around)
    return bool(markup) and not (markup[0].endswith(around) and markup[1].startswith(around))


def _render(
    tokenizer, roles: list[str], options: dict, around: str = ""
) -> tuple[list[str], Exception | None]:
    """(markup around messages of these roles; nothing if one is not shown, what the template raised).

    Each message begins and ends with `around`.
    """
    wanted = [_SLOT.format(i) for i in range(len(roles))]
    refusal = None
    # Templates of models that read images walk through a list of parts, and show nothing of a bare text.
    for as_content in (str, _as_parts):
        contents = [as_content(f"{around}{slot}{around}") for slot in wanted]
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents)]
        try:
            template = tokenizer.get_chat_template()
            if "strftime_now" in template:
                template = _SAME_DATE + template
            text = tokenizer.apply_chat_template(messages, chat_template=template, tokenize=False, **options)
        # A template is code that came with the model, so it can raise anything.
        except Exception as error:
            refusal = refusal or error
            continue
        # Left out, changed or shown twice, and the prompt would not hold what it should.
        if _ANY_SLOT.findall(text) == wanted:
            return _ANY_SLOT.split(text), None
    return [], refusal


def control_ids(tokenizer) -> frozenset[int]:
    """The ids that no text of others may become: special tokens, and added ones that look like markup.

    The token for what a vocabulary lacks is not among them: a text may have such a character.
    """
    return _control_ids(tokenizer, len(tokenizer))


@functools.lru_cache(maxsize=16)
def _control_ids(tokenizer, n_tokens: int) -> frozenset[int]:
    # The number of tokens is an argument because a tokenizer can be given more of them.
    ids = set(tokenizer.all_special_ids)
    ids |= {i for i, token in tokenizer.added_tokens_decoder.items() if _is_control(token)}
    # Where the same token has another role too, a character that becomes it would end a text.
    roles = [tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id]
    return frozenset(ids) if tokenizer.unk_token_id in roles else frozenset(ids - {tokenizer.unk_token_id})


def _is_control(token) -> bool:
    """True for an added token that is no text: some models add white space, words and the tags of HTML."""
    name = token.content.strip(" \n\t\u2581")
    is_text = not name or name.isalnum() or _HTML_TAG.fullmatch(name)
    return token.special or not is_text


def split_control(tokenizer, text: str) -> list[str]:
    """The text in parts, none of which has a control token whole; most texts are one part.

    Some of these tokens are no special ones (Qwen: <think>, <tool_call>, <|fim_prefix|>), so a tokenizer
    recognizes them in any text. Others are pieces of the vocabulary (</s> of a Unigram model), which
    tokenizers find in a text even where they are told to recognize no special token.
    """
    pattern = _control_pattern(tokenizer, len(tokenizer))
    if pattern is None:
        return [text]
    # Behind the first character of each.
    cuts = [match.start() + 1 for match in pattern.finditer(text)]
    return [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]


@functools.lru_cache(maxsize=16)
def _control_pattern(tokenizer, n_tokens: int) -> re.Pattern | None:
    names = set()
    for i in control_ids(tokenizer):
        name = str(tokenizer.convert_ids_to_tokens(i)).strip(" \u2581")
        # Of one character nothing could be cut.
        if len(name) > 1:
            names.add(name)
    # The longest first: <|end|> is no part of <|end|>x.
    return re.compile("|".join(map(re.escape, sorted(names, key=len, reverse=True)))) if names else None


def _as_parts(text: str) -> list[dict]:
    return [{"type": "text", "text": text}]
