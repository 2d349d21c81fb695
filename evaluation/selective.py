"""Selective answering: an answer whose confidence is below a threshold counts as a refusal."""

import dataclasses

import numpy as np

from utils.calibration import apply_isotonic
from utils.errors import DataError, UsageError
from utils.text import REFUSAL

KINDS = ("stated", "calibrated")


@dataclasses.dataclass(frozen=True)
class Selection:
    """Refuse below `threshold` (0-1). `kind` says which confidence is compared with it.

    `stated`: the number in the completion; `calibrated`: the model's probability of its answer, mapped by
    `isotonic`.
    """

    threshold: float
    kind: str = "stated"
    isotonic: dict | None = None

    def confidence(self, parsed, row: dict) -> float:
        """Confidence of one answer, 0 when there is none. `row` is its prediction row."""
        if self.kind == "stated":
            return parsed.confidence or 0.0
        probability = row.get("probability")
        # Rows from elsewhere have no probability: their answers count as least sure.
        if self.isotonic is None or probability is None:
            return 0.0
        return apply_isotonic(self.isotonic, [probability])[0]

    def apply(self, parsed, row: dict):
        """The parsed completion, or a refusal in its place when its confidence is below the threshold."""
        if not parsed.is_answer or self.confidence(parsed, row) >= self.threshold:
            return parsed
        # As if the model had refused itself: its citations go too, or they would count as spurious.
        return dataclasses.replace(parsed, answer=REFUSAL, citations=[], is_refusal=True)


def threshold_for_precision(confidences: list[float], right: list[bool], wanted: float) -> dict | None:
    """The lowest threshold that keeps answers with at least the wanted precision; None if no threshold does.

    Returns {"threshold", "precision", "coverage", "n_kept"}; coverage is the share of answers kept.
    """
    confidence = np.asarray(confidences, dtype=float)
    correct = np.asarray(right, dtype=float)
    # Lowest first: of the thresholds that are precise enough it keeps the most answers.
    for threshold in np.unique(confidence):
        kept = confidence >= threshold
        if correct[kept].mean() >= wanted:
            return {
                "threshold": float(threshold),
                "precision": float(correct[kept].mean()),
                "coverage": float(kept.mean()),
                "n_kept": int(kept.sum()),
            }
    return None


def best_precision(confidences: list[float], right: list[bool]) -> float:
    """The highest precision that any threshold reaches on these answers."""
    confidence = np.asarray(confidences, dtype=float)
    correct = np.asarray(right, dtype=float)
    return max(float(correct[confidence >= threshold].mean()) for threshold in np.unique(confidence))


def choose_selection(
    threshold: float | None, wanted: float | None, kind: str, calibration: dict | None
) -> tuple[Selection | None, dict]:
    """(selection or None, {"kind", "threshold", ...} for the results file), from the flags of the evaluation.

    `calibration` is the content of the checkpoint's calibration.json. A wanted precision is looked up on its
    validation answers, never on the test set. Raises DataError when calibration.json lacks what is needed,
    and UsageError when no threshold reaches the precision.
    """
    calibration = calibration or {}
    isotonic = calibration.get("isotonic")
    if threshold is None and wanted is None:
        return None, {}
    if kind == "calibrated" and not isotonic:
        raise DataError(
            "--confidence-kind calibrated needs the isotonic fit of a checkpoint's calibration.json; "
            "name the checkpoint with --model-path"
        )
    # A threshold that is given needs no validation answers.
    if threshold is not None:
        return Selection(threshold, kind, isotonic), {"kind": kind, "threshold": threshold}

    assert wanted is not None
    answers = calibration.get("answers")
    if not answers:
        raise DataError(
            "--wanted-precision needs the val answers in a checkpoint's calibration.json; "
            "name a checkpoint of train_sft.py with --model-path"
        )
    right = [answer["right"] for answer in answers]
    # An answer that states no confidence is the least sure one.
    confidences = [answer["stated"] or 0.0 for answer in answers]
    if kind == "calibrated" and isotonic:
        confidences = apply_isotonic(isotonic, [answer["probability"] for answer in answers])
    found = threshold_for_precision(confidences, right, wanted)
    if found is None:
        best = best_precision(confidences, right)
        raise UsageError(
            f"--wanted-precision {wanted}: no {kind} confidence reaches it on {len(answers)} val answers; "
            f"the best precision there is {best:.3f}"
        )
    facts = {"kind": kind, "wanted_precision": wanted, "threshold": found["threshold"], "val": found}
    return Selection(found["threshold"], kind, isotonic), facts
