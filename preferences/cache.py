"""The cache of candidates: which of its directories the flags mean, and what it has to judge.

A directory is named after its settings, which are everything that changes the texts. manifest.json has the settings,
gens_sft.jsonl and gens_base.jsonl one row per candidate. This module knows nothing about models, judges or scores.
"""

from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_appended, read_json, sha256_file
from utils.runs import note

# Flags that change the generated texts, with their defaults; None on the command line means "not given", so that the
# judge phase can tell a flag that was given from one that was left at its default.
GENERATION_DEFAULTS = {
    "max_samples": None,
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

# A sample with its candidates, all generated from the same prompt.
Job = tuple[dict, list[dict]]

# The two models whose candidates compete, in the order in which ties between equal texts are resolved.
MODELS = ("sft", "base")


def claim_cache(cache: Path, overwrite: bool) -> bool:
    """Prepare a cache directory; `overwrite` empties it. Returns True when it is complete already."""
    if overwrite:
        for path in cache.glob("*"):
            path.unlink()
    manifest = cache / "manifest.json"
    return manifest.is_file() and read_json(manifest)["status"] == "complete"


def given_settings(flags: dict, data_path: Path) -> dict:
    """The generation settings that the command line names, and the hash of the data: a cache must agree with these."""
    names = (*GENERATION_DEFAULTS, "sft_model", "base_model")
    given = {name: flags[name] for name in names if flags[name] is not None}
    # The notebook's judge command does not name the generators: whatever is not given is not compared.
    return given | ({"data_sha256": sha256_file(data_path)} if data_path.is_file() else {})


def _differences(settings: dict, wanted: dict) -> list[str]:
    """The wanted settings that a cache does not have, each with the value it has instead."""
    return [f"{name} {settings.get(name)!r:.40}" for name in wanted if settings.get(name) != wanted[name]]


def _no_cache_fits(folder: Path, manifests: dict[str, dict], wanted: dict) -> DataError:
    lines = [f"no complete candidate cache fits the flags: {folder} is empty"]
    if manifests:
        lines = [f"no complete candidate cache fits the flags in {folder}:"]
    for sig, manifest in manifests.items():
        differing = "; ".join(_differences(manifest["settings"], wanted)) or "nothing"
        lines.append(f"  {sig}: {manifest['status']}, differs in {differing}")
    lines.append("run --phase generate first, or name a cache with --cache-sig")
    return DataError("\n".join(lines))


def find_cache(folder: Path, wanted: dict, cache_sig: str | None) -> str:
    """Signature of the newest complete cache with all `wanted` settings, or of the one that `cache_sig` names.

    DataError, with the differences of every cache, when none fits.
    """
    manifests = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/manifest.json"))}
    fitting = {}
    for sig, manifest in manifests.items():
        if manifest["status"] != "complete":
            continue
        if sig == cache_sig or (not cache_sig and not _differences(manifest["settings"], wanted)):
            fitting[sig] = manifest
    if not fitting:
        raise _no_cache_fits(folder, manifests, wanted)
    newest = max(fitting, key=lambda sig: (fitting[sig]["created"], sig))
    note(f"judging cache {newest}, generated {fitting[newest]['started']}")
    return newest


def read_cached_settings(cache: Path, data_path: Path) -> dict:
    """The settings of a cache. DataError when `data_path` is not the file that its candidates were generated from."""
    settings = read_json(cache / "manifest.json")["settings"]
    if not data_path.is_file() or sha256_file(data_path) != settings["data_sha256"]:
        raise DataError(
            f"{data_path}: not the file that the candidates in {cache} were generated from; "
            "name that file with --data-path, or generate again"
        )
    return settings


def read_candidates(cache: Path, samples: list[dict]) -> list[Job]:
    """(sample, its candidates with distinct texts, SFT first) for every sample that has candidates in the cache."""
    by_id: dict[str, list[dict]] = {}
    for name in MODELS:
        for row in read_appended(cache / f"gens_{name}.jsonl"):
            known = by_id.setdefault(row["id"], [])
            if all(row["completion"] != other["completion"] for other in known):
                known.append(row)
    jobs = []
    for sample in samples:
        if sample["id"] in by_id:
            candidates = sorted(by_id[sample["id"]], key=lambda row: (row["model"] != "sft", row["n"]))
            jobs.append((sample, candidates))
    return jobs
