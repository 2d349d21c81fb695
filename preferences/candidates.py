"""The cache of generated candidates: which one fits, and what it holds."""

from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_appended, read_json


def find_cache(folder: Path, wanted: dict, cache_sig: str | None) -> str:
    """The newest complete cache whose settings agree with all of `wanted`; DataError lists the caches when none does."""
    manifests = {path.parent.name: read_json(path) for path in sorted(folder.glob("*/manifest.json"))}
    complete = {sig: manifest for sig, manifest in manifests.items() if manifest["status"] == "complete"}

    def differences(manifest: dict) -> list[str]:
        return [
            f"{name} {manifest['settings'].get(name)!r:.40}"
            for name, value in wanted.items()
            if manifest["settings"].get(name) != value
        ]

    fitting = {
        sig: m for sig, m in complete.items() if (sig == cache_sig if cache_sig else not differences(m))
    }
    if not fitting:
        lines = [
            f"  {sig}: {manifest['status']}, differs in {'; '.join(differences(manifest)) or 'nothing'}"
            for sig, manifest in manifests.items()
        ]
        raise DataError(
            "no complete candidate cache fits the flags"
            + (f" in {folder}:\n" + "\n".join(lines) if lines else f": {folder} is empty")
            + "\nrun --phase generate first, or name one with --cache-sig"
        )
    gensig = max(fitting, key=lambda sig: (fitting[sig]["created"], sig))
    print(f"judging cache {gensig}, made {fitting[gensig]['started']}")
    return gensig


def read_candidates(cache: Path, samples: list[dict]) -> list[tuple[dict, list[dict]]]:
    """(sample, its candidates with distinct texts, SFT first), for samples that the cache holds."""
    by_id: dict[str, list[dict]] = {}
    for name in ("sft", "base"):
        for row in read_appended(cache / f"gens_{name}.jsonl"):
            known = by_id.setdefault(row["id"], [])
            if row["completion"] not in {other["completion"] for other in known}:
                known.append(row)
    return [
        (sample, sorted(by_id[sample["id"]], key=lambda r: (r["model"] != "sft", r["n"])))
        for sample in samples
        if sample["id"] in by_id
    ]
