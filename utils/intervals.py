"""95% intervals by bootstrap over groups, for metrics that are functions of summed terms."""

import numpy as np

from utils.metrics import LOWER_IS_BETTER, PAIRED, rates_from_sums

N_RESAMPLES = 2000
MIN_GROUPS = 20


def group_sums(rows: list[dict[str, float]], groups: list[str]) -> dict[str, np.ndarray]:
    """Terms summed by group: name -> (n_groups,)."""
    names = sorted(set(groups))
    place = {group: i for i, group in enumerate(names)}
    index = np.array([place[group] for group in groups])
    return {term: np.bincount(index, weights=[row[term] for row in rows], minlength=len(names)) for term in rows[0]}


def total(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {term: values.sum() for term, values in sums.items()}


def resample(sums: dict[str, np.ndarray], seed: int) -> dict[str, np.ndarray] | None:
    """Metrics of resamples that draw groups with replacement: name -> (N_RESAMPLES,); None with too few groups."""
    n_groups = len(next(iter(sums.values())))
    if n_groups < MIN_GROUPS:
        return None
    # How often each group is drawn: (n_resamples, n_groups). The same seed draws the same groups for paired models.
    counts = np.random.default_rng(seed).multinomial(n_groups, np.full(n_groups, 1 / n_groups), size=N_RESAMPLES)
    return rates_from_sums({term: counts @ values for term, values in sums.items()})


def _interval(values: np.ndarray) -> list[float] | None:
    usable = values[~np.isnan(values)]
    return [float(x) for x in np.percentile(usable, [2.5, 97.5])] if len(usable) else None


def as_numbers(rates: dict[str, np.ndarray]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in rates.items()}


def with_intervals(rows: list[dict[str, float]], groups: list[str], seed: int) -> dict:
    """All rates with `ci95` (percentile bootstrap; Efron, 1979) and how many resamples lacked a needed class."""
    sums = group_sums(rows, groups)
    metrics = as_numbers(rates_from_sums(total(sums)))
    drawn = resample(sums, seed)
    if drawn is None:
        return {**metrics, "ci95": dict.fromkeys(metrics), "ci95_skipped": {}}
    skipped = {name: int(np.isnan(values).sum()) for name, values in drawn.items()}
    return {**metrics, "ci95": {name: _interval(values) for name, values in drawn.items()}, "ci95_skipped": {k: v for k, v in skipped.items() if v}}


def paired_deltas(rows: list[dict], other_rows: list[dict], groups: list[str], seed: int) -> dict:
    """First minus second model, on the same samples; positive means the first is better. `ci95` is paired."""
    sums, other = group_sums(rows, groups), group_sums(other_rows, groups)
    first, second = rates_from_sums(total(sums)), rates_from_sums(total(other))
    drawn, other_drawn = resample(sums, seed), resample(other, seed)
    deltas, intervals = {}, {}
    for name in PAIRED:
        sign = -1 if name in LOWER_IS_BETTER else 1
        deltas[name] = sign * (first[name] - second[name])
        intervals[name] = _interval(sign * (drawn[name] - other_drawn[name])) if drawn and other_drawn else None
    return {**as_numbers(deltas), "ci95": intervals}
