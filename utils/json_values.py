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


def as_citation(value) -> int:
    """An integer as it is, "2" and "[2]" as 2, anything else as -1."""
    if is_integer(value):
        return value
    match = re.fullmatch(r"\s*\[?(\d{1,6})\]?\s*", value) if isinstance(value, str) else None
    return int(match.group(1)) if match else -1


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
