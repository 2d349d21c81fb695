"""The tokens of a completion by what they say: the answer, the citations, and the rest.

It knows tokens and the format of completions; it knows nothing about models.
"""

import re

SEGMENTS = ("answer", "citations", "rest")
# As models write them, with the spaces that repair accepts.
_ANSWER = re.compile(r'"answer"\s*:\s*"((?:[^"\\]|\\.)*)"')
_CITATIONS = re.compile(r'"citations"\s*:\s*\[([^\]]*)\]')


def _spans(text: str) -> dict[str, tuple[int, int]]:
    """(start, end) of the values in a completion; the closing quote or bracket counts to its value."""
    found = {}
    for name, pattern in (("answer", _ANSWER), ("citations", _CITATIONS)):
        if match := pattern.search(text):
            found[name] = (match.start(1), match.end(1) + 1)
    return found


def token_segments(tokenizer, ids: list[int]) -> list[str]:
    """The segment of each token of a completion. Of a text without an answer, every token is "rest".

    A token belongs where its last character is, so that the space before a word and the word stay together.
    """
    text = tokenizer.decode(ids)
    spans = _spans(text)
    segments = []
    for k in range(1, len(ids) + 1):
        # Decoded from the start: a token of half a character, or without its space, has no text of its own.
        last = len(tokenizer.decode(ids[:k])) - 1
        inside = [name for name, (start, end) in spans.items() if start <= last < end]
        segments.append(inside[0] if inside else "rest")
    return segments
