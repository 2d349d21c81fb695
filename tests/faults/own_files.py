"""Damages to JSON that stages write for each other, and the stages that read it: for test_own_files.py.

A damage deletes a field, or gives it a value of another type; fields one level down have the same.
"""

import copy
import json
import random
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.faults.stage_world import STAGES, FaultServer
from utils.jsonl import read_json, write_json

# What is put in the place of a value, and of the whole file.
OTHERS: list[Any] = [None, [], "x", 7, {}]
WHOLE: list[Any] = [None, [], "x", 7]
DELETED = object()
# An object with more fields than this has no fields but keys: names of files, for example.
_MAX_FIELDS = 60

CHECKPOINT = ("sft/checkpoint-best/run.json", "sft/checkpoint-best/adapter_config.json")
STATS = "prefs/preference_stats_*.json"
CACHE = "prefs/cache/*/manifest.json"
HEAD = "rm/best/config.json"
EVALUATE = "evaluate_sft_fast_robust.py"
CALIBRATED = f"{STAGES['evaluate']} --overwrite --confidence-threshold 0.5 --confidence-kind calibrated"
RESCORE = f"{EVALUATE} --test-data data/processed/test.jsonl --limit 12 --predictions e_predictions.jsonl"

# Name -> (the home that it starts in, its command, the files that it reads apart from the report).
READERS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "compare": ("done", f"{EVALUATE} --compare e.json e.json", ("e.json",)),
    "build": ("done", STAGES["build"], ("data/processed/*.json", "data/source_hashes.json")),
    "sft": (
        "done",
        STAGES["sft"],
        ("data/processed/run.json", "sft/run.json", "sft/checkpoint-final/run.json", *CHECKPOINT),
    ),
    "evaluate": ("done", STAGES["evaluate"], ("e.json", "sft/calibration.json", *CHECKPOINT)),
    "generate": ("done", STAGES["generate"], (CACHE, "sft/run.json", *CHECKPOINT)),
    "judge": ("done", STAGES["judge"], (CACHE,)),
    "rm": ("done", STAGES["rm"], (STATS, CACHE, "rm/run.json", HEAD)),
    "score": ("done", f"{STAGES['score']} --overwrite", (HEAD,)),
    "unfinished sft": (
        "unfinished",
        STAGES["sft"],
        ("sft/run.json", "sft/checkpoint-4/*.json", "sft/checkpoint-best/run.json"),
    ),
    # Only in the full form, as the stages behind these take longer.
    "summary": ("done", "reporting/summary.py", ("eval_results.json", "checkpoints/rm/validation.json")),
    "rescore": ("done", f"{RESCORE} --output e2.json", ("e.json",)),
    "calibrated": ("done", CALIBRATED, ("sft/calibration.json", *CHECKPOINT)),
    "plan": ("done", f"{STAGES['policy']} --dry-run", ("sft/run.json", STATS, *CHECKPOINT)),
    "validate": ("done", f"{STAGES['rm']} --validate-only", (HEAD, "rm/run.json", "rm/validation.json")),
    "tune": ("done", f"{STAGES['rm']} --validate-only --tune-penalties", (HEAD, "rm/run.json")),
    "export": ("export", STAGES["export"], (HEAD, "rm/validation.json", "rm/run.json", STATS)),
    "merge": ("merge", STAGES["merge"], ("sft/run.json", *CHECKPOINT)),
    "robustness": ("done", STAGES["robustness"], ("r.json", *CHECKPOINT)),
    "adapter": ("done", STAGES["adapter"], ("rm_adapter/run.json", "rm_adapter/best/config.json")),
    "policy": ("done", STAGES["policy"], ("policy/run.json", "policy/checkpoint-best/run.json")),
    "unfinished rm": ("unfinished", STAGES["rm"], ("rm/run.json", HEAD)),
    "unfinished policy": (
        "unfinished",
        STAGES["policy"],
        ("policy/run.json", "policy/checkpoint-7/*.json", "policy/checkpoint-best/run.json"),
    ),
}
# Trained folders of the tokenizer's library, whose files a manifest has the hashes of.
_NOT_OURS = ("tokenizer.json", "tokenizer_config.json")
# What the report reads of a home.
REPORTED = (
    *("e.json", "r.json", "prompts/run.json", "merged/run.json", "sft/calibration.json"),
    *("sft/run.json", "sft/training_history.json", "policy/run.json", "policy/training_history.json"),
    *("rm/run.json", "rm/training_history.json", "rm/validation.json", STATS, CACHE),
    *("data/processed/run.json", "data/processed/audit.json", "sft/checkpoint-best/run.json"),
)


