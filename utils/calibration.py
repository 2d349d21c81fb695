"""Confidence against correctness: isotonic calibration, ECE, Brier score, area under the risk-coverage curve."""

import numpy as np
from sklearn.isotonic import IsotonicRegression

N_BINS = 15


def fit_isotonic(probabilities: list[float], correct: list[bool]) -> dict | None:
    """Isotonic fit of P(correct) on a model's probability, as interpolation knots {"x", "y", "n"}; None with under 10 answers or one class."""
    if len(probabilities) < 10 or len(set(correct)) < 2:
        return None
    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities, np.asarray(correct, dtype=float))
    return {"x": fit.X_thresholds_.tolist(), "y": fit.y_thresholds_.tolist(), "n": len(probabilities)}


def apply_isotonic(knots: dict, probabilities: list[float]) -> list[float]:
    return np.interp(probabilities, knots["x"], knots["y"]).tolist()


def expected_calibration_error(confidences: list[float], correct: list[bool]) -> float | None:
    """ECE over 15 equal-width bins (Guo et al., 2017): mean |accuracy - confidence| of the bins, weighted by their size."""
    if not confidences:
        return None
    confidence, right = np.asarray(confidences), np.asarray(correct, dtype=float)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).sum() for b in np.unique(bins)]
    return float(sum(gaps) / len(confidence))


def brier(confidences: list[float], correct: list[bool]) -> float | None:
    """Mean squared difference of confidence and outcome (Brier, 1950)."""
    return float(np.mean((np.asarray(confidences) - np.asarray(correct, dtype=float)) ** 2)) if confidences else None


def aurc(confidences: list[float], correct: list[bool]) -> float | None:
    """Area under the risk-coverage curve (Geifman and El-Yaniv, 2017): mean risk of the k most confident answers, ties averaged."""
    if not confidences:
        return None
    confidence, wrong = np.asarray(confidences), 1.0 - np.asarray(correct, dtype=float)
    averaged = np.empty_like(wrong)
    for value in np.unique(confidence):
        averaged[confidence == value] = wrong[confidence == value].mean()
    ranked = averaged[np.argsort(-confidence, kind="stable")]
    return float(np.mean(np.cumsum(ranked) / np.arange(1, len(ranked) + 1)))
