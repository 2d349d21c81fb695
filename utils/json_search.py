"""Finds the object that a model wrote among other text: behind its draft, in fences, between sentences.

It knows JSON and the marks of a draft. What an object means is known to `utils/completions.py`.
"""

import json
import re

# How an object begins: with its first key, or with its end.
_OBJECT_START = re.compile(r'\{\s*(?:\}|"(?:[^"\\]|\\.)*"\s*:)', re.DOTALL)
# Reasoning models write drafts between these. A chat template may have written the first one itself.
_DRAFT_START = re.compile(r"<think(?:ing)?>", re.IGNORECASE)
_DRAFT_END = re.compile(r"</think(?:ing)?>", re.IGNORECASE)
_ANSWER_KEY = re.compile(r"[\"']?answer[\"']?\s*:")
# Characters that the attempts of one search may read together, about half a second. Each attempt may read the
# whole text, and a model that repeats itself begins an object everywhere. What fits into a context window is
# not given up, unless thousands of objects in it nest or do not end.
_MAX_READ_CHARS = 4 << 20
# The error of an attempt counts the lines in front of it, which is so many times faster than reading.
_TIMES_FASTER = 64
# json's own lenient decoder: what it lets through, NaN and repeated keys, counts as repaired anyway.
_DECODER = json.JSONDecoder()


def _without_draft(text: str) -> str:
    """The text behind the last draft. A draft that does not end is all text from its start on."""
    behind = 0
    for end in _DRAFT_END.finditer(text):
        behind = end.end()
    unfinished = _DRAFT_START.search(text, behind)
    return text[behind : unfinished.start() if unfinished else None]


def find_object(text: str) -> dict | None:
    """The first JSON object of a text with an answer, else the first one, but none of its drafts.

    None without any, or if looking takes long.
    """
    text = _without_draft(text)
    n_left = _MAX_READ_CHARS
    first: dict | None = None
    behind = 0
    for match in _OBJECT_START.finditer(text):
        start = match.start()
        # An object within another is a part of it.
        if start < behind:
            continue
        try:
            # What begins with a key and a colon is an object.
            found, behind = _DECODER.raw_decode(text, start)
            if "answer" in found:
                return found
            first = found if first is None else first
        except json.JSONDecodeError as error:
            is_unclosed = error.msg.startswith("Unterminated")
            n_left -= (len(text) if is_unclosed else error.pos) - start
        # Too deep, or a number of over 4,300 digits: neither says where.
        except (ValueError, RecursionError):
            n_left -= len(text) - start
        n_left -= start // _TIMES_FASTER
        if n_left < 0:
            break
    return first


def opens_draft(text: str) -> bool:
    """True for the end of a prompt whose chat template has begun a draft."""
    return any(match.end() == len(text) for match in _DRAFT_START.finditer(text))


def _ends_its_braces(text: str) -> bool:
    """True if braces open before the key of an answer, and are closed; those inside strings do not count."""
    start = -1
    depth = 0
    in_string = False
    escaped = False
    for i, char in enumerate(text):
        if in_string:
            in_string = escaped or char != '"'
            escaped = char == "\\" and not escaped
        elif char == '"':
            # Quotes in the prose before the object open no string.
            in_string = depth > 0
        elif char == "{":
            start = i if depth == 0 else start
            depth += 1
        elif char == "}" and depth:
            depth -= 1
            if depth == 0 and _ANSWER_KEY.search(text, start, i):
                return True
    return False


def holds_answer_object(text: str) -> bool:
    """True when a text that is still being written holds all of the object that `find_object` would take.

    Or one that is no JSON, but closes its braces: nothing better is to come.
    """
    text = _without_draft(text)
    return "answer" in (find_object(text) or {}) or _ends_its_braces(text)
