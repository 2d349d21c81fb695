"""What differs between two runs of a directory: settings, and the contents of inputs and models.

A file or model counts by its hash, not by its path, so a run goes on after its folder was moved or copied,
and another file under the same path is noticed. It reads manifests (`utils/runs.py`) and knows no stage.
"""

import re
from pathlib import Path
from typing import Any

from utils.errors import UsageError
from utils.public import public_value

# A message names at most this many changed settings.
_MAX_SHOWN = 4
# The directory that both manifests are of: it may have moved.
_NOT_COMPARED = ("output_dir",)
_COMMIT = re.compile(r"[0-9a-f]{40}")


def _hash_named(value: Any, hashes: dict[str, str]) -> str | None:
    """The hash of the input or model that a setting names; None if it names none of them."""
    if not isinstance(value, str) or not value:
        return None
    for path, digest in hashes.items():
        # A setting and a manifest may start the same path at different folders.
        if path == value or path.endswith(f"/{value}") or value.endswith(f"/{path}"):
            return digest
    return None


def _is_same(was: Any, now: Any, old_hashes: dict[str, str], new_hashes: dict[str, str]) -> bool:
    """Whether two values of a setting are equal, or name files or models of the same content."""
    if was == now:
        return True
    if isinstance(was, list) and isinstance(now, list) and len(was) == len(now):
        return all(_is_same(a, b, old_hashes, new_hashes) for a, b in zip(was, now))
    old_hash = _hash_named(was, old_hashes)
    return old_hash is not None and old_hash == _hash_named(now, new_hashes)


def _line(name: str, was: Any, now: Any) -> str:
    return f"{name} (was {was!r:.60}, now {now!r:.60})"


def _changed(old: dict, new: dict, old_hashes: dict, new_hashes: dict, prefix: str = "") -> list[str]:
    """A line for each setting that differs, keys of nested blocks joined by dots."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        was = old.get(key)
        now = new.get(key)
        if isinstance(was, dict) and isinstance(now, dict):
            lines += _changed(was, now, old_hashes, new_hashes, f"{prefix}{key}.")
        elif not _is_same(was, now, old_hashes, new_hashes):
            lines.append(_line(f"{prefix}{key}", was, now))
    return lines


def _changed_contents(block: str, old: dict[str, str], new: dict[str, str]) -> list[str]:
    """A line for each path whose content is in one of the runs alone."""
    lines = []
    for path in sorted(old.keys() | new.keys()):
        was = old.get(path)
        now = new.get(path)
        is_lost = was is not None and was not in new.values()
        is_added = now is not None and now not in old.values()
        if is_lost or is_added:
            # The first digits are enough to see that they differ.
            line = _line(f"{block}.{path}", was and was[:12], now and now[:12])
            # Of a model from the hub, the commit can be named again; keys of local ones are longer.
            if block == "models" and was and _COMMIT.fullmatch(was):
                line += f", where {path.partition('@')[0]}@{was} names the first"
            lines.append(line)
    return lines


def _compared(settings: dict) -> dict:
    return {key: value for key, value in settings.items() if key not in _NOT_COMPARED}


def _with_defaults(settings: dict, defaults: dict) -> dict:
    """The settings with the defaults of the keys that they lack, in nested blocks too."""
    filled = {**defaults, **settings}
    for key, default in defaults.items():
        if isinstance(default, dict) and isinstance(filled[key], dict):
            filled[key] = _with_defaults(filled[key], default)
    return filled


def changed_settings(old: dict, new: dict, defaults: dict | None = None) -> list[str]:
    """`key (was ..., now ...)` for all that makes two runs different, given their manifests; [] if nothing.

    Manifests of an earlier version lack keys that were added since, whose `defaults` they were made with;
    they record no models, and inputs under other paths. They can be resumed.
    """
    old_inputs = old.get("inputs", {})
    new_inputs = new.get("inputs", {})
    old_models = old.get("models", {})
    new_models = new.get("models", {})
    old_hashes = {**old_inputs, **old_models}
    new_hashes = {**new_inputs, **new_models}
    # Manifests of an earlier version have paths as they were given.
    was = public_value(_compared(_with_defaults(old.get("settings", {}), defaults or {})))
    now = public_value(_compared(new.get("settings", {})))
    lines = _changed(was, now, old_hashes, new_hashes)
    lines += _changed_contents("inputs", old_inputs, new_inputs)
    if old_models:
        lines += _changed_contents("models", old_models, new_models)
    return lines


def refuse_changed(output: Path, changed: list[str]) -> None:
    """UsageError that names what `changed_settings` found between an output and a new run, if anything."""
    if not changed:
        return
    shown = "; ".join(changed[:_MAX_SHOWN])
    if len(changed) > _MAX_SHOWN:
        shown += f"; and {len(changed) - _MAX_SHOWN} more"
    raise UsageError(
        f"{output} was made with other settings: {shown}; add --overwrite or choose another output"
    )
