"""Values of an emitted JSON object, read one by one: an answer, a citation, a confidence.

It mends the form of a value and never its meaning. It knows no schema (`utils/completions.py`).
"""

import json
import math
import re


# bool is a subclass of int: without these checks `true` would be citation 1 and confidence 1.0.
def is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


# Numbers with nothing between them but what stands between items of a list.
_BETWEEN = r"[\s\[\](),;]"
_NOTHING = re.compile(rf"{_BETWEEN}*")
_NUMBERS = re.compile(rf"{_BETWEEN}*\d{{1,6}}(?:{_BETWEEN}+\d{{1,6}})*{_BETWEEN}*")


def _as_citation(value) -> int:
    """An integer as it is, 2.0 as 2, anything else as -1."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if is_integer(value) else -1


def as_citations(value) -> list[int]:
    """The citations that a value lists: "0, 2", "[0, 2]" and [[0, 2]] are 0 and 2; null and "none" are none.

    A text without anything in it ("[]") is none, too. What else is no number is one citation, -1: a wrong one
    is never dropped.
    """
    if value is None:
        return []
    if isinstance(value, str):
        if value.strip().lower() in ("none", "null") or _NOTHING.fullmatch(value):
            return []
        return list(map(int, re.findall(r"\d+", value))) if _NUMBERS.fullmatch(value) else [-1]
    if not isinstance(value, list):
        return [_as_citation(value)]
    found = []
    for item in value:
        if isinstance(item, str):
            found += as_citations(item)
        elif isinstance(item, list):
            found += map(_as_citation, item)
        else:
            found.append(_as_citation(item))
    return found


def as_confidence(value) -> float | None:
    """A number in 0..1, also as "0.95" or "95%"; anything else as None."""
    if isinstance(value, str):
        match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?|\.\d+)\s*(%?)\s*", value)
        if match:
            value = float(match.group(1)) / (100 if match.group(2) else 1)
    return float(value) if is_number(value) and 0 <= value <= 1 else None


def as_answer(value) -> str | None:
    """A text without surrounding space; a number or truth value as JSON writes it; else None."""
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    is_finite = isinstance(value, int) or (isinstance(value, float) and math.isfinite(value))
    if is_finite:
        return json.dumps(value)
    return value.strip() or None if isinstance(value, str) else None
