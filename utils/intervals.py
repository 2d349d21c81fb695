"""95% intervals by bootstrap over groups: for metrics that are functions of summed terms, and for the figures of confidence."""

import functools
from collections.abc import Sequence

import numpy as np

from utils.calibration import N_BINS, aurc_of_blocks
from utils.metrics import LOWER_IS_BETTER, PAIRED, rates_from_sums

N_RESAMPLES = 5000
MIN_GROUPS = 20
# Draws are held as one float32 matrix (n_resamples, n_groups); with more groups than fit 200 MB there are fewer of them, never under 1,000.
_MAX_CELLS = 50_000_000


def group_index(groups: list[str]) -> tuple[np.ndarray, int]:
    """(number of each row's group, number of groups)."""
    place = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([place[group] for group in groups]), len(place)


def group_sums(rows: list[dict[str, float]], groups: list[str]) -> dict[str, np.ndarray]:
    """Terms summed by group: name -> (n_groups,)."""
    index, n_groups = group_index(groups)
    values = np.array(
        [list(row.values()) for row in rows]
    )  # (n_rows, n_terms): score_sample names its terms in one order
    return {
        term: np.bincount(index, weights=values[:, column], minlength=n_groups)
        for column, term in enumerate(rows[0])
    }


def total(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {term: values.sum() for term, values in sums.items()}


@functools.lru_cache(maxsize=2)
def draw_counts(n_groups: int, seed: int) -> np.ndarray:
    """How often each group is drawn, with replacement: (n_resamples, n_groups). One seed draws the same for every model: differences are paired."""
    rng = np.random.default_rng(seed)
    n_resamples = max(1000, min(N_RESAMPLES, _MAX_CELLS // n_groups))
    counts = np.empty((n_resamples, n_groups), dtype=np.float32)
    for start in range(0, n_resamples, 250):
        n_rows = min(250, n_resamples - start)
        drawn = rng.integers(0, n_groups, size=(n_rows, n_groups)) + n_groups * np.arange(n_rows)[:, None]
        counts[start : start + n_rows] = np.bincount(drawn.ravel(), minlength=n_rows * n_groups).reshape(
            n_rows, n_groups
        )
    return counts


def resample(sums: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray] | None:
    """Metrics of resamples that draw groups with replacement: name -> (n_resamples,); None with too few groups."""
    n_groups = len(next(iter(sums.values())))
    if n_groups < MIN_GROUPS:
        return None
    drawn = draw_counts(n_groups, seed) @ np.stack(list(sums.values()), axis=1).astype(
        np.float32
    )  # (n_resamples, n_terms)
    return rates_from_sums(dict(zip(sums, drawn.T.astype(float))))


def percentile_interval(values: np.ndarray) -> list[float] | None:
    """The middle 95% of resampled values (percentile bootstrap; Efron, 1979), those that lack a needed class left out."""
    usable = values[~np.isnan(values)]
    if not len(usable):
        return None
    return [float(x) for x in np.percentile(usable, [2.5, 97.5])]


def as_numbers(rates: dict[str, np.ndarray]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in rates.items()}


def with_intervals(
    rows: list[dict[str, float]], groups: list[str], seed: int, names: Sequence[str] | None = None
) -> dict:
    """The rates of scored samples (all, or these), with `ci95` and in `ci95_skipped` how many resamples lacked a needed class."""
    sums = group_sums(rows, groups)
    metrics = as_numbers(rates_from_sums(total(sums)))
    metrics = {name: metrics[name] for name in names or metrics}
    drawn = resample(sums, seed)
    if drawn is None:
        return {**metrics, "ci95": dict.fromkeys(metrics), "ci95_skipped": {}}
    skipped = {name: int(np.isnan(drawn[name]).sum()) for name in metrics}
    return {
        **metrics,
        "ci95": {name: percentile_interval(drawn[name]) for name in metrics},
        "ci95_skipped": {k: v for k, v in skipped.items() if v},
    }


def paired_deltas(rows: list[dict], other_rows: list[dict], groups: list[str], seed: int) -> dict:
    """First minus second model, on the same samples; positive means the first is better. `ci95` is paired."""
    sums = group_sums(rows, groups)
    other = group_sums(other_rows, groups)
    first = rates_from_sums(total(sums))
    second = rates_from_sums(total(other))
    drawn = resample(sums, seed)
    other_drawn = resample(other, seed)
    deltas = {}
    intervals = {}
    for name in PAIRED:
        sign = -1 if name in LOWER_IS_BETTER else 1
        # Adding zero turns -0.0 into 0.0.
        deltas[name] = sign * (first[name] - second[name]) + 0.0
        intervals[name] = (
            percentile_interval(sign * (drawn[name] - other_drawn[name])) if drawn and other_drawn else None
        )
    return {**as_numbers(deltas), "ci95": intervals}


def mean_with_interval(
    values: list[bool | float], groups: list[str], seed: int
) -> tuple[float | None, list[float] | None]:
    """(mean, its 95% interval) of one number a sample."""
    if not values:
        return None, None
    index, n_groups = group_index(groups)
    if n_groups < MIN_GROUPS:
        return float(np.mean(values)), None
    columns = np.stack(
        [np.bincount(index, weights=values, minlength=n_groups), np.bincount(index, minlength=n_groups)],
        axis=1,
    )
    drawn = (draw_counts(n_groups, seed) @ columns.astype(np.float32)).astype(float)
    return float(np.mean(values)), percentile_interval(drawn[:, 0] / drawn[:, 1])


def confidence_intervals(
    confidences: list[float | None], right: list[bool], groups: list[str], seed: int
) -> dict[str, list[float] | None]:
    """`ci95` of ECE, Brier score and AURC over the samples whose confidence is not None (the answers)."""
    index, n_groups = group_index(groups)
    used = np.array([confidence is not None for confidence in confidences])
    if n_groups < MIN_GROUPS or not used.any():
        return dict.fromkeys(("ece", "brier", "aurc"))
    confidence = np.array([c for c in confidences if c is not None])
    correct = np.asarray(right, dtype=float)[used]
    index = index[used]

    def resampled(columns: np.ndarray, n_columns: int, values: np.ndarray) -> np.ndarray:
        """Sums of `values` by column in every resample: (n_resamples, n_columns)."""
        sums = np.bincount(
            index * n_columns + columns, weights=values, minlength=n_groups * n_columns
        ).reshape(n_groups, n_columns)
        return (draw_counts(n_groups, seed) @ sums.astype(np.float32)).astype(float)

    one = np.zeros(len(confidence), dtype=int)
    n_answers = resampled(one, 1, np.ones(len(confidence)))[:, 0]
    with np.errstate(invalid="ignore", divide="ignore"):
        ece = (
            np.abs(
                resampled(
                    np.minimum((confidence * N_BINS).astype(int), N_BINS - 1), N_BINS, correct - confidence
                )
            ).sum(1)
            / n_answers
        )
        brier = resampled(one, 1, (confidence - correct) ** 2)[:, 0] / n_answers
    # One column a distinct confidence, highest first.
    levels, level = np.unique(-confidence, return_inverse=True)
    aurc = aurc_of_blocks(
        resampled(level, len(levels), np.ones(len(confidence))), resampled(level, len(levels), 1 - correct)
    )
    return {
        "ece": percentile_interval(ece),
        "brier": percentile_interval(brier),
        "aurc": percentile_interval(aurc),
    }
