"""The shape of a JSON value (which fields, of which types), and a reader that says what a file has instead.

For JSON that a stage wrote and another one reads: an earlier version left out fields, a person changed some.
Code that indexes such a value ends in a traceback. A shape is one of

    str, float (any number), int, bool, dict, list   a value of this type
    object                                           any value
    {"name": shape, "other?": shape}                 an object with these fields, `?` if it may lack one
    Every(shape)                                     an object with any fields, all of this shape
    [shape]                                          a list, all items of this shape
    Maybe(shape)                                     null is a value too

Fields that a shape does not name may have any value. This module knows no file and no stage.
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from utils.errors import DataError
from utils.json_values import is_integer, is_number
from utils.jsonl import read_json

_WORDS: dict[type, str] = {
    **{str: "text", float: "a number", int: "an integer", bool: "true or false"},
    **{dict: "an object", list: "a list"},
}
_REMEDY = "delete it and rerun the stage that writes it"


class Every(NamedTuple):
    """An object whose values all have a shape."""

    shape: Any


class Maybe(NamedTuple):
    """A value that may be null."""

    shape: Any


def lenient(shape: Any) -> Any:
    """The shape of which every field may be missing, for a reader that goes without."""
    if isinstance(shape, dict):
        return {f"{name.removesuffix('?')}?": lenient(inner) for name, inner in shape.items()}
    if isinstance(shape, Every):
        return Every(lenient(shape.shape))
    if isinstance(shape, Maybe):
        return Maybe(lenient(shape.shape))
    return [lenient(item) for item in shape] if isinstance(shape, list) else shape


def _type_of(shape: Any) -> type:
    """The type that a value of a shape has."""
    if isinstance(shape, (Every, dict)):
        return dict
    return list if isinstance(shape, list) else shape


def _has_type(value: Any, wanted: type) -> bool:
    # `true` is an integer for Python, and 1 a float for whoever computes with it.
    if wanted is float:
        return is_number(value)
    return is_integer(value) if wanted is int else isinstance(value, wanted)


def _inner(value: Any, shape: Any) -> Iterator[tuple[str, Any, Any]]:
    """(what is added to the field's name, value, shape) of all that a shape says about the inside."""
    if isinstance(shape, Every):
        for name, inner in value.items():
            yield f".{name}", inner, shape.shape
    elif isinstance(shape, dict):
        for name, wanted in shape.items():
            key = name.removesuffix("?")
            if key in value:
                yield f".{key}", value[key], wanted
    elif isinstance(shape, list):
        for i, item in enumerate(value):
            yield f"[{i}]", item, shape[0]


def shape_problem(value: Any, shape: Any, field: str = "") -> str | None:
    """`field 'settings.seed': expected a number, found null`; None for a value that has the shape."""
    if isinstance(shape, Maybe):
        return None if value is None else shape_problem(value, shape.shape, field)
    place = f"field {field.removeprefix('.')!r}: " if field else ""
    wanted = _type_of(shape)
    if not _has_type(value, wanted):
        return f"{place}expected {_WORDS[wanted]}, found {json.dumps(value):.60}"
    if isinstance(shape, dict):
        missing = [name for name in shape if not name.endswith("?") and name not in value]
        if missing:
            return f"field {f'{field}.{missing[0]}'.removeprefix('.')!r} is missing"
    for name, inner, inner_shape in _inner(value, shape):
        if problem := shape_problem(inner, inner_shape, field + name):
            return problem
    return None


def check_shape(path: str | Path, value: Any, shape: Any, remedy: str = _REMEDY) -> None:
    """DataError, with the `remedy`, if the content of a file has another shape."""
    if problem := shape_problem(value, shape):
        raise DataError(f"{path}: {problem}; {remedy}")


def read_shaped(path: str | Path, shape: Any, remedy: str = _REMEDY) -> Any:
    """The value in a JSON file of this shape. DataError for any other, and if it is missing or no JSON."""
    value = read_json(path)
    check_shape(path, value, shape, remedy)
    return value


def manifest_in(folder: Path, shape: Any) -> dict:
    """The run.json in a folder that anybody may have filled; an empty one without it.

    Other programs write a file of this name too: one that has not the shape, and not the status of ours, is
    theirs. DataError for one of ours that has not the shape.
    """
    path = folder / "run.json"
    if not path.is_file():
        return {}
    value = read_json(path)
    is_ours = isinstance(value, dict) and value.get("status") in ("running", "complete")
    if not is_ours and shape_problem(value, shape):
        return {}
    check_shape(path, value, shape)
    return value


def read_if_there(path: Path, shape: Any) -> dict:
    """`read_shaped` of a file with an object; an empty one without the file."""
    return read_shaped(path, shape) if path.is_file() else {}
