"""The cache of candidates: finds the directory that the flags describe, and reads what is to be judged.

A directory is named after a hash of its settings, which are everything that changes the texts: of the models
their contents and not their places, so that the cache of a moved folder is found. In it, manifest.json has
the settings, and a file per model (gens_sft.jsonl, gens_base.jsonl) has one row per candidate. This
module knows nothing about judges or scores.
"""

import contextlib
from pathlib import Path
from typing import Any

from models.base import model_key
from models.choices import UNNAMED_SETTINGS
from utils.aside import drop_aside, restore_aside, set_aside
from utils.config import portable_path
from utils.errors import DataError, UsageError
from utils.jsonl import read_appended, sha256_file, write_json
from utils.own_files import CACHE, JUDGED_CACHE, UNFINISHED_CACHE
from utils.runs import note
from utils.shapes import read_if_there, read_shaped

# Flags that change the generated texts, with their defaults. The parser's own default is None, "not given":
# the judge phase compares a cache only with the flags that were given.
GENERATION_DEFAULTS: dict[str, Any] = {
    "max_samples": None,
    # None: the SFT model, and the base where temperature or number leave one candidate.
    "models": None,
    "n_generations": 2,
    "max_new_tokens": 128,
    "max_input_tokens": 2048,
    "temperature": 0.7,
    "top_p": 1.0,
    "top_k": 0,
    "use_8bit": False,
    "use_4bit": False,
    "template": None,
    "seed": 42,
    "unseen_only": False,
}

# The place of a model in the settings -> the key of what it is, which caches of an earlier version lack.
MODEL_KEYS = {"sft_model": "sft_key", "base_model": "base_key", "policy_model": "policy_key"}

# What caches mean that do not name these settings, as those of versions without them.
_UNNAMED = {**UNNAMED_SETTINGS, "models": "sft,base"}

# A sample with its candidates, all generated from the same prompt.
Job = tuple[dict, list[dict]]

# The models whose candidates compete. Of two equal texts, the one of the earlier model is kept.
MODELS = ("sft", "base", "policy")
# What --models takes: the SFT model, the base, and a policy that is named, alone or with others.
MODEL_CHOICES = ("sft", "base", "sft,base", "policy", "sft,policy", "sft,base,policy")


def cache_key(settings: dict) -> dict:
    """The settings whose hash names a cache: all but the places of the models."""
    return {name: value for name, value in settings.items() if name not in MODEL_KEYS}


# Caches that a message describes.
_MAX_CACHES = 5
# The manifests below the folder of all caches, but of none that was set aside (utils/aside.py).
CACHE_MANIFESTS = "[!.]*/manifest.json"


def claim_cache(cache: Path, overwrite: bool, revision: str | None = None) -> bool:
    """Prepare a cache directory for generation. True, and said, when it is complete already.

    `revision`: the commit of a base model from the hub, which its key, a name, does not tell. UsageError,
    unless `overwrite`, where the cache is of another one.
    """
    restore_aside(cache)
    found = read_if_there(cache / "manifest.json", UNFINISHED_CACHE)
    is_complete = found.get("status") == "complete"
    known = found.get("base_revision")
    if revision and known and known != revision and not overwrite:
        raise UsageError(
            f"{cache}: its candidates are of commit {known:.12} of the base model, and the copy on this "
            f"machine is of {revision:.12}; add --overwrite to generate them again"
        )
    if overwrite and cache.exists():
        # Judgements go too: they are about the texts that are generated again.
        set_aside(cache, is_complete)
        return False
    if is_complete:
        _check_whole(cache, found)
        print(f"candidates {cache.name} are complete; nothing to generate")
    return is_complete


def complete_cache(cache: Path, manifest: dict) -> None:
    """Mark a cache as complete: an interrupted one is resumed, never judged."""
    rows = {name: len(cached_rows(cache, name)) for name in MODELS}
    n_rows = {name: n for name, n in rows.items() if n}
    write_json(cache / "manifest.json", {**manifest, "n_rows": n_rows, "status": "complete"})
    drop_aside(cache)


def _check_whole(cache: Path, manifest: dict) -> None:
    """DataError if a complete cache has lost candidates: a judge would compare what is left, and say nothing.

    Manifests of earlier versions do not say how many there were.
    """
    for name, wanted in manifest.get("n_rows", {}).items():
        found = len(cached_rows(cache, name))
        if found != wanted:
            raise DataError(
                f"{cache / f'gens_{name}.jsonl'}: has {found:,} of the {wanted:,} candidates that were "
                "generated; generate them again with --overwrite, or copy the file from where it is whole"
            )


