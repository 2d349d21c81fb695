"""run.json: what made a directory, whether it is whole, and whether a rerun may go on from it."""

import importlib.metadata
import platform
import shutil
import subprocess
import sys
import time
from pathlib import Path

from utils.errors import UsageError
from utils.jsonl import read_json, sha256_file, sha256_value, write_json

_PACKAGES = (
    "torch",
    "transformers",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "scikit-learn",
    "scipy",
    "numpy",
)


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, check=False
        )
    except OSError:
        return None
    return done.stdout.strip() or None


def _package_versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def hash_inputs(paths: list[Path]) -> dict[str, str]:
    """SHA-256 by path; a directory is hashed over its files' names and contents."""
    hashes = {}
    for path in map(Path, paths):
        if path.is_dir():
            hashes[str(path)] = sha256_value(
                {str(f.relative_to(path)): sha256_file(f) for f in sorted(path.rglob("*")) if f.is_file()}
            )
        elif path.is_file():
            hashes[str(path)] = sha256_file(path)
    return hashes


def describe_run(settings: dict, inputs: dict[str, str], seed: int | None, **facts) -> dict:
    """The manifest of a run, without its end: command, settings, versions, input hashes and the given facts."""
    return {
        "status": "running",
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "settings": settings,
        "seed": seed,
        "inputs": inputs,
        "git_commit": _git_commit(),
        "packages": _package_versions(),
        "python": platform.python_version(),
        "started": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **facts,
    }


def _differences(old: dict, new: dict, prefix: str = "") -> list[str]:
    names = []
    for key in sorted(old.keys() | new.keys()):
        a = old.get(key)
        b = new.get(key)
        if isinstance(a, dict) and isinstance(b, dict):
            names += _differences(a, b, f"{prefix}{key}.")
        elif a != b:
            names.append(f"{prefix}{key} (was {a!r:.60}, now {b!r:.60})")
    return names


def open_run_dir(run_dir: Path, run: dict, overwrite: bool) -> str:
    """Claim a directory for a run: returns "new", "resume" (same settings, unfinished) or "complete" (nothing to do).

    Settings and input hashes decide what is the same. Other settings raise UsageError unless `overwrite`, which clears
    the directory, as it does a complete run's; an unfinished one of the same settings is gone on with either way. A directory that
    holds nothing but a manifest is new. The manifest is written with status "running"; `close_run_dir` marks it complete.
    """
    manifest = run_dir / "run.json"
    if manifest.is_file() and len(list(run_dir.iterdir())) > 1:
        old = read_json(manifest)
        changed = _differences(
            {"settings": old.get("settings", {}), "inputs": old.get("inputs", {})},
            {"settings": run["settings"], "inputs": run["inputs"]},
        )
        is_complete = old.get("status") == "complete"
        if not (changed or is_complete):
            write_json(manifest, run)
            return "resume"
        if not overwrite and changed:
            raise UsageError(
                f"{run_dir} was made with other settings: {'; '.join(changed[:4])}; add --overwrite or choose another directory"
            )
        if not overwrite:
            return "complete"
        shutil.rmtree(run_dir)
    write_json(manifest, run)
    return "new"


def close_run_dir(run_dir: Path, run: dict, **facts) -> None:
    """Write the manifest last, with status "complete", the end time and what the run counted."""
    write_json(
        run_dir / "run.json",
        {
            **run,
            **facts,
            "status": "complete",
            "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        },
    )


def format_seconds(seconds: float) -> str:
    seconds = round(seconds)
    return (
        f"{seconds // 3600}h{seconds % 3600 // 60:02d}m"
        if seconds >= 3600
        else f"{seconds // 60}m{seconds % 60:02d}s"
    )


def format_drops(drops: dict[str, int]) -> str:
    """`dropped 61: margin 40, same text 21`, or `dropped 0`."""
    total = sum(drops.values())
    detail = ", ".join(f"{reason} {n}" for reason, n in drops.items() if n)
    return f"dropped {total}: {detail}" if total else "dropped 0"


def note(text: str) -> None:
    """Print progress, a fallback or the next command to stderr: stdout is for results."""
    print(text, file=sys.stderr, flush=True)
