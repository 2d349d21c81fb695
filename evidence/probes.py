"""Probes: each guesses answerability, the support chunk or the verdict of held-out samples, from the surface.

A probe is fitted on train rows and scored on held-out rows. The gold is read here to fit and to score; a
probe itself looks at the surface alone. Limits and warnings are in `shortcuts.py`.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from evidence.surface import ChunkSurface, Surface, nearest_chunk, says_everything
from evidence.surface_model import QuestionModel, SurfaceModel, is_positive


class Guesses(NamedTuple):
    """What the fitted models say of one sample: probabilities, of support one per chunk."""

    answerable: float
    support: np.ndarray
    verdict: float
    answerable_from_question: float
    verdict_from_question: float


# A model knows the gold of its own train rows, so their guesses would be worthless.
_NO_GUESSES = Guesses(np.nan, np.empty(0), np.nan, np.nan, np.nan)


class Row(NamedTuple):
    """A sample, its surface, and what the models guess; rows of train have no guesses."""

    sample: dict
    surface: Surface
    guesses: Guesses = _NO_GUESSES


def guess(
    samples: list[dict], surfaces: list[Surface], model: SurfaceModel, question_model: QuestionModel
) -> list[Row]:
    """The rows of held-out samples, with the guesses of models that were fitted on train."""
    columns = (
        model.answerable(samples, surfaces),
        model.support(samples, surfaces),
        model.verdicts(samples, surfaces),
        question_model.answerable(samples),
        question_model.verdicts(samples),
    )
    return [
        Row(sample, surface, Guesses(*found)) for sample, surface, *found in zip(samples, surfaces, *columns)
    ]


# --- scores


def balanced_accuracy(said: np.ndarray, true: np.ndarray) -> float:
    """Mean of the shares of both classes that are told right. `true` has both classes."""
    return float((said[true].mean() + (~said[~true]).mean()) / 2)


class Cut(NamedTuple):
    """A threshold on a value: what reaches it is of the one class, what does not is of the other."""

    at: float
    is_true_above: bool = True

    def says(self, values: np.ndarray) -> np.ndarray:
        return (values >= self.at) == self.is_true_above


def best_cut(values: np.ndarray, true: np.ndarray) -> Cut:
    """The cut with the best balanced accuracy, in either direction; of equals the lowest."""
    cuts = np.unique(values)
    # Of each class the share that reaches each cut: of sorted values, counting is a search.
    reached = []
    for part in (values[true], values[~true]):
        below = np.searchsorted(np.sort(part), cuts, side="left")
        reached.append(1 - below / max(len(part), 1))
    lead = reached[0] - reached[1]
    best = int(np.argmax(np.abs(lead)))
    return Cut(float(cuts[best]), bool(lead[best] >= 0))


def pick_credit(values: np.ndarray, support: list[int]) -> float:
    """Share of the chunks with the highest value that are support: 0 or 1 unless several are equal."""
    best = np.flatnonzero(values == values.max())
    return len(set(best.tolist()) & set(support)) / len(best)


# --- what the probes look at

# Row -> a number for the whole sample.
Value = Callable[[Row], float]
# Row -> one number per chunk, shape (n_chunks,).
ChunkValues = Callable[[Row], np.ndarray]


class TwoClasses(NamedTuple):
    """A probe for a yes or no. `cut`: a fixed one; None: the best on train."""

    value: Value
    cut: Cut | None = None


_HALF = Cut(0.5)


def _nearest(row: Row) -> ChunkSurface:
    return row.surface.chunks[nearest_chunk(row.surface)]


ANSWERABILITY = {
    "title_match": TwoClasses(lambda row: max(chunk.is_named for chunk in row.surface.chunks), _HALF),
    "overlap": TwoClasses(lambda row: max(chunk.share for chunk in row.surface.chunks)),
    "length": TwoClasses(lambda row: sum(chunk.n_words for chunk in row.surface.chunks)),
    "question_alone": TwoClasses(lambda row: row.guesses.answerable_from_question, _HALF),
    "surface_model": TwoClasses(lambda row: row.guesses.answerable, _HALF),
}

VERDICT = {
    "unstated": TwoClasses(lambda row: float(says_everything(_nearest(row))), _HALF),
    "overlap": TwoClasses(lambda row: _nearest(row).share),
    "length": TwoClasses(lambda row: row.surface.query.n_stems),
    "question_alone": TwoClasses(lambda row: row.guesses.verdict_from_question, _HALF),
    "surface_model": TwoClasses(lambda row: row.guesses.verdict, _HALF),
}


def _chunk_field(name: str) -> ChunkValues:
    return lambda row: np.array([getattr(chunk, name) for chunk in row.surface.chunks])


def _always(values: ChunkValues) -> Callable[[list[Row]], ChunkValues]:
    """A pick that needs no train rows."""
    return lambda fitting: values


def _best_position(fitting: list[Row]) -> ChunkValues:
    """Per position, how often it was support on train."""
    counts = np.zeros(1 + max((len(row.surface.chunks) for row in fitting), default=0))
    for row in fitting:
        counts[row.sample["support_spans"]] += 1

    def values(row: Row) -> np.ndarray:
        # A position that train did not have was never support.
        padded = np.pad(counts, (0, len(row.surface.chunks)))
        return padded[: len(row.surface.chunks)]

    return values


def _longest_or_shortest(fitting: list[Row]) -> ChunkValues:
    """The longest chunk or the shortest, whichever was support more often on train."""
    longest = _chunk_field("n_words")

    def shortest(row: Row) -> np.ndarray:
        return -longest(row)

    return max((longest, shortest), key=lambda values: mean_credit(values, fitting))


# Probe -> train rows -> values, of which the highest is the pick.
SUPPORT = {
    "title_match": _always(_chunk_field("is_named")),
    "overlap": _always(_chunk_field("overlap")),
    "position": _best_position,
    "length": _longest_or_shortest,
    "surface_model": _always(lambda row: row.guesses.support),
}


# --- scores of the probes


def mean_credit(values: ChunkValues, rows: list[Row]) -> float:
    """Share of rows, all answerable, whose pick is support."""
    credits = [pick_credit(values(row), row.sample["support_spans"]) for row in rows]
    return sum(credits) / max(len(credits), 1)


def _said_and_true(
    probe: TwoClasses, label: Callable[[dict], bool], fitting: list[Row], held: list[Row]
) -> tuple[np.ndarray, np.ndarray]:
    cut = probe.cut
    if cut is None:
        values = np.array([probe.value(row) for row in fitting])
        cut = best_cut(values, np.array([label(row.sample) for row in fitting]))
    said = cut.says(np.array([probe.value(row) for row in held]))
    return said, np.array([label(row.sample) for row in held])


def answerability_score(probe: str, fitting: list[Row], held: list[Row]) -> float:
    said, true = _said_and_true(ANSWERABILITY[probe], lambda sample: sample["answerable"], fitting, held)
    return balanced_accuracy(said, true)


def support_score(probe: str, fitting: list[Row], held: list[Row]) -> float:
    return mean_credit(SUPPORT[probe](fitting), held)


def verdict_score(probe: str, fitting: list[Row], held: list[Row]) -> float:
    """Accuracy. Rows of both arguments have a verdict."""
    said, true = _said_and_true(VERDICT[probe], lambda sample: is_positive(sample["answer"]), fitting, held)
    return float((said == true).mean())
