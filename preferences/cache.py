"""The cache of candidates: how its directory is named, and which one the flags describe.

A directory is named after a hash of its settings, which are everything that changes the texts: of the models
their contents and not their places, so that the cache of a moved folder is found. In it, manifest.json has
the settings, and a file per model (gens_sft.jsonl, gens_base.jsonl) has one row per candidate. This
module knows nothing about judges or scores; `preferences/cache_states.py` knows how far a cache is.
"""

import contextlib
from pathlib import Path
from typing import Any

from models.base import model_key
from models.choices import UNNAMED_SETTINGS
from utils.config import portable_path
from utils.errors import DataError
from utils.jsonl import sha256_file
from utils.own_files import CACHE
from utils.runs import note
from utils.shapes import read_shaped

# Flags that change the generated texts, with their defaults. The parser's own default is None, "not given":
# the judge phase compares a cache only with the flags that were given.
GENERATION_DEFAULTS: dict[str, Any] = {
    "max_samples": None,
    # None: the SFT model, and the base where temperature or number leave one candidate.
    "models": None,
    "n_generations": 2,
    "max_new_tokens": 128,
    # None: the longest prompt of the checkpoint's training.
    "max_input_tokens": None,
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
    damaged manifest is said and passed over, unless it is the one named or no other one fits.
    """
    manifests = {}
    damaged = []
    for path in sorted(folder.glob(CACHE_MANIFESTS)):
        try:
            manifests[path.parent.name] = read_shaped(path, CACHE)
        except DataError as error:
            if path.parent.name == cache_sig:
                raise
            damaged.append(error)
    fitting = {}
    for sig, manifest in manifests.items():
        # An unfinished cache has candidates of some samples only.
        if manifest["status"] != "complete":
            continue
        if sig == cache_sig or (not cache_sig and not _differences(manifest["settings"], wanted)):
            fitting[sig] = manifest
    if not fitting:
        if damaged:
            raise damaged[0]
        raise _no_cache_fits(folder, manifests, wanted)
    for problem in damaged:
        note(f"warning: {problem}; this cache is passed over")
    newest = max(fitting, key=lambda sig: (fitting[sig].get("created", 0.0), sig))
    note(f"judging cache {newest}, generated {fitting[newest].get('started', 'at an unknown time')}")
    return newest
