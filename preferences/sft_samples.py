"""Samples that the SFT model behind a preferences file was trained on: of these it remembers answers.

Models are the base model of the reward, which may be an SFT checkpoint, and those that wrote the candidates.
This module knows manifests and ids, not pairs or scores.
"""

from dataclasses import dataclass, field
from pathlib import Path

from evidence.reserved import ids_problem, train_ids
from utils.config import input_path, portable_path
from utils.own_files import CANDIDATES
from utils.shapes import read_if_there


@dataclass(frozen=True)
class SftSamples:
    """The models that were trained on samples, the ids of these, and why nothing tells what they are."""

    models: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    problem: str | None = None


def candidates_manifest(prefs_path: Path) -> dict:
    """The manifest of the candidates that a preferences file was made of; empty if it is not there."""
    signature = prefs_path.stem.removeprefix("preferences_").partition("-")[0]
    return read_if_there(prefs_path.parent / "cache" / signature / "manifest.json", CANDIDATES)


def sft_samples(prefs_path: Path, base_model: str) -> SftSamples:
    """What the models behind a preferences file were trained on, as their train_ids.txt say."""
    settings = candidates_manifest(prefs_path).get("settings", {})
    writers = [settings[name] for name in ("sft_model", "policy_model") if name in settings]
    found = SftSamples()
    for name in dict.fromkeys(map(portable_path, [base_model, *writers])):
        if name in map(portable_path, writers) and not input_path(name).is_dir():
            return SftSamples(problem=f"{name} is no longer there")
        if problem := ids_problem(name):
            return SftSamples(problem=f"{name}: {problem}")
        if ids := train_ids(name):
            found.models.append(name)
            found.ids.update(ids)
    # A plain base model saw no sample, but nothing says who wrote the completions.
    if not found.models:
        return SftSamples(problem="no train_ids.txt of a model that wrote them")
    return found
