"""YAML files as blocks of keys, and what is wrong with one that cannot be read, in plain words with its line.

Which keys a stage knows is checked in `utils/config.py`.
"""

from pathlib import Path

import yaml

from utils.errors import DataError, UsageError
from utils.file_kinds import CONFIGS, EXPECTED
from utils.input_files import unreadable_reason
from utils.recognition import kind_of
from utils.yaml_reading import TooLarge, load_yaml

# Kinds of files whose text may be meant as YAML; JSON objects are YAML too.
_MAY_BE_YAML = {"yaml", "object", "list", "text", "table", *(kind.name for kind in CONFIGS)}
# Large ones take minutes to parse, and are data under a wrong name.
_MAX_BYTES = 1 << 20
_NO_COLON = "this line lacks a colon; write `key: value`"
# What PyYAML says, and what has most likely happened. The first that fits is taken.
_SLIPS = (
    ("found character '\\t'", "a tab; indent with spaces"),
    ("that cannot start any token", "a value cannot start with this character; put it in quotes"),
    ("could not find expected ':'", _NO_COLON),
    ("mapping values are not allowed", "a second colon, or more spaces in front than the line above"),
    ("<block mapping start>", "more or fewer spaces in front than its neighbors; align the keys of a block"),
    ("<block sequence start>", "a list among keys; align it, or give it a key of its own"),
    ("expected <block end>", "more or fewer spaces in front than its neighbors, or text behind a quote"),
    ("unknown escape character", "a backslash within double quotes; use single quotes"),
    ("expected escape sequence", "a backslash within double quotes; use single quotes"),
    ("unexpected end of stream", "a quote that is not closed"),
    ("expected ',' or", "a bracket that is not closed, or a missing comma"),
    ("undefined alias", "a value cannot start with *; put it in quotes"),
    ("expected alphabetic or numeric", "a value cannot start with * or &; put it in quotes"),
    ("could not determine a constructor", "tags such as !x are not read; write plain values"),
    ("unhashable key", "{{...}} was not replaced by a value"),
    ("another document", "a second document after ---; keep one"),
)


def _line_of(error: yaml.MarkedYAMLError) -> int:
    """The line, from 1, that a YAML error is about."""
    # A key without a colon and a quote or bracket without an end are noticed lines later, where the context
    # has the start.
    is_late = any(word in (error.context or "") for word in ("scanning", "flow"))
    mark = error.context_mark if is_late and error.context_mark else error.problem_mark
    return mark.line + 1 if mark else 1


def _lacks_colon(lines: list[str], number: int) -> bool:
    """Whether the line before line `number` has text but no colon: the two are read as one long key."""
    before = lines[number - 2].partition("#")[0].strip() if number > 1 else ""
    return bool(before) and ":" not in before


def _slip(error: yaml.YAMLError, text: str) -> str:
    """`:line: what is wrong, found '...'` of a text that is not YAML."""
    if not isinstance(error, yaml.MarkedYAMLError):
        # A character that YAML does not allow; the message spans two lines.
        return f": not valid YAML ({' '.join(str(error).split()):.100})"
    problem = error.problem or str(error)
    known = next((advice for words, advice in _SLIPS if words in problem), problem)
    lines = text.splitlines()
    number = _line_of(error)
    if "mapping values" in problem and _lacks_colon(lines, number):
        known = _NO_COLON
        number -= 1
    found = lines[number - 1].rstrip() if number <= len(lines) else ""
    return f":{number}: not valid YAML: {known}; found {found!r:.60}"


def parse_yaml(text: str, place: str):
    """The value of a YAML text. UsageError, which starts with `place`, if it is not valid YAML."""
    try:
        value, repeated = load_yaml(text)
    except RecursionError as error:
        raise UsageError(f"{place}: nested too deeply, or a block contains itself") from error
    except yaml.YAMLError as error:
        raise UsageError(f"{place}{_slip(error, text)}") from error
    except TooLarge as error:
        raise UsageError(f"{place}: too large for a config ({error}); see configs/") from error
    # A date or number that Python cannot represent, or a value that its tag does not take.
    except ValueError as error:
        raise UsageError(f"{place}: not valid YAML ({error}); put the value in quotes") from error
    # PyYAML keeps the last of repeated keys: a second block of one name would replace the first.
    if repeated:
        line = repeated.start_mark.line + 1
        raise UsageError(f"{place}:{line}: key {repeated.value!r:.60} is there twice in one block; join them")
    return value


def read_yaml(path: str | Path, expected: str = "config") -> dict:
    """The block of keys in a YAML file. DataError if it is missing, UsageError if it is anything else.

    `expected` (a key of EXPECTED) names what the file should be in a message.
    """
    path = Path(path)
    if reason := unreadable_reason(path, ".yaml", "see configs/ for the configs that ship"):
        raise DataError(f"{path}: {reason}")
    if (size := path.stat().st_size) > _MAX_BYTES:
        raise UsageError(
            f"{path}: has {size >> 20} MB, and no config is over {_MAX_BYTES >> 20} MB; see configs/"
        )
    kind = kind_of(path, expected)
    if kind and kind.name not in _MAY_BE_YAML:
        raise UsageError(
            f"{path}: not valid YAML: found {kind.what}, expected {EXPECTED[expected]}; {kind.remedy}"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UsageError(f"{path}:{line}: not UTF-8 ({error.reason}); save the file as UTF-8 text") from error
    value = parse_yaml(text, str(path))
    if value is None:
        what = "has only comments" if text.strip() else "is empty"
        raise UsageError(f"{path}: the file {what}; expected {EXPECTED[expected]}, see configs/")
    if not isinstance(value, dict):
        found = f"found {type(value).__name__} {value!r:.40}"
        raise UsageError(f"{path}: expected a block of `key: value` lines, {found}; see configs/")
    return value