def given_settings(flags: dict, data_path: Path) -> dict:
    """The generation settings given on the command line, with the hash of the data file if it exists.

    A model that is still there also has its key, so that it is found under another path.
    """
    names = (*GENERATION_DEFAULTS, *UNNAMED_SETTINGS)
    given = {name: flags[name] for name in names if flags.get(name) is not None}
    for name, key in MODEL_KEYS.items():
        if flags[name] is None:
            continue
        given[name] = portable_path(flags[name])
        # Judging needs no model: a missing one is known by its name alone.
        with contextlib.suppress(DataError):
            # The base that is named is that of the SFT model; a policy names its own.
            base = flags["base_model"] if name != "policy_model" else None
            given[key] = model_key(flags[name], base)
    # By content, so that a moved or renamed file is still the same data.
    if data_path.is_file():
        given["data_sha256"] = sha256_file(data_path)
    return given


def _differences(settings: dict, wanted: dict) -> list[str]:
    """The wanted settings that a cache does not have, each with the value it has instead."""
    differing = []
    for name, value in wanted.items():
        key = MODEL_KEYS.get(name)
        # The key says more than the place, where both sides have it.
        is_told_by_key = key in wanted and key in settings
        is_unknown_key = name in MODEL_KEYS.values() and name not in settings
        found = settings.get(name, _UNNAMED.get(name))
        if found != value and not is_told_by_key and not is_unknown_key:
            differing.append(f"{name} {found!r:.40}")
    return differing


def _no_cache_fits(folder: Path, manifests: dict[str, dict], wanted: dict) -> DataError:
    lines = [f"no complete candidate cache fits the flags: {folder} is empty"]
    if manifests:
        lines = [f"no complete candidate cache fits the flags in {folder}:"]
    caches = []
    # The newest first: a message has a few lines, however many caches there are.
    for sig, manifest in sorted(manifests.items(), key=lambda item: -item[1].get("created", 0.0)):
        differing = ", ".join(_differences(manifest["settings"], wanted)) or "nothing"
        caches.append(f"{sig}: {manifest['status']}, differs in {differing}")
    if caches:
        more = [f"and {len(caches) - _MAX_CACHES} more"] if len(caches) > _MAX_CACHES else []
        lines.append("  " + "; ".join(caches[:_MAX_CACHES] + more))
    lines.append("run --phase generate first, or name a cache with --cache-sig")
    return DataError("\n".join(lines))


def find_cache(folder: Path, wanted: dict, cache_sig: str | None) -> str:
    """Signature of the newest complete cache with all `wanted` settings, or of the one named `cache_sig`.

    DataError when there is none; it lists every cache with its differences from `wanted`. A cache with a
    damaged manifest is said and passed over, unless it is the one named.
    """
    manifests = {}
    for path in sorted(folder.glob(CACHE_MANIFESTS)):
        try:
            manifests[path.parent.name] = read_shaped(path, CACHE)
        except DataError as error:
            if path.parent.name == cache_sig:
                raise
            note(f"warning: {error}; this cache is passed over")
    fitting = {}
    for sig, manifest in manifests.items():
        # An unfinished cache has candidates of some samples only.
        if manifest["status"] != "complete":
            continue
        if sig == cache_sig or (not cache_sig and not _differences(manifest["settings"], wanted)):
            fitting[sig] = manifest
    if not fitting:
        raise _no_cache_fits(folder, manifests, wanted)
    newest = max(fitting, key=lambda sig: (fitting[sig].get("created", 0.0), sig))
    note(f"judging cache {newest}, generated {fitting[newest].get('started', 'at an unknown time')}")
    return newest


def read_cached_settings(cache: Path, data_path: Path) -> dict:
    """The settings of a cache. DataError when its candidates are of another file than `data_path`."""
    manifest = read_shaped(cache / "manifest.json", JUDGED_CACHE)
    _check_whole(cache, manifest)
    settings = manifest["settings"]
    if not data_path.is_file() or sha256_file(data_path) != settings["data_sha256"]:
        raise DataError(
            f"{data_path}: not the file that the candidates in {cache} were generated from; "
            "name that file with --data-path, or generate again"
        )
    return settings


def cached_rows(cache: Path, name: str) -> list[dict]:
    """The candidate rows of one of MODELS; none of a model that was not asked for."""
    path = cache / f"gens_{name}.jsonl"
    return read_appended(path) if path.is_file() else []
