"""Values of a YAML config: each has the type of its default, or a second type that the stage allows.

It converts one value and knows no keys.
"""

import math
from typing import Any

from utils.errors import UsageError
from utils.json_values import is_integer

# The largest seed that numpy takes.
MAX_SEED = 2**32 - 1


class Defaults(dict):
    """The defaults of a stage. `second_types`: full name of a key -> another type that its value may have."""

    def __init__(self, values: dict, second_types: dict[str, type]):
        super().__init__(values)
        self.second_types = second_types


def second_types(defaults: dict) -> dict[str, type]:
    """The second types of the keys that take two; plain dicts have none."""
    return defaults.second_types if isinstance(defaults, Defaults) else {}


def _convert(value: Any, kind: type) -> Any:
    """`value` as `kind`. TypeError or ValueError when it does not fit."""
    if kind in (bool, list, dict) and isinstance(value, kind):
        return value
    # bool is a subclass of int, so `seed: true` would pass as the number 1.
    if isinstance(value, bool):
        raise TypeError
    # PyYAML reads `5e-6` as text, so text is parsed where a number is wanted.
    if kind is float and isinstance(value, (int, float, str)):
        return float(value)
    if kind is int:
        number = float(value)
        if number == int(number):
            return int(number)
        raise ValueError
    if kind is str and isinstance(value, (str, int, float)):
        return str(value)
    raise TypeError


# How a value of each type is written.
_WRITTEN = {
    bool: "write true or false, without quotes",
    int: "write a whole number",
    float: "write a number",
    str: "write text, in quotes where it is no plain word",
    list: "write a list: [a, b]",
    dict: "write a block of keys",
}


def _check_finite(where: str, value: Any) -> None:
    """UsageError for a number without an end, also within a list or a block of free keys."""
    # YAML has .inf and .nan. No key means anything by them, a NaN passes many a comparison, and JSON, which
    # the run is recorded in, has neither.
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{where}: expected a finite number, found {value}; {_WRITTEN[float]}")
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for each in inside:
        _check_finite(where, each)


def coerce(where: str, value: Any, default: Any, second: type | None = None) -> Any:
    """`value` as the type of `default`, or as it is if it is of the `second` type. A None default takes any.

    UsageError, which names `where`, when it does not fit, and for infinity and NaN.
    """
    if default is None or (second and isinstance(value, second)):
        _check_finite(where, value)
        return value
    kind = type(default)
    try:
        converted = _convert(value, kind)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            f"{where}: expected {kind.__name__}, found {value!r:.60}; {_WRITTEN[kind]}"
        ) from None
    _check_finite(where, converted)
    return converted


def check_prompt_room(name: str, n_tokens: int, n_kept: int) -> None:
    """UsageError for a length in tokens of which a completion, with `n_kept` of them, leaves no prompt."""
    # The builder of prompts would speak of a limit below 0.
    if n_tokens <= n_kept:
        raise UsageError(
            f"{name}: {n_tokens} leaves no room for a prompt, as {n_kept} tokens are kept for the "
            "completion; expected some hundreds more"
        )


def check_count(name: str, value: Any, least: int = 1, or_null: bool = True) -> None:
    """UsageError unless the value is a whole number from `least` on, or null where that is a value."""
    # null and 0 pass the check of types, and ended in tracebacks far from the YAML.
    # A bool is an int in Python, and `yes` in YAML is a bool.
    if (value is None and or_null) or (is_integer(value) and value >= least):
        return
    null = ", or null" if or_null else ""
    raise UsageError(f"{name}: expected a whole number from {least} on{null}, found {value!r}")


def check_first_layer(first_layer: int, n_layers: int, name: str) -> None:
    """UsageError for a `lora.first_layer` that the model `name` has not."""
    if first_layer >= n_layers:
        raise UsageError(f"lora.first_layer: {first_layer}, but the layers of {name} are 0 to {n_layers - 1}")
