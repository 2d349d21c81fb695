"""Means over sources, in which each source counts once: a large source does not decide them.

It knows terms, sources and groups, no completions.
"""

import numpy as np

from evaluation.slices import SLICE_METRICS
from utils.intervals import MIN_GROUPS, draw_counts, group_index, percentile_interval
from utils.metrics import rates_from_sums


def mean_over_sources(of_sources: dict[str, dict], name: str) -> dict[str, float | None]:
    """Unweighted means over the sources that have a metric (None where none has), so that each counts once.

    `of_sources`: source -> model name -> metrics.
    """
    means: dict[str, float | None] = {}
    for key in SLICE_METRICS:
        values = [found[name][key] for found in of_sources.values()]
        known = [value for value in values if value is not None]
        means[key] = sum(known) / len(known) if known else None
    return means


def _has_few_groups(index: np.ndarray, source_of: np.ndarray, n_sources: int) -> bool:
    """Whether a source has too few groups for an interval of its own, and so for one of the mean."""
    return any(len(np.unique(index[source_of == source])) < MIN_GROUPS for source in range(n_sources))


def intervals_over_sources(
    terms: list[dict[str, float]], samples: list[dict], seed: int
) -> dict[str, list[float] | None]:
    """`ci95` of `mean_over_sources`: name -> [low, high], None where a source has fewer than 20 groups.

    All sources are drawn together, so that a group with samples of several sources stays whole. A resample
    that lacks a class which a source's metric needs is left out.
    """
    index, n_groups = group_index([sample["group"] for sample in samples])
    source_of, n_sources = group_index([sample["source"] for sample in samples])
    if _has_few_groups(index, source_of, n_sources):
        return dict.fromkeys(SLICE_METRICS)

    names = list(terms[0])
    # (n_groups, n_sources, n_terms)
    sums = np.zeros((n_groups, n_sources, len(names)), dtype=np.float32)
    np.add.at(sums, (index, source_of), np.array([list(row.values()) for row in terms]))
    drawn = draw_counts(n_groups, seed) @ sums.reshape(n_groups, -1)
    # (n_terms, n_resamples, n_sources)
    drawn = np.moveaxis(drawn.reshape(len(drawn), n_sources, len(names)), 2, 0).astype(float)
    rates = rates_from_sums(dict(zip(names, drawn)))
    totals = rates_from_sums(dict(zip(names, sums.sum(axis=0).T)))

    intervals: dict[str, list[float] | None] = {}
    for name in SLICE_METRICS:
        has_metric = ~np.isnan(totals[name])
        known = rates[name][:, has_metric]
        intervals[name] = percentile_interval(known.mean(axis=1)) if has_metric.any() else None
    return intervals
