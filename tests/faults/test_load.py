"""Ten times the rows take at most twelve times as long, and memory that grows no faster than the rows.

What once grew with groups times values is measured here; benchmarks/load.py measures whole stages.
"""

import time
import tracemalloc

import numpy as np
import pytest

from evaluation.confidence import confidence_intervals
from preferences import kinds
from preferences.pairs import interval
from utils.calibration import aurc_of_blocks
from utils.intervals import column_sums, draw_counts, percentile_interval

SEED = 1
N_SMALL = 1000


def of_pairs(n: int) -> None:
    """Intervals of a reward model's test pairs, each of which has a score of its own."""
    rng = np.random.default_rng(0)
    interval(rng.normal(size=n) + 0.5, rng.normal(size=n), [str(i // 2) for i in range(n)], SEED)


def of_confidence(n: int) -> None:
    """Intervals of calibrated confidences, which are as many different ones."""
    rng = np.random.default_rng(0)
    confidence_intervals(
        rng.random(n).tolist(), (rng.random(n) < 0.6).tolist(), list(map(str, range(n))), SEED
    )


def of_forms(n: int) -> None:
    """Pairs whose chosen side is longer by the same few characters around the answer."""
    kinds.match_forms(pairs_of_forms(n))


def pairs_of_forms(n: int) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    lengths = np.random.default_rng(0).normal(40, 15, size=(n, 2)).astype(int).clip(3)
    found = []
    for chosen, rejected in lengths.tolist():
        found.append(((chosen + 30, chosen, 1, 90, 0, 1), (rejected + 30, rejected, 1, 90, 0, 1)))
    return found


def cost(step, n: int) -> tuple[float, float]:
    """(seconds of the processor, peak bytes) of a step."""
    started = time.process_time()
    step(n)
    seconds = time.process_time() - started
    draw_counts.cache_clear()
    tracemalloc.start()
    step(n)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return seconds, peak


@pytest.mark.parametrize("step", [of_pairs, of_confidence, of_forms])
def test_ten_times_the_rows_cost_at_most_twelve_times_as_much(step, monkeypatch):
    # The draws of all sizes, so that both sizes have as many.
    monkeypatch.setattr("utils.intervals.N_RESAMPLES", 200)
    monkeypatch.setattr("utils.intervals._MIN_RESAMPLES", 200)
    step(N_SMALL)
    seconds, memory = cost(step, N_SMALL)
    later_seconds, later_memory = cost(step, 10 * N_SMALL)
    # A quarter of a second for what takes as long at any size.
    assert later_seconds <= 12 * seconds + 0.25
    assert later_memory <= 12 * memory + (8 << 20)


# --- the same numbers as with matrices


def test_column_sums_are_those_of_a_matrix():
    rng = np.random.default_rng(3)
    group_of = rng.integers(0, 30, 400)
    column_of = rng.integers(0, 70, 400)
    values = (rng.random(400) < 0.5).astype(float)
    matrix = np.zeros((31, 70), dtype=np.float32)
    np.add.at(matrix, (group_of, column_of), values)
    # Group 30 has no row, and is drawn all the same.
    blocks = column_sums(group_of, column_of, [values, 1 - values], 31, SEED)
    found = np.concatenate([first for first, _ in blocks])
    assert np.array_equal(found, draw_counts(31, SEED) @ matrix)


def test_intervals_of_auc_and_aurc_are_those_of_a_matrix():
    rng = np.random.default_rng(4)
    n = 120
    groups = [str(i // 2) for i in range(n)]
    # Rounded, so that values are tied.
    chosen = np.round(rng.normal(size=n) + 0.4, 1)
    rejected = np.round(rng.normal(size=n), 1)
    index = np.array([sorted(set(groups)).index(group) for group in groups])
    _, places = np.unique(np.r_[chosen, rejected], return_inverse=True)
    counts = np.zeros((2, 60, places.max() + 1), dtype=np.float32)
    for side, of_side in enumerate(np.split(places, 2)):
        np.add.at(counts[side], (index, of_side), 1)
    n_chosen, n_rejected = (draw_counts(60, SEED) @ each for each in counts)
    below = n_rejected.cumsum(1) - n_rejected / 2
    expected = percentile_interval((n_chosen * below).sum(1) / n_chosen.sum(1) ** 2)
    assert interval(chosen, rejected, groups, SEED)["roc_auc"] == pytest.approx(expected, abs=1e-6)

    confidence = np.round(rng.random(n), 2)
    right = rng.random(n) < 0.6
    _, level = np.unique(-confidence, return_inverse=True)
    cells = np.zeros((2, 60, level.max() + 1), dtype=np.float32)
    np.add.at(cells[0], (index, level), 1)
    np.add.at(cells[1], (index, level), ~right)
    expected = percentile_interval(aurc_of_blocks(*(draw_counts(60, SEED) @ each for each in cells)))
    found = confidence_intervals(confidence.tolist(), right.tolist(), groups, SEED)["aurc"]
    assert found == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("n", [300, 700])
def test_large_sides_are_matched_nearest_first_and_nearly_as_many(n, monkeypatch):
    forms = pairs_of_forms(n)
    exact = kinds.match_forms(forms)
    monkeypatch.setattr(kinds, "_MAX_SIDE", 0)
    near = kinds.match_forms(forms)
    assert len(near) >= 0.97 * len(exact)
    # Form does not tell which side is chosen: as many are longer as are shorter.
    longer = [forms[i][0][1] - forms[i][1][1] for i in near]
    assert sum(size > 0 for size in longer) == sum(size < 0 for size in longer)
