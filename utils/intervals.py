"""95% intervals by a bootstrap over groups, for rates of summed terms and their paired differences.

Samples of one group share evidence, so their outcomes are not independent: a resample draws whole groups.
This module knows nothing about completions; it sees terms (`utils/scoring.py`) and group names.
"""

import functools
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from utils.metrics import LOWER_IS_BETTER, PAIRED, rates_from_sums

N_RESAMPLES = 5000
# With fewer groups a percentile interval is too narrow, so there is none.
MIN_GROUPS = 20
# All draws together are one float32 matrix, (n_resamples, n_groups), of at most 200 MB. With more groups
# there are fewer resamples, but never under 1,000.
_MAX_CELLS = 50_000_000
_MIN_RESAMPLES = 1000
_BLOCK_ROWS = 250
_ERRORS_TO_DETECT = 2.8
# Sums per column that are worked on at once, 8 bytes each: callers make several such arrays of them.
_MAX_SUMS = 2_000_000


def group_index(groups: list[str]) -> tuple[np.ndarray, int]:
    """(number of each row's group, number of groups). Groups are numbered in sorted order."""
    place = {group: i for i, group in enumerate(sorted(set(groups)))}
    return np.array([place[group] for group in groups]), len(place)


def group_sums(rows: list[dict[str, float]], groups: list[str]) -> dict[str, np.ndarray]:
    """Terms summed per group: name -> (n_groups,). Every row must name the same terms in the same order."""
    index, n_groups = group_index(groups)
    # (n_rows, n_terms)
    values = np.array([list(row.values()) for row in rows])
    sums = {}
    for column, term in enumerate(rows[0]):
        sums[term] = np.bincount(index, weights=values[:, column], minlength=n_groups)
    return sums


