"""JSON read strictly: text that another parser could read differently, or that no file can keep, is an error.

It sees one value. What a row means is known to the readers.
"""

import json
import math
import re
from collections.abc import Iterable

# The escape of one half of a character outside the Basic Multilingual Plane. Two that belong together are
# read as one character; a half alone cannot be encoded, so it would end a run when its text is written.
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")
OLD_LINE_ENDS = "the line ends are CR alone, so all rows are one line; convert them to LF"
# Blocks within blocks. No row of ours has ten; Python ends a run that shows or writes a value of hundreds.
_MAX_DEPTH = 64


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _finite(digits: str) -> float:
    """The number, if it is one: beyond 1e308 it would be infinity, which no file can keep."""
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"number {digits:.20} is too large")
    return value


def _unique_keys(pairs: list[tuple]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        seen = set()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"duplicate key {key!r:.60} in one object")
            seen.add(key)
    return value


# json.loads accepts NaN and Infinity, and silently keeps the last of repeated keys. This decoder refuses all
# three.
_STRICT = json.JSONDecoder(
    parse_float=_finite, parse_constant=_reject_constant, object_pairs_hook=_unique_keys
)


# Only to find the end of a value. `float` takes numbers of any length, `int` ends at 4,300 digits.
_LENIENT = json.JSONDecoder(parse_int=float)


def _blocks_in(block: list | dict) -> Iterable[list | dict]:
    """The lists and objects directly within one."""
    values = block.values() if isinstance(block, dict) else block
    return (value for value in values if isinstance(value, (list, dict)))


def _is_too_deep(value) -> bool:
    """Whether blocks are nested more than `_MAX_DEPTH` deep, found without recursion."""
    blocks = [value] if isinstance(value, (list, dict)) else []
    for _ in range(_MAX_DEPTH):
        blocks = [inner for block in blocks for inner in _blocks_in(block)]
        if not blocks:
            return False
    return True


def decode_at(text: str, place: int) -> tuple:
    """(value, its end) of the JSON value that starts at `place`.

    ValueError for NaN, infinity, repeated keys, half a character, nesting too deep to use, or no JSON.
    """
    try:
        value, end = _STRICT.raw_decode(text, place)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    # Counted first, which takes no time: most rows have few brackets.
    n_brackets = text.count("[", place, end) + text.count("{", place, end)
    if n_brackets > _MAX_DEPTH and _is_too_deep(value):
        raise ValueError("nested too deeply")
    # Only an escape can be half a character, since UTF-8 has no form for one.
    if _ESCAPED_HALF.search(text, place, end):
        try:
            json.dumps(value, ensure_ascii=False).encode("utf-8")
        except UnicodeEncodeError as error:
            half = error.object[error.start]
            raise ValueError(f"lone surrogate {half!r}, half a character, in a text") from error
    return value, end


def decode_anything(text: str, place: int) -> tuple:
    """(value, its end, what is wrong with it) of the text at `place`, without an error.

    A value that only the strict reading refuses has an end, so that the text behind it can be read. The end
    is None where no value can be read, since the text is damaged or continues elsewhere.
    """
    try:
        value, end = decode_at(text, place)
        return value, end, ""
    except ValueError as error:
        problem = str(error)
    try:
        _, end = _LENIENT.raw_decode(text, place)
    except (ValueError, RecursionError):
        return None, None, problem
    return None, end, problem


def parse_json(text: str):
    """Strict `json.loads`, with the errors of `decode_at`."""
    text = text.strip()
    value, end = decode_at(text, 0)
    if end < len(text):
        raise ValueError(f"more text after the value: {text[end : end + 40]!r:.40}")
    return value


def several_values(text: str) -> str:
    """The problem of a line with more rows behind its first value, and the remedy; "" for other lines."""
    text = text.strip()
    _, end, _ = decode_anything(text, 0)
    # The line of a list ends with a comma; nothing else is behind it.
    rest = "" if end is None else text[end:]
    if not rest.lstrip(" ,\t\r").startswith(("{", "[")):
        return ""
    return OLD_LINE_ENDS if "\r" in rest else "several JSON values on one line; write one per line"


def whole_characters(text: str) -> str:
    """The text with U+FFFD, the replacement character, in place of each half character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
