"""Which outputs the report shows: one chain of runs, from an evaluation back to its data.

The evaluation names its checkpoint, the checkpoint its data; robustness and preferences name the same
checkpoint, and reward model and policy their preferences. A home often holds side runs, too: a second data
set, a training that was stopped. Figures of unrelated runs beside each other would tell of a pipeline that
was never run. Where nothing links a stage, its newest complete run is shown, and `apart` says so.
"""

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from evaluation.output_files import predictions_path
from reporting.outputs import Outputs, Run, read_outputs
from utils.jsonl import sha256_file
from utils.shapes import read_shaped


def pairs_path(run: Run) -> Path:
    """The preferences file of its statistics."""
    name = run.path.name.replace("preference_stats_", "preferences_").replace(".json", ".jsonl")
    return run.path.with_name(name)


def holds(home: Path, trained: Run, model_path: str | None) -> bool:
    """True for the training whose folder holds a checkpoint, or is the checkpoint as an export is."""
    if not model_path:
        return False
    # Inputs are looked up in the home first, else where they are; an absolute path stays as it is.
    at_home = home / model_path
    path = at_home if at_home.exists() or not os.path.exists(model_path) else Path(model_path)
    folder = os.path.abspath(trained.path)
    return os.path.commonpath([folder, os.path.abspath(path)]) == folder


def _trained_checkpoint(home: Path, model_path: str | None) -> str | None:
    """The checkpoint that a merged model was made of; any other model itself."""
    manifest = home / model_path / "run.json" if model_path else None
    if manifest is None or not manifest.is_file():
        return model_path
    return read_shaped(manifest, {"merged_from?": str}).get("merged_from") or model_path


def _checkpoint_of(outputs: Outputs, run: Run) -> str | None:
    """The model that a run used; for a file that was scored again, that of the run that generated it."""
    settings = run.settings
    model_path = settings.get("model_path") or settings.get("sft_model")
    if named := settings.get("predictions"):
        for other in outputs.runs.get("evaluation", []):
            # One that was scored again itself has no completions of its own.
            is_own = not other.settings.get("predictions")
            if is_own and predictions_path(other.path) == outputs.home / named:
                model_path = other.settings.get("model_path")
    return _trained_checkpoint(outputs.home, model_path)


def evaluated_policy(outputs: Outputs) -> Run | None:
    """The policy whose checkpoint the shown evaluation is about; None where it is about another model."""
    evaluated = outputs.chosen("evaluation")
    model_path = _checkpoint_of(outputs, evaluated) if evaluated else None
    for run in outputs.runs.get("policy", []):
        if holds(outputs.home, run, model_path):
            return run
    return None


def _has_input(run: Run, path: Path) -> bool:
    inputs = run.manifest.get("inputs") or {}
    return path.is_file() and sha256_file(path) in inputs.values()


def _trained_on(outputs: Outputs, trained: Run, data: Run) -> bool:
    """By the content of the training data, or by its path: a build that changed since is still its data."""
    path = (trained.settings.get("data") or {}).get("train_path")
    is_there = bool(path) and (outputs.home / str(path)).parent == data.path
    return is_there or _has_input(trained, data.path / "train.jsonl")


def _is_linked(outputs: Outputs, stage: str, run: Run) -> bool | None:
    """Whether a run belongs to those that are shown; None where there is nothing that it could belong to."""
    trained = outputs.chosen("sft")
    if stage == "sft":
        evaluated = outputs.chosen("evaluation")
        model_path = _checkpoint_of(outputs, evaluated) if evaluated else None
        if policy := evaluated_policy(outputs):
            model_path = policy.settings.get("sft_model")
        return holds(outputs.home, run, model_path) if model_path else None
    if stage == "data":
        return _trained_on(outputs, trained, run) if trained else None
    if stage in ("robustness", "preferences"):
        model_path = _checkpoint_of(outputs, run)
        return holds(outputs.home, trained, model_path) if trained and model_path else None
    if stage == "policy" and (policy := evaluated_policy(outputs)):
        return run is policy
    preferred = outputs.chosen("preferences")
    if stage in ("reward", "policy") and preferred:
        return _has_input(run, pairs_path(preferred))
    return None


_APART = {
    "data": "not the data that the shown SFT model was trained on",
    "sft": "not the model of the shown evaluation",
    "robustness": "of another model than the shown SFT model",
    "preferences": "of another model than the shown SFT model",
}


def apart(outputs: Outputs, stage: str, run: Run) -> list[str]:
    """Says that a shown run has nothing to do with the others."""
    is_apart = stage in _APART and _is_linked(outputs, stage, run) is False
    return [_APART[stage]] if is_apart else []


def _n_samples(run: Run) -> int:
    """Samples of an evaluation's largest model; 0 in a file that has none."""
    models = [*run.content.values(), *dict(run.content.get("baselines") or {}).values()]
    counts = [model["n"] for model in models if isinstance(model, dict) and isinstance(model.get("n"), int)]
    return max(counts, default=0)


def _put_last(runs: list[Run], is_last: Callable[[Run], bool | None]) -> None:
    """Move runs behind the others, which keep their order."""
    runs.sort(key=lambda run: bool(is_last(run)))


def _put_linked_first(outputs: Outputs, stage: str) -> None:
    _put_last(outputs.runs.get(stage, []), lambda run: _is_linked(outputs, stage, run) is False)


def _preferences_of_rewards(outputs: Outputs, candidates: Iterable[Run]) -> Path | None:
    """The first preferences that a complete reward model was trained on."""
    rewards = [run for run in outputs.runs.get("reward", []) if run.is_whole]
    for run in candidates:
        if any(_has_input(reward, pairs_path(run)) for reward in rewards):
            return run.path
    return None


def find_outputs(home: Path) -> Outputs:
    """Everything that the stages have written under a home; first in each stage what the report shows."""
    outputs = read_outputs(home)
    runs = outputs.runs
    if "evaluation" in runs:
        # A look at 6 samples must not replace the verdict on 200.
        largest = max(map(_n_samples, runs["evaluation"]))
        _put_last(runs["evaluation"], lambda run: _n_samples(run) < largest / 2)
        # The same completions scored again belong behind the run that made them.
        _put_last(runs["evaluation"], lambda run: bool(run.settings.get("predictions")))
    for found in runs.values():
        _put_last(found, lambda run: not run.is_whole)
    # In this order: each is linked to one before it.
    for stage in ("sft", "data", "robustness", "preferences"):
        _put_linked_first(outputs, stage)
    if "preferences" in runs:
        of_model = [run for run in runs["preferences"] if _is_linked(outputs, "preferences", run)]
        path = _preferences_of_rewards(outputs, of_model or runs["preferences"])
        _put_last(runs["preferences"], lambda run: path is not None and run.path != path)
    _put_linked_first(outputs, "reward")
    _put_linked_first(outputs, "policy")
    return outputs
