"""YAML configs: every key known, every value of its type, `--set a.b=value` on top; and where relative paths start."""

import difflib
import os
import shlex
from pathlib import Path

import yaml

from utils.errors import DataError, UsageError


def home_path(path: str | Path) -> Path:
    """Where a relative path that the pipeline writes lies: under FACTUALITY_HOME (default: the working directory)."""
    path = Path(path).expanduser()
    return path if path.is_absolute() else Path(os.environ.get("FACTUALITY_HOME", ".")) / path


def input_path(path: str | Path) -> Path:
    """An input is looked for under FACTUALITY_HOME first, where earlier stages wrote it, then as given."""
    at_home = home_path(path)
    return at_home if at_home.exists() or not Path(path).exists() else Path(path)


def nearest(word: str, known) -> str:
    """`; did you mean 'x'?` for the closest known word, else the list of all of them."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else f"; known: {', '.join(sorted(known))}"


def _coerce(where: str, value, default):
    """`value` as the type of `default`. PyYAML reads `5e-6` as text, so text is parsed where a number is wanted."""
    if default is None:
        return value
    kind = type(default)
    try:
        if kind is bool and isinstance(value, bool) or kind in (list, dict) and isinstance(value, kind):
            return value
        if kind is float and isinstance(value, (int, float, str)) and not isinstance(value, bool):
            return float(value)
        if kind is int and not isinstance(value, bool) and float(value) == int(float(value)):
            return int(float(value))
        if kind is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
            return str(value)
    except (TypeError, ValueError):
        pass
    raise UsageError(f"{where}: expected {kind.__name__}, found {value!r}")


def check_keys(where: str, given: dict, known, prefix: str = "") -> None:
    """UsageError that names the first key of `given` that is not known, and the nearest that is."""
    for key in given:
        if key not in known:
            raise UsageError(f"{where}: unknown key {f'{prefix}{key}'!r}{nearest(str(key), known)}")


def _merge(where: str, defaults: dict, given: dict, prefix: str = "") -> dict:
    check_keys(where, given, defaults, prefix)
    merged = dict(defaults)
    for key, value in given.items():
        name = f"{prefix}{key}"
        if isinstance(defaults[key], dict) and defaults[key]:
            if not isinstance(value, dict):
                raise UsageError(f"{where}: {name!r} must be a block of keys, found {value!r}")
            merged[key] = _merge(where, defaults[key], value, f"{name}.")
        else:
            merged[key] = _coerce(f"{where}: {name!r}", value, defaults[key])
    return merged


def read_yaml(path: str | Path) -> dict:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such config; see configs/ for the ones that ship")
    try:
        value = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, dict):
        raise UsageError(f"{path}: expected a block of `key: value` lines, found {type(value).__name__}")
    return value


def load_config(path: str | Path, defaults: dict, overrides: list[str]) -> dict:
    """The YAML over `defaults` (which fixes keys and types; a None default takes any type), then `a.b=value` overrides."""
    config = _merge(str(path), defaults, read_yaml(path))
    for override in overrides:
        key, equals, text = override.partition("=")
        if not equals:
            raise UsageError(f"--set {override}: write it as key=value, for example --set training.seed=1")
        value = yaml.safe_load(text) if text else None
        for part in reversed(key.split(".")):
            value = {part: value}
        # Merged over the configuration so far, with the types of the defaults.
        config = _merge_over(f"--set {override}", defaults, config, value)
    return config


def _merge_over(where: str, defaults: dict, config: dict, given: dict) -> dict:
    checked = _merge(where, defaults, given)
    merged = dict(config)
    for key, value in given.items():
        nested = isinstance(value, dict) and isinstance(defaults[key], dict) and defaults[key]
        merged[key] = _merge_over(where, defaults[key], config[key], value) if nested else checked[key]
    return merged


def settings_flags(overrides: list[str], limit: int | None) -> str:
    """The flags that decide a run's settings, each with a space behind it, as they must stand in the command that resumes it."""
    return "".join(
        [*(f"--set {shlex.quote(override)} " for override in overrides), f"--limit {limit} " if limit else ""]
    )