def total(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Sums over all groups: name -> scalar."""
    return {term: values.sum() for term, values in sums.items()}


# Cached, because a run draws for every model and metric from the same one or two sets of groups.
@functools.lru_cache(maxsize=2)
def draw_counts(n_groups: int, seed: int) -> np.ndarray:
    """How often each resample draws each group, with replacement: (n_resamples, n_groups), float32.

    One seed gives the same draws for every model, so differences of models are paired.
    """
    rng = np.random.default_rng(seed)
    n_resamples = max(_MIN_RESAMPLES, min(N_RESAMPLES, _MAX_CELLS // n_groups))
    counts = np.empty((n_resamples, n_groups), dtype=np.float32)
    for start in range(0, n_resamples, _BLOCK_ROWS):
        n_rows = min(_BLOCK_ROWS, n_resamples - start)
        drawn = rng.integers(0, n_groups, size=(n_rows, n_groups))
        # One bincount counts a whole block: row r has the numbers from r * n_groups on.
        drawn += n_groups * np.arange(n_rows)[:, None]
        drawn_counts = np.bincount(drawn.ravel(), minlength=n_rows * n_groups)
        counts[start : start + n_rows] = drawn_counts.reshape(n_rows, n_groups)
    return counts


def resample(sums: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray] | None:
    """Metrics of resamples of the groups: name -> (n_resamples,). None under 20 groups."""
    n_groups = len(next(iter(sums.values())))
    if n_groups < MIN_GROUPS:
        return None
    terms = np.stack(list(sums.values()), axis=1).astype(np.float32)
    # (n_resamples, n_groups) @ (n_groups, n_terms)
    drawn = draw_counts(n_groups, seed) @ terms
    return rates_from_sums(dict(zip(sums, drawn.T.astype(float))))


def column_sums(
    group_of: np.ndarray, column_of: np.ndarray, values: Sequence[np.ndarray], n_groups: int, seed: int
) -> Iterator[list[np.ndarray]]:
    """Sums per column in every resample, some resamples at a time: (n_draws, n_columns) for each of `values`.

    `group_of`, `column_of` and each of `values` are (n_rows,). Where nearly every row has a column of its
    own, groups times columns are billions of cells, of which all but n_rows are 0: so the sums are sparse.
    """
    # Importing it takes a moment, which most intervals do not need.
    from scipy.sparse import csr_matrix

    n_columns = int(column_of.max()) + 1
    shape = (n_columns, n_groups)
    sums = [csr_matrix((each, (column_of, group_of)), shape=shape, dtype=np.float32) for each in values]
    n_draws = max(1, min(_BLOCK_ROWS, _MAX_SUMS // n_columns))
    counts = draw_counts(n_groups, seed)
    for start in range(0, len(counts), n_draws):
        some = np.ascontiguousarray(counts[start : start + n_draws].T)
        yield [(each @ some).T.astype(float) for each in sums]


def percentile_interval(values: np.ndarray) -> list[float] | None:
    """The middle 95% of resampled values (percentile bootstrap; Efron, 1979), None when all are NaN.

    A resample without a class that the metric needs is NaN, and is left out.
    """
    usable = values[~np.isnan(values)]
    if not len(usable):
        return None
    return [float(x) for x in np.percentile(usable, [2.5, 97.5])]


def smallest_detectable(differences: np.ndarray) -> float | None:
    """2.8 standard errors of resampled differences; None without any spread, which tells nothing.

    A true difference of this size has an interval without 0 with 80% power at the 5% level: the normal
    quantiles 1.96 and 0.84 add up to 2.8 (Card et al., 2020).
    """
    usable = differences[~np.isnan(differences)]
    error = float(np.std(usable)) if len(usable) else 0.0
    return _ERRORS_TO_DETECT * error if error > 0 else None


def as_numbers(rates: dict[str, np.ndarray]) -> dict[str, float | None]:
    """Plain floats for JSON, None where a rate is NaN."""
    return {name: None if np.isnan(value) else float(value) for name, value in rates.items()}


class Drawn(NamedTuple):
    """The rates of one model on some samples.

    `rates`: name -> scalar; `resampled`: name -> (n_resamples,), or None under 20 groups.
    """

    rates: dict[str, np.ndarray]
    resampled: dict[str, np.ndarray] | None


def draw_rates(rows: list[dict[str, float]], groups: list[str], seed: int) -> Drawn:
    """The rates of scored samples and of their resamples: intervals and differences are made of these."""
    sums = group_sums(rows, groups)
    return Drawn(rates_from_sums(total(sums)), resample(sums, seed))


def intervals_of(drawn: Drawn, names: Sequence[str] | None = None) -> dict:
    """The rates, all or those in `names`, with `ci95` and `ci95_skipped`.

    `ci95_skipped` counts, per metric, the resamples that lacked a class the metric needs.
    """
    metrics = as_numbers(drawn.rates)
    metrics = {name: metrics[name] for name in names or metrics}
    resampled = drawn.resampled
    if resampled is None:
        return {**metrics, "ci95": dict.fromkeys(metrics), "ci95_skipped": {}}

    skipped = {name: int(np.isnan(resampled[name]).sum()) for name in metrics}
    return {
        **metrics,
        "ci95": {name: percentile_interval(resampled[name]) for name in metrics},
        "ci95_skipped": {name: n for name, n in skipped.items() if n},
    }


def with_intervals(
    rows: list[dict[str, float]], groups: list[str], seed: int, names: Sequence[str] | None = None
) -> dict:
    """`intervals_of` scored samples."""
    return intervals_of(draw_rates(rows, groups, seed), names)


def paired(first: Drawn, second: Drawn, names: Sequence[str] = PAIRED) -> dict:
    """First minus second model, drawn from the same samples with one seed. Positive: the first is better.

    With paired `ci95`, and `smallest_detectable`: the true difference that a test set of this size and spread
    would show in four of five draws.
    """
    deltas = {}
    intervals: dict[str, list[float] | None] = {}
    smallest: dict[str, float | None] = {}
    for name in names:
        sign = -1 if name in LOWER_IS_BETTER else 1
        # Adding zero turns -0.0 into 0.0.
        deltas[name] = sign * (first.rates[name] - second.rates[name]) + 0.0
        intervals[name] = None
        smallest[name] = None
        if first.resampled and second.resampled:
            differences = sign * (first.resampled[name] - second.resampled[name])
            intervals[name] = percentile_interval(differences)
            smallest[name] = smallest_detectable(differences)
    return {**as_numbers(deltas), "ci95": intervals, "smallest_detectable": smallest}


def paired_deltas(rows: list[dict], other_rows: list[dict], groups: list[str], seed: int) -> dict:
    """`paired` of two models' scored samples, which are the same samples in one order."""
    return paired(draw_rates(rows, groups, seed), draw_rates(other_rows, groups, seed))


def mean_with_interval(
    values: Sequence[bool | float], groups: list[str], seed: int
) -> tuple[float | None, list[float] | None]:
    """(mean of one number per sample, its 95% interval). The interval is None for under 20 groups."""
    if not values:
        return None, None
    mean = float(np.mean(values))
    index, n_groups = group_index(groups)
    if n_groups < MIN_GROUPS:
        return mean, None

    sums = np.bincount(index, weights=values, minlength=n_groups)
    sizes = np.bincount(index, minlength=n_groups)
    columns = np.stack([sums, sizes], axis=1).astype(np.float32)
    # Groups differ in size, so a resample's mean has its own denominator.
    drawn = (draw_counts(n_groups, seed) @ columns).astype(float)
    return mean, percentile_interval(drawn[:, 0] / drawn[:, 1])
