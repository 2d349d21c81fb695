"""Confidence of one model's answers against whether they are right: summary numbers and the points of the curves.

The formulas are in `utils/calibration.py`; this module picks the answers that they are computed on.
"""

from utils.calibration import (
    apply_isotonic,
    aurc,
    brier,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from utils.scoring import is_right_answer


def confidence_metrics(
    parsed: list, samples: list[dict], probabilities: list[float] | None, isotonic: dict | None
) -> dict:
    """ECE, Brier and AURC of stated confidence over answers, and the ECE of the calibrated answer probability."""
    answers = [(p, s) for p, s in zip(parsed, samples) if p.is_answer]
    stated = [(p.confidence, is_right_answer(p, s)) for p, s in answers if p.confidence is not None]
    confidences = [c for c, _ in stated]
    right = [r for _, r in stated]
    calibrated = None
    if isotonic and probabilities is not None and answers:
        chosen = [probability for p, probability in zip(parsed, probabilities) if p.is_answer]
        calibrated = expected_calibration_error(
            apply_isotonic(isotonic, chosen), [is_right_answer(p, s) for p, s in answers]
        )
    return {
        "ece": expected_calibration_error(confidences, right),
        "brier": brier(confidences, right),
        "aurc": aurc(confidences, right),
        "ece_calibrated": calibrated,
        "n_confidence_missing": len(answers) - len(stated),
        "confidence_is_constant": len(set(confidences)) == 1,
    }


def confidence_curves(parsed: list, samples: list[dict]) -> dict | None:
    """Reliability bins and risk-coverage points of the stated confidence over answers; None when no answer states one."""
    stated = [
        (p.confidence, is_right_answer(p, s))
        for p, s in zip(parsed, samples)
        if p.is_answer and p.confidence is not None
    ]
    if not stated:
        return None
    confidences = [c for c, _ in stated]
    right = [r for _, r in stated]
    return {
        "reliability": reliability(confidences, right),
        "risk_coverage": risk_coverage(confidences, right),
    }
