"""Confidence against correctness: isotonic calibration, ECE, Brier score, area under the risk-coverage curve.

`correct` is one bool per answer, whatever the caller calls correct; this module knows nothing about answers
or models.
"""

import numpy as np

N_BINS = 15
# A fit of fewer answers would follow single answers, not the model.
_MIN_ANSWERS = 10


def fit_isotonic(probabilities: list[float], correct: list[bool]) -> dict | None:
    """Isotonic fit of P(correct) given a model's probability, as interpolation knots {"x", "y", "n"}.

    Returns None for under 10 answers, or when all are correct or none is.
    """
    if len(probabilities) < _MIN_ANSWERS or len(set(correct)) < 2:
        return None
    # Importing scikit-learn takes a second, and most stages only read a fit.
    from sklearn.isotonic import IsotonicRegression

    outcomes = np.asarray(correct, dtype=float)
    # Test probabilities may fall outside those of the fit, hence "clip".
    fit = IsotonicRegression(y_min=0, y_max=1, out_of_bounds="clip").fit(probabilities, outcomes)
    return {"x": fit.X_thresholds_.tolist(), "y": fit.y_thresholds_.tolist(), "n": len(probabilities)}


def apply_isotonic(knots: dict, probabilities: list[float]) -> list[float]:
    """Calibrated probabilities: linear between the knots of `fit_isotonic`, constant outside them."""
    return np.interp(probabilities, knots["x"], knots["y"]).tolist()


def precision_warning(calibration: dict, used: str) -> str | None:
    """A warning if a fit belongs to answers of another precision than the one in use, with the remedy.

    `calibration` is the content of calibration.json; a fit of an earlier version does not name its precision.
    """
    fitted = calibration.get("precision")
    if not calibration.get("isotonic") or fitted in (None, used):
        return None
    warning = (
        f"warning: the calibration was fitted to answers in {_plain_precision(fitted)}, these are in "
        f"{_plain_precision(used)}: calibrated confidences may be off"
    )
    remedies = [f"leave out --use-{bits}bit" for bits in (4, 8) if used.startswith(f"{bits}-bit")]
    remedies += [f"add --use-{bits}bit" for bits in (4, 8) if fitted.startswith(f"{bits}-bit")]
    # Of the same bits only the type of the passes differs, which the machine decides.
    if fitted.partition(",")[0] == used.partition(",")[0] or not remedies:
        return warning
    return f"{warning}; {' and '.join(remedies)}"


def _plain_precision(name: str) -> str:
    return name.replace("torch.", "")


def with_succession(share: float, n_answers: int) -> float:
    """A share (0-1) of `n_answers` answers as a probability, by Laplace's rule of succession (1774).

    (share n + 1) / (n + 2): never 0 or 1, as no number of answers shows that the next one is right.
    """
    return (share * n_answers + 1) / (n_answers + 2)


def bin_of(confidence: np.ndarray) -> np.ndarray:
    """The equal-width bin, 0 to N_BINS - 1, of each confidence."""
    # A confidence of exactly 1.0 belongs to the last bin.
    return np.minimum((confidence * N_BINS).astype(int), N_BINS - 1)


def expected_calibration_error(confidences: list[float], correct: list[bool]) -> float | None:
    """ECE over 15 equal-width bins (Guo et al., 2017), None without answers.

    Mean |accuracy - confidence| of the bins, weighted by their size.
    """
    if not confidences:
        return None
    gap = 0.0
    for place in reliability(confidences, correct):
        gap += abs(place["accuracy"] - place["confidence"]) * place["n"]
    return float(gap / len(confidences))


def brier(confidences: list[float], correct: list[bool]) -> float | None:
    """Mean squared difference of confidence and outcome (Brier, 1950), None without answers."""
    if not confidences:
        return None
    outcomes = np.asarray(correct, dtype=float)
    return float(np.mean((np.asarray(confidences) - outcomes) ** 2))


def aurc(confidences: list[float], correct: list[bool]) -> float | None:
    """Area under the risk-coverage curve (Geifman and El-Yaniv, 2017), None without answers.

    Mean risk of the k most confident answers over all k. Answers of equal confidence are averaged over their
    orders.
    """
    if not confidences:
        return None
    levels, level = np.unique(-np.asarray(confidences), return_inverse=True)
    n_answers = np.bincount(level)
    n_wrong = np.bincount(level, weights=1.0 - np.asarray(correct, dtype=float))
    return float(aurc_of_blocks(n_answers[None, :], n_wrong[None, :])[0])


def aurc_of_blocks(n_answers: np.ndarray, n_wrong: np.ndarray) -> np.ndarray:
    """AURC of answers in blocks of equal confidence, most confident first.

    Both arguments are (n_rows, n_blocks); returns (n_rows,), NaN for a row without answers. Inside a block
    that starts after N answers, W of them wrong, with risk r, the k-th risk is (W + (k - N) r) / k. So the
    block adds (W - N r) (H(N + n) - H(N)) + n r, where H are the harmonic numbers.
    """
    n_answers = np.asarray(n_answers, dtype=float)
    n_wrong = np.asarray(n_wrong, dtype=float)
    after = n_answers.cumsum(1)
    wrong_after = n_wrong.cumsum(1)
    before = after - n_answers
    wrong_before = wrong_after - n_wrong

    risk = np.divide(n_wrong, n_answers, out=np.zeros_like(n_wrong), where=n_answers > 0)
    harmonic = np.concatenate([[0.0], np.cumsum(1 / np.arange(1, int(after.max(initial=0)) + 1))])
    # Counts of resamples come from a float32 product, so they are rounded before they index.
    steps = harmonic[np.rint(after).astype(int)] - harmonic[np.rint(before).astype(int)]

    area = ((wrong_before - before * risk) * steps + n_wrong).sum(1)
    return np.divide(area, after[:, -1], out=np.full(len(area), np.nan), where=after[:, -1] > 0)


def reliability(confidences: list[float], correct: list[bool]) -> list[dict]:
    """The non-empty bins of the ECE, in order: {"n", "confidence", "accuracy"}; the last two are means."""
    confidence = np.asarray(confidences, dtype=float)
    outcomes = np.asarray(correct, dtype=float)
    bins = bin_of(confidence)
    rows = []
    for place in np.unique(bins):
        inside = bins == place
        rows.append(
            {
                "n": int(inside.sum()),
                "confidence": float(confidence[inside].mean()),
                "accuracy": float(outcomes[inside].mean()),
            }
        )
    return rows


def risk_coverage(confidences: list[float], correct: list[bool]) -> list[dict]:
    """Risk of answering only at or above each stated confidence, highest first.

    Points {"threshold", "coverage", "risk"}: `coverage` is the share of answers kept, `risk` the share of
    those that are wrong.
    """
    confidence = np.asarray(confidences, dtype=float)
    outcomes = np.asarray(correct, dtype=float)
    points = []
    # Thresholds are the confidences that occur: between two of them nothing changes.
    for threshold in np.unique(confidence)[::-1]:
        kept = confidence >= threshold
        points.append(
            {
                "threshold": float(threshold),
                "coverage": float(kept.mean()),
                "risk": float(1 - outcomes[kept].mean()),
            }
        )
    return points
