"""What differs between the settings of two evaluations, as `--compare` shows it.

Files and models with the same contents are the same under any path, and a flag's default is the same as no
flag. It reads manifests only.
"""

from pathlib import Path

# Settings that name outputs, not what was measured.
_NOT_SETTINGS = {"output", "report", "dry_run", "compare", "inputs", "overwrite", "model_dir"}
# Hashes of what `_PLACES` name, or of what another setting shows.
_HASHES = ("_key", "_hashes", "template_hash")
# Of a gate its factor is shown; these would fill the page (utils/decisions.py).
_OF_GATES = (".weights", ".intercept")
# Where a model's hash is, by the setting that names the model.
_MODEL_KEYS = {"model_path": "model_key", "base_model": "base_key"}
_PLACES = ("test_data", "predictions", *_MODEL_KEYS)
# What a run has where a flag was not given.
_DEFAULTS = {"template": "default", "temperature": 0.0}


def _flat(value, prefix: str = "") -> dict[str, str]:
    """Nested keys as one dotted name per value: {"a": {"b": 1}} -> {"a.b": "1"}."""
    if not isinstance(value, dict):
        # Lists were once written as their flag is.
        text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
        return {prefix.rstrip("."): text}
    found: dict[str, str] = {}
    for key, inner in value.items():
        found |= _flat(inner, f"{prefix}{key}.")
    return found


def file_contents(run: dict, setting: str) -> str | None:
    """The hash of the file that a setting names; None if the run does not tell."""
    named = run["settings"].get(setting)
    for path, digest in run["inputs"].items():
        # Paths are relative to a home that may have moved.
        if named and Path(path).name == Path(named).name:
            return digest
    return None


def _contents(run: dict, place: str) -> str | None:
    if place in _MODEL_KEYS:
        key = run["settings"].get(_MODEL_KEYS[place])
        return None if key is None else str(key)
    return file_contents(run, place)


def _flat_run(run: dict, hidden: set[str]) -> dict[str, str]:
    settings = {}
    for key, value in run["settings"].items():
        # All ways in which a flag that was not given is written.
        is_default = value in (None, False, 0, "", [], {}) or value == _DEFAULTS.get(key)
        if not is_default and key not in hidden and not key.endswith(_HASHES):
            settings[key] = value
    flat = _flat(settings | {"packages": run["packages"], "git_commit": run["git_commit"]})
    return {name: value for name, value in flat.items() if not name.endswith(_OF_GATES)}


def differing_settings(first: dict, second: dict) -> list[list[str]]:
    """[name, value of A, value of B] of each setting, version and commit that differs.

    Where a file or model has other contents under the same path, its row has the starts of the hashes.
    """
    contents = {place: [_contents(run, place) for run in (first, second)] for place in _PLACES}
    known = {place: found for place, found in contents.items() if None not in found}
    same = {place for place, (one, other) in known.items() if one == other}
    sides = [_flat_run(run, _NOT_SETTINGS | same) for run in (first, second)]
    rows = []
    for name in sorted(sides[0].keys() | sides[1].keys()):
        if sides[0].get(name) != sides[1].get(name):
            rows.append([name, *(side.get(name, "(not given)") for side in sides)])
    shown = {row[0] for row in rows}
    for place, (one, other) in known.items():
        if place not in same | shown:
            rows.append([f"{place} (contents)", str(one)[:12], str(other)[:12]])
    return rows
