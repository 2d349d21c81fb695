"""The content of calibration.json, and in it the biases on the first token of an answer.

`evaluation/decisions.py` fits the biases to val answers, `generation/decisions.py` applies them. This module
knows neither models nor tokens.
"""

import functools
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from utils.config import input_path
from utils.errors import DataError
from utils.own_files import CALIBRATION, CHECKPOINT
from utils.runs import note
from utils.shapes import lenient, read_if_there, read_shaped

# What --decisions takes; settings that name none mean plain. "answer" never refuses.
DECISIONS = ("plain", "fitted", "answer")
# What a model can decide about a sample; the last one, as a decision of its own, about claims alone.
BRANCHES = ("refuse", "answer", "refuted")
# The biases of `Decisions`, each of which can have a gate.
BIASES = ("refuse_claim", "refuse_question", "refuted")


@dataclass(frozen=True)
class Gate:
    """What the surface of a sample adds to a bias: factor x log-odds, of intercept + weights x features.

    `evidence/surface_gates.py` has the features.
    """

    weights: list[float]
    intercept: float
    factor: float = 0.0


@dataclass(frozen=True)
class Decisions:
    """Numbers that are added to logits at the first token of an answer; 0 leaves the choice to the model.

    The first two are added to the refusal token, for claims and for other questions, the third to `refuted`,
    for claims. `gates`: for some of these a gate, which adds a number of each sample's own. `answers`: in
    place of all of them, a claim gets one of the two verdicts, and another question an answer.
    """

    refuse_claim: float = 0.0
    refuse_question: float = 0.0
    refuted: float = 0.0
    gates: Mapping[str, Gate] = field(default_factory=dict)
    answers: bool = False


def decisions_json(decisions: Decisions) -> dict:
    """Decisions as calibration.json and settings have them: without gates, as before there were any."""
    fields = asdict(decisions)
    for name in ("gates", "answers"):
        if not fields[name]:
            del fields[name]
    return fields


def _from_json(fields: dict) -> Decisions:
    gates = {name: Gate(**gate) for name, gate in fields.get("gates", {}).items()}
    return Decisions(**{**fields, "gates": gates})


def _unknown_field(fields: dict) -> str | None:
    """The first field of decisions that this version does not know; None if it knows them all."""
    unknown = sorted(fields.keys() - Decisions.__dataclass_fields__.keys())
    for name, gate in fields.get("gates", {}).items():
        if name not in BIASES:
            unknown.append(f"gates.{name}")
        extras = sorted(gate.keys() - Gate.__dataclass_fields__.keys())
        unknown += [f"gates.{name}.{extra}" for extra in extras]
    return unknown[0] if unknown else None


def calibration_path(model_path: str) -> Path:
    """Where the run that a checkpoint belongs to writes its fits; a hub model has none there.

    A merged model has those of the checkpoint that it was made of, where that is still there.
    """
    folder = input_path(model_path)
    merged_from = read_if_there(folder / "run.json", lenient({"merged_from?": str})).get("merged_from")
    if merged_from and input_path(merged_from).is_dir():
        folder = input_path(merged_from)
    return folder.parent / "calibration.json"


def _read_fits(path: Path) -> dict:
    """The content of a calibration.json. DataError for one that nothing can be looked up in."""
    calibration = read_shaped(path, CALIBRATION)
    for block in (calibration, calibration.get("decisions", {}).get("calibration", {})):
        fit = block.get("isotonic")
        if fit and not 0 < len(fit["x"]) == len(fit["y"]):
            raise DataError(
                f"{path}: field 'isotonic': expected as many x as y, found {len(fit['x'])} and "
                f"{len(fit['y'])}; delete it and run the training with its config again"
            )
    return calibration


def read_calibration(model_path: str | None, decisions: str | None = None) -> dict:
    """calibration.json of the training run that the checkpoint belongs to; empty without one.

    `decisions`: the value of --decisions. With "fitted", the fit of confidences and the val answers are those
    under the biases; DataError if none were fitted. Without, a note where they are those of another step.
    """
    if not model_path:
        return {}
    path = calibration_path(model_path)
    calibration = _read_fits(path) if path.is_file() else {}
    if decisions != "fitted":
        if "step" in calibration:
            _note_other_step(str(path), calibration["step"], model_path, "confidences")
        return calibration
    fitted = _fitted_block(calibration, path)
    # Its own precision and step: the training measured checkpoint-final, in another precision maybe.
    own = {name: fitted[name] for name in ("precision", "step") if fitted.get(name) is not None}
    if "step" in own:
        _note_other_step(str(path), own["step"], model_path, "decisions")
    return {**calibration, **fitted["calibration"], **own}


@functools.cache
def _note_other_step(path: str, step: int, model_path: str, what: str) -> None:
    """Say it once if a checkpoint, such as the best one, is of another step than the fit of its run."""
    own = read_if_there(input_path(model_path) / "run.json", lenient(CHECKPOINT)).get("step")
    if own not in (None, step):
        note(f"{path}: {what} are fitted to step {step}, and {model_path} is step {own}")


def _fitted_block(calibration: dict, path: Path) -> dict:
    """The block that --calibrate writes. DataError, with the command, if it is missing."""
    if "decisions" not in calibration:
        raise DataError(
            f"{path}: no decisions were fitted for a checkpoint; "
            "run `python train_sft.py -c CONFIG --calibrate`, or leave out --decisions"
        )
    return calibration["decisions"]


def read_decisions(model_path: str) -> Decisions:
    """The biases fitted for a checkpoint. DataError if none were."""
    path = calibration_path(model_path)
    calibration = _read_fits(path) if path.is_file() else {}
    fields = _fitted_block(calibration, path)["biases"]
    if unknown := _unknown_field(fields):
        raise DataError(
            f"{path}: field 'decisions.biases.{unknown}': unknown to this version; fit it again with "
            "train_sft.py --calibrate"
        )
    return _from_json(fields)


def chosen_decisions(decisions: str | None, model_path: str) -> Decisions | None:
    """The biases that a value of --decisions means for a checkpoint; None for plain."""
    if decisions == "answer":
        return Decisions(answers=True)
    return read_decisions(model_path) if decisions == "fitted" else None


def decision_settings(decisions: str | None, model_path: str) -> dict:
    """The part of a cache's settings that --decisions decides; none for plain, as before there was a flag."""
    chosen = chosen_decisions(decisions, model_path)
    return {"decisions": decisions, "biases": decisions_json(chosen)} if chosen else {}


def refuse_missing_fit(decisions: str | None, model_path: str) -> None:
    """For a plan: the error of a run whose checkpoint lacks the fit; nothing for one that is yet to come."""
    if input_path(model_path).exists():
        decision_settings(decisions, model_path)


def decisions_of(settings: dict, name: str = "sft") -> Decisions | None:
    """The biases that `decision_settings` put into settings; None for plain, and for runs of the base model.

    The base model's names begin with "base". The biases are the checkpoint's.
    """
    if "biases" not in settings or name.startswith("base"):
        return None
    return _from_json(settings["biases"])