def add_other_homes(starts: dict[str, Path]) -> None:
    """Give the finished home what reporting/summary.py reads, and add one whose trainings were cut."""
    done = starts["done"]
    shutil.copy(done / "e.json", done / "eval_results.json")
    shutil.copy(done / "e_predictions.jsonl", done / "eval_results_predictions.jsonl")
    (done / "checkpoints/rm").mkdir(parents=True, exist_ok=True)
    shutil.copy(done / "rm/validation.json", done / "checkpoints/rm/validation.json")
    starts["unfinished"] = done.with_name("unfinished")
    shutil.copytree(done, starts["unfinished"])
    for name in ("sft", "rm", "policy"):
        folder = starts["unfinished"] / name
        if folder.is_dir():
            write_json(folder / "run.json", read_json(folder / "run.json") | {"status": "running"})
            shutil.rmtree(folder / "checkpoint-final", ignore_errors=True)


def found_in(home: Path, patterns: tuple[str, ...]) -> list[Path]:
    """The files of a home that patterns name."""
    paths = [path for pattern in patterns for path in sorted(home.glob(pattern))]
    return [path for path in paths if path.name not in _NOT_OURS]


# --- damages


def _places(value: Any) -> Iterator[tuple[str, ...]]:
    """The path of each field of an object, and of those within."""
    if not isinstance(value, dict):
        return
    for key, inner in value.items():
        yield (key,)
        if isinstance(inner, dict) and len(inner) <= _MAX_FIELDS:
            for below in inner:
                yield (key, below)


def _is_like(value: Any, other: Any) -> bool:
    """Whether the other value is no damage: an empty list is a list."""
    numbers = isinstance(value, (int, float)) and isinstance(other, int)
    return type(value) is type(other) or (numbers and not isinstance(value, bool))


def damages(value: Any) -> Iterator[tuple[str, Any]]:
    """(what was done, the damaged value), of every field that is deleted or gets another type."""
    for other in WHOLE:
        yield f"all is {json.dumps(other)}", other
    for place in _places(value):
        *path, last = place
        for other in [DELETED, *OTHERS]:
            damaged = copy.deepcopy(value)
            parent = damaged
            for key in path:
                parent = parent[key]
            if other is DELETED:
                del parent[last]
                yield f"{'.'.join(place)} is missing", damaged
            elif not _is_like(parent[last], other):
                parent[last] = other
                yield f"{'.'.join(place)} is {json.dumps(other)}", damaged


def some_damages(value: Any, most: int, name: str) -> list[tuple[str, Any]]:
    """At most so many of them, the first of which is to the whole file; the same ones for the same name."""
    first, *others = damages(value)
    return [first, *random.Random(name).sample(others, min(most - 1, len(others)))]


# --- runs


def end_of(server: FaultServer, start: Path, work: Path, name: str, damaged: tuple[Path, Any]) -> str | None:
    """Why the end of a reader is none that is promised; None for a promised one."""
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(start, work)
    path, value = damaged
    (work / path.relative_to(start)).write_text(json.dumps(value))
    code, said = server.run(READERS[name][1], work)
    return problem_of(code, said, path.name)


def problem_of(code: int, said: str, file: str) -> str | None:
    """A run ends well, with a fallback if need be, or with one line that names the file."""
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if "Traceback" in said:
        return said[-600:]
    if code == 0:
        return "\n".join(errors) or None
    if code not in (1, 2, 3) or len(errors) != 1:
        return f"exit code {code}: {said[-600:]}"
    # Other settings than those of the run are no damage: that line names the output and the settings.
    is_named = file in errors[0] or "was made with other settings" in errors[0]
    return None if is_named else f"does not name {file}: {errors[0]}"
