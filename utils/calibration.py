"""Confidence against correctness: isotonic calibration, ECE, Brier score, area under the risk-coverage curve."""

import numpy as np
from sklearn.isotonic import IsotonicRegression

N_BINS = 15


def fit_isotonic(probabilities: list[float], correct: list[bool]) -> dict | None:
    """Isotonic fit of P(correct) on a model's probability, as interpolation knots {"x", "y", "n"}; None with under 10 answers or one class."""
    if len(probabilities) < 10 or len(set(correct)) < 2:
        return None
    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(
        probabilities, np.asarray(correct, dtype=float)
    )
    return {"x": fit.X_thresholds_.tolist(), "y": fit.y_thresholds_.tolist(), "n": len(probabilities)}


def apply_isotonic(knots: dict, probabilities: list[float]) -> list[float]:
    return np.interp(probabilities, knots["x"], knots["y"]).tolist()


def expected_calibration_error(confidences: list[float], correct: list[bool]) -> float | None:
    """ECE over 15 equal-width bins (Guo et al., 2017): mean |accuracy - confidence| of the bins, weighted by their size."""
    if not confidences:
        return None
    confidence = np.asarray(confidences)
    right = np.asarray(correct, dtype=float)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    gaps = [
        abs(right[bins == b].mean() - confidence[bins == b].mean()) * (bins == b).sum()
        for b in np.unique(bins)
    ]
    return float(sum(gaps) / len(confidence))


def brier(confidences: list[float], correct: list[bool]) -> float | None:
    """Mean squared difference of confidence and outcome (Brier, 1950)."""
    return (
        float(np.mean((np.asarray(confidences) - np.asarray(correct, dtype=float)) ** 2))
        if confidences
        else None
    )


def aurc(confidences: list[float], correct: list[bool]) -> float | None:
    """Area under the risk-coverage curve (Geifman and El-Yaniv, 2017): mean risk of the k most confident answers, ties averaged."""
    if not confidences:
        return None
    levels, level = np.unique(-np.asarray(confidences), return_inverse=True)
    n_wrong = np.bincount(level, weights=1.0 - np.asarray(correct, dtype=float))
    return float(aurc_of_blocks(np.bincount(level)[None, :], n_wrong[None, :])[0])


def aurc_of_blocks(n_answers: np.ndarray, n_wrong: np.ndarray) -> np.ndarray:
    """AURC of answers given as blocks of equal confidence, most confident first: both (n_rows, n_blocks) -> (n_rows,), NaN without answers.

    Inside a block that starts after N answers, W of them wrong, with risk r, the k-th risk is (W + (k - N) r) / k, so that
    the block adds (W - N r) (H(N + n) - H(N)) + n r, H being the harmonic numbers.
    """
    n_answers = np.asarray(n_answers, dtype=float)
    n_wrong = np.asarray(n_wrong, dtype=float)
    after = n_answers.cumsum(1)
    wrong_after = n_wrong.cumsum(1)
    before = after - n_answers
    wrong_before = wrong_after - n_wrong
    risk = np.divide(n_wrong, n_answers, out=np.zeros_like(n_wrong), where=n_answers > 0)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(after.max(initial=0)) + 1))])
    steps = harmonic[np.rint(after).astype(int)] - harmonic[np.rint(before).astype(int)]
    area = ((wrong_before - before * risk) * steps + n_wrong).sum(1)
    return np.divide(area, after[:, -1], out=np.full(len(area), np.nan), where=after[:, -1] > 0)


def reliability(confidences: list[float], correct: list[bool]) -> list[dict]:
    """The bins of the ECE that hold answers: {"n", "confidence", "accuracy"}, means of the bin."""
    confidence = np.asarray(confidences, dtype=float)
    right = np.asarray(correct, dtype=float)
    bins = np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)
    return [
        {
            "n": int((bins == b).sum()),
            "confidence": float(confidence[bins == b].mean()),
            "accuracy": float(right[bins == b].mean()),
        }
        for b in np.unique(bins)
    ]


def risk_coverage(confidences: list[float], correct: list[bool]) -> list[dict]:
    """{"threshold", "coverage", "risk"} of answering only at or above each stated confidence, highest first; coverage is the share of answers kept."""
    confidence = np.asarray(confidences, dtype=float)
    right = np.asarray(correct, dtype=float)
    points = []
    for threshold in np.unique(confidence)[::-1]:
        kept = confidence >= threshold
        points.append(
            {
                "threshold": float(threshold),
                "coverage": float(kept.mean()),
                "risk": float(1 - right[kept].mean()),
            }
        )
    return points
