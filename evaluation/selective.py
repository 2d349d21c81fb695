"""Selective answering: an answer whose confidence lies below a threshold counts as a refusal."""

import dataclasses

import numpy as np

from utils.calibration import apply_isotonic
from utils.errors import DataError, UsageError
from utils.text import REFUSAL

KINDS = ("stated", "calibrated")


@dataclasses.dataclass(frozen=True)
class Selection:
    """Refuse below `threshold`. `stated`: the confidence in the completion; `calibrated`: the answer's probability through `isotonic`."""

    threshold: float
    kind: str = "stated"
    isotonic: dict | None = None

    def confidence(self, parsed, row: dict) -> float:
        """Confidence of one answer, 0 when there is none. `row` is its prediction row."""
        if self.kind == "stated":
            return parsed.confidence or 0.0
        return (
            apply_isotonic(self.isotonic, [row["probability"]])[0]
            if row.get("probability") is not None
            else 0.0
        )

    def apply(self, parsed, row: dict):
        """The parsed completion, or the refusal that takes its place."""
        if not parsed.is_answer or self.confidence(parsed, row) >= self.threshold:
            return parsed
        return dataclasses.replace(parsed, answer=REFUSAL, citations=[], is_refusal=True)


def threshold_for_precision(confidences: list[float], right: list[bool], wanted: float) -> dict | None:
    """The lowest threshold at which answers kept are right at least this often: {"threshold", "precision", "coverage", "n_kept"}; None if none is."""
    confidence = np.asarray(confidences, dtype=float)
    correct = np.asarray(right, dtype=float)
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


def choose_selection(
    threshold: float | None, wanted: float | None, kind: str, calibration: dict | None
) -> tuple[Selection | None, dict]:
    """The selection that the flags ask for and what val says of it. `calibration` is the checkpoint's calibration.json."""
    if threshold is None and wanted is None:
        return None, {}
    isotonic = (calibration or {}).get("isotonic")
    if kind == "calibrated" and not isotonic:
        raise DataError(
            "--confidence-kind calibrated needs the isotonic fit of a checkpoint's calibration.json; name the checkpoint with --model-path"
        )
    if wanted is None:
        return Selection(threshold, kind, isotonic), {"kind": kind, "threshold": threshold}
    answers = (calibration or {}).get("answers")
    if not answers:
        raise DataError(
            "--wanted-precision needs the val answers in a checkpoint's calibration.json; name a checkpoint of train_sft.py with --model-path"
        )
    right = [answer["right"] for answer in answers]
    stated = [answer["stated"] or 0.0 for answer in answers]
    confidences = (
        stated
        if kind == "stated"
        else apply_isotonic(isotonic, [answer["probability"] for answer in answers])
    )
    found = threshold_for_precision(confidences, right, wanted)
    if found is None:
        best = max(
            float(np.mean([r for c, r in zip(confidences, right) if c >= t])) for t in set(confidences)
        )
        raise UsageError(
            f"--wanted-precision {wanted}: no {kind} confidence reaches it on {len(answers)} val answers; the best precision there is {best:.3f}"
        )
    return Selection(found["threshold"], kind, isotonic), {
        "kind": kind,
        "wanted_precision": wanted,
        "threshold": found["threshold"],
        "val": found,
    }
