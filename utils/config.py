"""YAML configs (known keys, checked types, `--set a.b=value` on top) and where relative paths start.

The defaults that a stage hands in fix the keys and types (utils/config_values.py). This module knows no
stage's keys.
"""

import contextlib
import difflib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from utils.config_values import coerce, second_types
from utils.errors import UsageError
from utils.file_kinds import EXPECTED
from utils.recognition import config_kind
from utils.yaml_files import parse_yaml, read_yaml


def home_path(path: str | Path) -> Path:
    """Resolves an output path: relative paths go under FACTUALITY_HOME (default: the working directory)."""
    # Not Path.expanduser, which raises for a user that does not exist: that is a name like any other.
    path = Path(os.path.expanduser(path))
    # The variable is read at each call, so that a notebook or a test can set it after import.
    return path if path.is_absolute() else Path(os.environ.get("FACTUALITY_HOME", ".")) / path


def input_path(path: str | Path) -> Path:
    """Resolves an input path: under FACTUALITY_HOME, where stages write, else as given if that exists."""
    at_home = home_path(path)
    # Not Path.exists, which raises for a folder that may not be entered.
    return at_home if os.path.exists(at_home) or not os.path.exists(path) else Path(path)


def portable_path(path: str | Path) -> str:
    """A path as manifests record it: relative to FACTUALITY_HOME if it is inside, else as it is.

    So it names the same file after that folder was moved or copied; `input_path` finds it. Others start
    at the user's home (`~`) or at a folder nearby: manifests travel, and must not tell whose machine it was.
    """
    root = os.path.abspath(home_path(""))
    absolute = os.path.abspath(os.path.expanduser(path))
    if absolute.startswith(root + os.sep):
        return os.path.relpath(absolute, root)
    if not Path(path).is_absolute():
        return str(path)
    own = os.path.expanduser("~")
    if absolute.startswith(own + os.sep):
        return f"~{absolute.removeprefix(own)}"
    return str(path) if os.path.commonpath([root, absolute]) == os.sep else os.path.relpath(absolute, root)


def nearest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: `; did you mean 'x'?` for the closest known word, else all known words."""
    # An iterator can be read only once.
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def check_keys(where: str, given: dict, known: Iterable[str], prefix: str = "") -> None:
    """UsageError that names the first unknown key of `given`, and the nearest known one."""
    for key in given:
        if key not in known:
            raise UsageError(f"{where}: unknown key {f'{prefix}{key}'!r}{nearest(str(key), known)}")


def _dotted(defaults: dict, prefix: str = "") -> list[str]:
    """The full name of every key, those of blocks joined by dots."""
    names = []
    for key, value in defaults.items():
        names.append(f"{prefix}{key}")
        if isinstance(value, dict):
            names += _dotted(value, f"{prefix}{key}.")
    return names


def _check_place(where: str, given: dict, known: dict, prefix: str, names: list[str]) -> None:
    """UsageError for a key that is known in another block of `names`; a slip of indentation, most likely."""
    for key in given:
        elsewhere = [name for name in names if name.rpartition(".")[2] == key]
        if key not in known and elsewhere:
            raise UsageError(f"{where}: unknown key {f'{prefix}{key}'!r}; did you mean {elsewhere[0]!r}?")


def _no_block(where: str, name: str, value) -> UsageError:
    """The error for a value in place of a block of keys."""
    hint = "write its keys below it, indented, as `key: value`"
    if value is None:
        return UsageError(f"{where}: {name!r} must be a block of keys, but is empty; {hint}")
    if isinstance(value, list):
        hint = "remove the dashes in front of its keys"
    return UsageError(f"{where}: {name!r} must be a block of keys, found {value!r:.60}; {hint}")


def _merge(where: str, whole: dict, given: dict, prefix: str = "") -> dict:
    """The defaults with the values of `given`, each checked against the type of its default.

    `whole` has the defaults of all keys, and `prefix` names the block of them that `given` is of.
    """
    defaults = whole
    for block in prefix.split(".")[:-1]:
        defaults = defaults[block]
    _check_place(where, given, defaults, prefix, _dotted(whole))
    check_keys(where, given, defaults, prefix)
    merged = dict(defaults)
    for key, value in given.items():
        name = f"{prefix}{key}"
        # An empty dict as default is a value that the user fills freely, not a block with known keys.
        is_block = isinstance(defaults[key], dict) and defaults[key]
        if not is_block:
            merged[key] = coerce(f"{where}: {name!r}", value, defaults[key], second_types(whole).get(name))
        elif isinstance(value, dict):
            merged[key] = _merge(where, whole, value, f"{name}.")
        else:
            raise _no_block(where, name, value)
    return merged


def check_stage(path: str | Path, given: dict, expected: str) -> None:
    """UsageError for the config of another stage than `expected`, a key of EXPECTED."""
    found = config_kind(given, expected)
    if found and found.name != expected:
        raise UsageError(f"{path}: found {found.what}, expected {EXPECTED[expected]}; {found.remedy}")


@contextlib.contextmanager
def errors_of(path: str | Path, overrides: list[str]) -> Iterator[None]:
    """Puts the file that the values come from in front of a UsageError about one of them."""
    try:
        yield
    except UsageError as error:
        where = f"{path} with --set" if overrides else str(path)
        raise UsageError(f"{where}: {error}") from error


def _parse_override(override: str) -> dict:
    """`a.b=value` as nested dicts. UsageError for another form, or a value that is not valid YAML."""
    key, equals, text = override.partition("=")
    if not equals or not all(key.split(".")):
        raise UsageError(f"--set {override}: write it as key=value, for example --set training.seed=1")
    # Parsed as YAML, so that `null`, lists and numbers mean the same as in the file.
    first, *rest = key.split(".")
    value = parse_yaml(text, f"--set {override}") if text else None
    for part in reversed(rest):
        value = {part: value}
    return {first: value}


def load_config(path: str | Path, defaults: dict, overrides: list[str]) -> dict:
    """The YAML over `defaults`, then each `a.b=value` of `overrides` over both.

    `defaults` fixes keys and types; a None default accepts any type. UsageError names a wrong key or value.
    """
    # Manifests name it as it is under FACTUALITY_HOME, and their commands run anywhere.
    if not os.path.exists(path) and os.path.exists(home_path(path)):
        path = home_path(path)
    stage = config_kind(defaults)
    expected = stage.name if stage else "config"
    given = read_yaml(path, expected)
    # The defaults of a test or a benchmark may be of no stage.
    if stage:
        check_stage(path, given, expected)
    config = _merge(str(path), defaults, given)
    for override in overrides:
        given = _parse_override(override)
        config = _overlay(defaults, config, _merge(f"--set {override}", defaults, given), given)
    return config


def _overlay(defaults: dict, config: dict, checked: dict, given: dict) -> dict:
    """`config` with the values of `checked` for the keys of `given`. A value in `config` may be None."""
    merged = dict(config)
    for key, value in given.items():
        is_block = isinstance(defaults[key], dict) and defaults[key]
        merged[key] = _overlay(defaults[key], config[key], checked[key], value) if is_block else checked[key]
    return merged


def settings_flags(overrides: list[str], limit: int | None) -> list[str]:
    """The flags that decide a run's settings, to resume it with."""
    flags = []
    for override in overrides:
        flags += ["--set", override]
    return flags + (["--limit", str(limit)] if limit is not None else [])
