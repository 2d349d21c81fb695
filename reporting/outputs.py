"""What the stages have left under FACTUALITY_HOME: the folders with a run.json, and the results files.

An output is known by its content, not by its name, since users choose both the folder and the file. Nothing
is read but small JSON files, and nothing is followed deeper than three folders.
"""

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from evaluation.file_shapes import RESULTS, SUITES
from utils.errors import DataError
from utils.jsonl import read_json_object
from utils.own_files import BUILD, CACHE, PREFERENCE_STATS, REWARD_RUN, RUN, TRAINED
from utils.shapes import check_shape, lenient, read_shaped, shape_problem

REPORT_NAME = "report.html"
_MAX_DEPTH = 3
# Folders of caches, raw files and single checkpoints hold no output that the report shows; benchmarks/ has
# the published figures of other machines.
_SKIPPED = re.compile(
    r"\.|raw$|cache$|features$|checkpoint-|best$|final$|node_modules$|tests$|benchmarks$|__pycache__$"
)
# Listing a folder on a mounted drive can take a tenth of a second.
_MAX_FOLDERS = 300
_RESULTS_START = re.compile(rb'\s*\{\s*"(sft|base|deltas|baselines|suites)"')
# A results file has under 1 MB; one of this size is something else.
_MAX_RESULTS_BYTES = 50_000_000

# What is in the settings of a stage's run.json alone.
_SETTINGS_OF = {
    "data": {"max_chunk_words", "unanswerable_fraction"},
    "prompts": {"files"},
    # Before SFT, whose settings it has too.
    "policy": {"sft_model", "objective"},
    "sft": {"model_name", "lora"},
    "reward": {"citation_penalty_weight"},
}

# What the run.json of a stage contains. A section goes without what an earlier version did not write.
_SHAPES = {"data": BUILD, "prompts": RUN, "policy": TRAINED, "sft": TRAINED, "reward": REWARD_RUN}
_HAS_SETTINGS = {"run": {"settings": dict}}


@dataclass(frozen=True)
class Run:
    """A folder or results file of a stage, with the manifest of the run that made it."""

    path: Path
    manifest: dict
    content: dict = field(default_factory=dict)

    @property
    def settings(self) -> dict:
        return self.manifest["settings"]

    @property
    def is_whole(self) -> bool:
        return self.manifest.get("status", "complete") == "complete"

    @property
    def when(self) -> str:
        """When the run ended, or else when it started: UTC, so that texts compare as times do."""
        return str(self.manifest.get("finished") or self.manifest.get("started") or "")


@dataclass(frozen=True)
class Outputs:
    """All outputs of a home by stage, and the files that could not be read.

    The first one of a stage is the one that the report shows (`chain.py`).
    """

    home: Path
    runs: dict[str, list[Run]]
    problems: list[str]

    def chosen(self, stage: str) -> Run | None:
        """The output of a stage that the report shows, None before the stage has run."""
        return next(iter(self.runs.get(stage, [])), None)

    def shown(self, path: Path) -> str:
        """A path as the user would type it: below the home where it is there."""
        return str(path.relative_to(self.home)) if path.is_relative_to(self.home) else str(path)


def _folders(home: Path) -> Iterator[Path]:
    """The home and the folders below it that can contain an output, nearest first."""
    level = [home]
    n_folders = 0
    for _ in range(_MAX_DEPTH + 1):
        below = []
        for folder in level:
            n_folders += 1
            if n_folders > _MAX_FOLDERS:
                return
            yield folder
            try:
                below += [path for path in sorted(folder.iterdir()) if _is_searched(path)]
            except OSError:
                # A folder that cannot be listed has nothing to show.
                continue
        level = below


def _is_searched(path: Path) -> bool:
    # Of os.path, because a folder that may not be entered is none here, and no error.
    if _SKIPPED.match(path.name) or not os.path.isdir(path):
        return False
    if not os.path.isfile(path / REPORT_NAME):
        return True
    # A folder with a report and with folders is a home of its own: demo/ in the repository, the default home.
    # One of files alone may be where `--report` of an evaluation was written.
    try:
        return not any(map(os.path.isdir, path.iterdir()))
    except OSError:
        # A folder that cannot be listed has nothing to show.
        return False


def _stage_of(manifest: dict) -> str | None:
    """The stage whose settings a run.json has; None for that of a checkpoint or of another program."""
    settings = manifest.get("settings")
    if not isinstance(settings, dict):
        return None
    stage = next((stage for stage, names in _SETTINGS_OF.items() if names <= settings.keys()), None)
    # A test set of other people beside the data that the pipeline trains on.
    config = settings.get("config")
    is_external = isinstance(config, dict) and config.get("evaluation_only")
    return None if stage == "data" and is_external else stage


def _is_results(path: Path) -> bool:
    # A link to a file that is gone is in the folder's list, too.
    if path.name == "run.json" or not path.is_file() or path.stat().st_size > _MAX_RESULTS_BYTES:
        return False
    with open(path, "rb") as handle:
        return bool(_RESULTS_START.match(handle.read(200)))


def _read_manifest(path: Path) -> tuple[str, Run] | None:
    """(stage, run) of the run.json of an output; None for another one, and where there is none."""
    if not path.is_file():
        return None
    found = read_json_object(path)
    stage = _stage_of(found)
    if stage is None:
        return None
    check_shape(path, found, lenient(_SHAPES[stage]))
    return stage, Run(path.parent, found)


def _read_results(path: Path) -> tuple[str, Run] | None:
    """(stage, run) of a results file; None for another file."""
    if not _is_results(path):
        return None
    content = read_json_object(path)
    if shape_problem(content, _HAS_SETTINGS):
        return None
    stage = "robustness" if "suites" in content else "evaluation"
    check_shape(path, content, lenient(SUITES if stage == "robustness" else RESULTS))
    return stage, Run(path, content["run"], content)


def _read_statistics(path: Path) -> tuple[str, Run]:
    """The statistics of a preferences file, with the manifest of the candidates that it was made of."""
    stats = read_shaped(path, {**lenient(PREFERENCE_STATS), "settings": {"cache": str}})
    manifest = path.parent / "cache" / stats["settings"]["cache"] / "manifest.json"
    wanted = {**lenient(CACHE), "settings": dict}
    found = read_shaped(manifest, wanted) if manifest.is_file() else {"settings": {}}
    return "preferences", Run(path, found, stats)


def _readers(folder: Path) -> Iterator[Callable[[], tuple[str, Run] | None]]:
    """What reads each output in a folder. Each raises DataError or OSError for a damaged file."""
    yield partial(_read_manifest, folder / "run.json")
    for path in sorted(folder.glob("*.json")):
        yield partial(_read_results, path)
    for path in folder.glob("preference_stats_*.json"):
        yield partial(_read_statistics, path)


def read_outputs(home: Path) -> Outputs:
    """Everything that the stages have written under a home, the newest first."""
    runs: dict[str, list[Run]] = {}
    problems = []
    for folder in _folders(home):
        for read in _readers(folder):
            try:
                found = read()
            except (DataError, OSError) as error:
                problems.append(str(error))
                continue
            if found:
                runs.setdefault(found[0], []).append(found[1])
    for of_stage in runs.values():
        of_stage.sort(key=lambda run: run.when, reverse=True)
    # Preferences of one cache share its manifest: the file that was written last is the newest.
    if "preferences" in runs:
        runs["preferences"].sort(key=lambda run: run.path.stat().st_mtime, reverse=True)
    return Outputs(home, runs, problems)
