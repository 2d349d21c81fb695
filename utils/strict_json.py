"""JSON read strictly: text that another parser could read differently, or that no file can keep, is an error.

It sees one value. What a row means is known to the readers.
"""

import json
import re

# The escape of one half of a character outside the Basic Multilingual Plane. Two that belong together are
# read as one character; a half alone cannot be encoded, so it would end a run when its text is written.
_ESCAPED_HALF = re.compile(r"\\u[dD][89a-fA-F]")


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        repeated = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"duplicate key {repeated!r} in one object")
    return value


# json.loads accepts NaN and Infinity, and silently keeps the last of repeated keys. This decoder refuses all
# three.
_STRICT = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_unique_keys)


# Only to find the end of a value. `float` takes numbers of any length, `int` ends at 4,300 digits.
_LENIENT = json.JSONDecoder(parse_int=float)


def decode_at(text: str, place: int) -> tuple:
    """(value, its end) of the JSON value that starts at `place`.

    ValueError for NaN, Infinity, repeated keys, half a character, nesting too deep to parse, or no JSON.
    """
    try:
        value, end = _STRICT.raw_decode(text, place)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
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
        raise ValueError(f"more text after the value: {text[end:]!r:.40}")
    return value


def whole_characters(text: str) -> str:
    """The text with U+FFFD, the replacement character, in place of each half character."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
