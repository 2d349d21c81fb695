"""Confidence of one model's answers against whether they are right: summary numbers and points of the curves.

The formulas are in `utils/calibration.py`; this module picks the answers that they are computed on, and
draws their intervals.
"""

import numpy as np

from utils.calibration import (
    N_BINS,
    apply_isotonic,
    aurc,
    aurc_of_blocks,
    bin_of,
    brier,
    expected_calibration_error,
    reliability,
    risk_coverage,
)
from utils.intervals import MIN_GROUPS, column_sums, draw_counts, group_index, percentile_interval
from utils.scoring import is_right_answer


def _stated(parsed: list, samples: list[dict]) -> tuple[list[float], list[bool]]:
    """(stated confidences, whether each answer is right), over the answers that state a usable confidence."""
    confidences = []
    right = []
    for p, sample in zip(parsed, samples):
        if p.is_answer and p.confidence is not None:
            confidences.append(p.confidence)
            right.append(is_right_answer(p, sample))
    return confidences, right


def confidence_metrics(
    parsed: list, samples: list[dict], probabilities: list[float] | None, isotonic: dict | None
) -> dict:
    """ECE, Brier score and AURC of stated confidence over answers, and the ECE of the calibrated probability.

    `probabilities`: the model's probability of its own answer, one per sample, None if any is unknown;
    `isotonic`: the fit that maps it to a probability of being right. Without both, `ece_calibrated` is None.
    """
    # Refusals are left out: right by refusing is another question than right by answering.
    confidences, right = _stated(parsed, samples)
    answers = [(p, s) for p, s in zip(parsed, samples) if p.is_answer]
    # The probability is known for answers without a stated confidence too, so all answers count here.
    calibrated = None
    if isotonic and probabilities is not None and answers:
        of_answers = [probability for p, probability in zip(parsed, probabilities) if p.is_answer]
        all_right = [is_right_answer(p, s) for p, s in answers]
        calibrated = expected_calibration_error(apply_isotonic(isotonic, of_answers), all_right)
    return {
        "ece": expected_calibration_error(confidences, right),
        "brier": brier(confidences, right),
        "aurc": aurc(confidences, right),
        "ece_calibrated": calibrated,
        "n_confidence_missing": len(answers) - len(confidences),
        # A constant has a good ECE when it equals the accuracy, and tells nothing about single answers.
        "confidence_is_constant": len(set(confidences)) == 1,
    }


def _centred_interval(figure: float, values: np.ndarray) -> list[float] | None:
    """`percentile_interval`, moved by what resampling adds on average, and kept within 0 and 1.

    For a sum of absolute differences (ECE): noise makes it larger, and resamples have the noise twice, so
    that most of them can be above the figure itself (bias of the bootstrap; Efron, 1979).
    """
    found = percentile_interval(values)
    if found is None:
        return None
    bias = float(np.nanmean(values)) - figure
    low, high = (min(max(bound - bias, 0.0), 1.0) for bound in found)
    return [min(low, figure), max(high, figure)]


def _ece(confidence: np.ndarray, correct: np.ndarray) -> float:
    gaps = np.bincount(bin_of(confidence), weights=correct - confidence, minlength=N_BINS)
    return float(np.abs(gaps).sum() / len(confidence))


def confidence_intervals(
    confidences: list[float | None], right: list[bool], groups: list[str], seed: int
) -> dict[str, list[float] | None]:
    """`ci95` of ECE, Brier score and AURC over the samples whose confidence is not None (the answers).

    Each is None for under 20 groups or without answers. Definitions: `utils/calibration.py`.
    """
    index, n_groups = group_index(groups)
    used = np.array([confidence is not None for confidence in confidences])
    if n_groups < MIN_GROUPS or not used.any():
        return dict.fromkeys(("ece", "brier", "aurc"))
    confidence = np.array([c for c in confidences if c is not None])
    correct = np.asarray(right, dtype=float)[used]
    index = index[used]

    def resampled(columns: np.ndarray, n_columns: int, values: np.ndarray) -> np.ndarray:
        """Sums of `values` per column in every resample: (n_resamples, n_columns)."""
        cell = index * n_columns + columns
        sums = np.bincount(cell, weights=values, minlength=n_groups * n_columns)
        sums = sums.reshape(n_groups, n_columns).astype(np.float32)
        return (draw_counts(n_groups, seed) @ sums).astype(float)

    one = np.zeros(len(confidence), dtype=int)
    ones = np.ones(len(confidence))
    n_answers = resampled(one, 1, ones)[:, 0]
    # A resample may draw no answer at all; its 0 / 0 is NaN, which the interval leaves out.
    with np.errstate(invalid="ignore", divide="ignore"):
        # |accuracy - confidence| * size of a bin is |sum of (correct - confidence)| in it.
        ece = np.abs(resampled(bin_of(confidence), N_BINS, correct - confidence)).sum(1) / n_answers
        squared_error = resampled(one, 1, (confidence - correct) ** 2)[:, 0] / n_answers

    # One column per distinct confidence, highest first.
    _, level = np.unique(-confidence, return_inverse=True)
    n_wrong = 1 - correct
    blocks = column_sums(index, level, [ones, n_wrong], n_groups, seed)
    area = np.concatenate([aurc_of_blocks(*of_draws) for of_draws in blocks])
    return {
        "ece": _centred_interval(_ece(confidence, correct), ece),
        "brier": percentile_interval(squared_error),
        "aurc": percentile_interval(area),
    }


def intervals_of_confidence(
    parsed: list, samples: list[dict], probabilities: list[float] | None, isotonic: dict | None, seed: int
) -> dict[str, list[float] | None]:
    """95% intervals of what `confidence_metrics` returns: name -> [low, high], None with too few groups."""
    groups = [sample["group"] for sample in samples]
    right = [is_right_answer(p, s) for p, s in zip(parsed, samples)]
    # None leaves a sample out; its group is still drawn, so that all metrics share the resamples.
    stated = [p.confidence if p.is_answer else None for p in parsed]
    intervals = confidence_intervals(stated, right, groups, seed)

    calibrated: list[float | None] = [None] * len(samples)
    if isotonic and probabilities:
        mapped = apply_isotonic(isotonic, probabilities)
        calibrated = [value if p.is_answer else None for value, p in zip(mapped, parsed)]
    intervals["ece_calibrated"] = confidence_intervals(calibrated, right, groups, seed)["ece"]
    return intervals


def confidence_curves(parsed: list, samples: list[dict]) -> dict | None:
    """{"reliability": bins, "risk_coverage": points} of stated confidence; None when no answer states one."""
    confidences, right = _stated(parsed, samples)
    if not confidences:
        return None
    return {
        "reliability": reliability(confidences, right),
        "risk_coverage": risk_coverage(confidences, right),
    }
