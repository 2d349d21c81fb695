"""YAML configs (known keys, checked types, `--set a.b=value` on top) and where relative paths start.

The defaults that a stage hands in fix the keys and types. This module knows no stage's keys.
"""

import difflib
import os
import shlex
from collections.abc import Iterable
from pathlib import Path

import yaml

from utils.errors import DataError, UsageError


def home_path(path: str | Path) -> Path:
    """Resolves an output path: relative paths go under FACTUALITY_HOME (default: the working directory)."""
    path = Path(path).expanduser()
    # The variable is read at each call, so that a notebook or a test can set it after import.
    return path if path.is_absolute() else Path(os.environ.get("FACTUALITY_HOME", ".")) / path


def input_path(path: str | Path) -> Path:
    """Resolves an input path: under FACTUALITY_HOME, where stages write, else as given if that exists."""
    at_home = home_path(path)
    return at_home if at_home.exists() or not Path(path).exists() else Path(path)


def portable_path(path: str | Path) -> str:
    """A path as manifests record it: relative to FACTUALITY_HOME if it is inside, else as it is.

    So it names the same file after that folder was moved or copied; `input_path` finds it.
    """
    root = os.path.abspath(home_path(""))
    absolute = os.path.abspath(Path(path).expanduser())
    return os.path.relpath(absolute, root) if absolute.startswith(root + os.sep) else str(path)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?` for the closest known word, else all known words."""
    # An iterator can be read only once.
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def _convert(value, kind: type):
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


def _coerce(where: str, value, default):
    """`value` as the type of `default`; a None default accepts any value. UsageError when it does not fit."""
    if default is None:
        return value
    kind = type(default)
    try:
        return _convert(value, kind)
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{where}: expected {kind.__name__}, found {value!r}") from None


def check_keys(where: str, given: dict, known: Iterable[str], prefix: str = "") -> None:
    """UsageError that names the first unknown key of `given`, and the nearest known one."""
    for key in given:
        if key not in known:
            raise UsageError(f"{where}: unknown key {f'{prefix}{key}'!r}{nearest(str(key), known)}")


def _merge(where: str, defaults: dict, given: dict, prefix: str = "") -> dict:
    """`defaults` with the values of `given`, each checked against the type of its default."""
    check_keys(where, given, defaults, prefix)
    merged = dict(defaults)
    for key, value in given.items():
        name = f"{prefix}{key}"
        # An empty dict as default is a value that the user fills freely, not a block with known keys.
        is_block = isinstance(defaults[key], dict) and defaults[key]
        if not is_block:
            merged[key] = _coerce(f"{where}: {name!r}", value, defaults[key])
        elif isinstance(value, dict):
            merged[key] = _merge(where, defaults[key], value, f"{name}.")
        else:
            raise UsageError(f"{where}: {name!r} must be a block of keys, found {value!r}")
    return merged


def _repeated_key(node: yaml.Node | None) -> yaml.Node | None:
    """The first key under a YAML node that repeats in its block; None if there is none."""
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    seen = set()
    for key, value in node.value:
        # Only scalars are keys of a config; a list as a key fails in `safe_load`.
        if str(key.value) in seen:
            return key
        seen.add(str(key.value))
        if repeated := _repeated_key(value):
            return repeated
    return None


def read_yaml(path: str | Path) -> dict:
    """The block of keys in a YAML file. DataError if it is missing, UsageError if it is anything else."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such config; see configs/ for the ones that ship")
    try:
        text = path.read_text(encoding="utf-8")
        value = yaml.safe_load(text)
        repeated = _repeated_key(yaml.compose(text, yaml.SafeLoader))
    except RecursionError as error:
        raise UsageError(f"{path}: nested too deeply, or a block contains itself") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        # A YAML error spans several lines; a stage's message is one line.
        raise UsageError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    # PyYAML keeps the last of repeated keys: a second block of one name would replace the first.
    if repeated:
        line = repeated.start_mark.line + 1
        raise UsageError(f"{path}:{line}: key {repeated.value!r} is there twice in one block; join the two")
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a block of `key: value` lines, found {type(value).__name__}")
    return value


def load_config(path: str | Path, defaults: dict, overrides: list[str]) -> dict:
    """The YAML over `defaults`, then each `a.b=value` of `overrides` over both.

    `defaults` fixes keys and types; a None default accepts any type. UsageError names a wrong key or value.
    """
    config = _merge(str(path), defaults, read_yaml(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: write it as key=value, for example --set training.seed=1")
        # Parsed as YAML, so that `null`, lists and numbers mean the same as in the file.
        first, *rest = key.split(".")
        value = yaml.safe_load(text) if text else None
        for part in reversed(rest):
            value = {part: value}
        config = _merge_over(f"--set {override}", defaults, config, {first: value})
    return config


def _merge_over(where: str, defaults: dict, config: dict, given: dict) -> dict:
    """`config` with the values of `given`. Types come from `defaults`; a value in `config` may be None."""
    checked = _merge(where, defaults, given)
    merged = dict(config)
    for key, value in given.items():
        is_block = isinstance(value, dict) and isinstance(defaults[key], dict) and defaults[key]
        merged[key] = _merge_over(where, defaults[key], config[key], value) if is_block else checked[key]
    return merged


def settings_flags(overrides: list[str], limit: int | None) -> str:
    """The flags that decide a run's settings, each with a space behind it, to resume it with."""
    flags = "".join(f"--set {shlex.quote(override)} " for override in overrides)
    return flags + (f"--limit {limit} " if limit else "")
