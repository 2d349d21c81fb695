"""Small scikit-learn models that guess from the surface: answerability, the support chunk, and the verdict.

They are fitted on train samples alone. The audit measures how well they guess (`shortcuts.py`); evaluation
lets them answer, as a baseline that a trained model has to beat. Nothing here reads for meaning.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np

from evidence.classifiers import fit, linear, probabilities, trees
from evidence.queries import query_of
from evidence.surface import Surface, nearest_chunk
from utils.schema import is_label_answer, verdict_class


def is_positive(answer: str) -> bool:
    """True for a verdict that supports, and for yes."""
    return verdict_class(answer) == "supported"


def has_verdict(sample: dict) -> bool:
    """True for an answerable sample whose gold is a verdict, or yes or no."""
    return sample["answerable"] and is_label_answer(sample["answer"])


# --- features


def _columns(surface: Surface) -> np.ndarray:
    """The features of the chunks, shape (n_chunks, n_features)."""
    return np.array(surface.chunks, dtype=float)


def sample_features(surface: Surface) -> list[float]:
    """The query, and of each chunk feature the maximum, the gap to the second best, and the mean."""
    values = np.sort(_columns(surface), axis=0)
    best = values[-1]
    gap = best - values[-2] if len(values) > 1 else best
    n_titles_named = sum(chunk.is_named / chunk.n_same_title for chunk in surface.chunks)
    nearest = surface.chunks[nearest_chunk(surface)]
    return [*surface.query, *best, *gap, *values.mean(axis=0), *nearest, n_titles_named]


def chunk_features(surface: Surface) -> list[list[float]]:
    """For each chunk its features, those features minus the best of the other chunks, and the query."""
    values = _columns(surface)
    rows = []
    for i, own in enumerate(values):
        others = np.delete(values, i, axis=0)
        lead = own - others.max(axis=0) if len(others) else own
        rows.append([*own, *lead, *surface.query])
    return rows


def verdict_features(surface: Surface) -> list[float]:
    """The query, the nearest chunk, and how much the best chunk says."""
    best = _columns(surface).max(axis=0)
    return [*surface.query, *surface.chunks[nearest_chunk(surface)], *best]


# --- models


@dataclass
class SurfaceModel:
    """Three classifiers on surface features, fitted on the samples of all sources together.

    `samples` and `surfaces` below belong together, one surface per sample.
    """

    sources: list[str]
    answerable_model: Any = None
    support_model: Any = None
    verdict_model: Any = None

    def _rows(self, samples: list[dict], features: list[list[float]]) -> np.ndarray:
        """Features and one column per known source: the wording of a question tells its source anyway."""
        rows = []
        for sample, row in zip(samples, features):
            rows.append([*row, *(sample["source"] == source for source in self.sources)])
        return np.array(rows, dtype=float)

    def _chunk_rows(self, samples: list[dict], surfaces: list[Surface]) -> np.ndarray:
        owners = []
        features = []
        for sample, surface in zip(samples, surfaces):
            owners += [sample] * len(surface.chunks)
            features += chunk_features(surface)
        return self._rows(owners, features)

    def fit(self, samples: list[dict], surfaces: list[Surface]) -> "SurfaceModel":
        rows = self._rows(samples, [sample_features(surface) for surface in surfaces])
        self.answerable_model = fit(trees(), rows, [sample["answerable"] for sample in samples])

        # Where nothing is support there is nothing to pick: the chunks of answerable samples alone.
        pairs = [pair for pair in zip(samples, surfaces) if pair[0]["answerable"]]
        labels = []
        for sample, surface in pairs:
            labels += [i in sample["support_spans"] for i in range(len(surface.chunks))]
        rows = self._chunk_rows([sample for sample, _ in pairs], [surface for _, surface in pairs])
        self.support_model = fit(trees(), rows, labels)

        pairs = [pair for pair in pairs if has_verdict(pair[0])]
        rows = self._rows(
            [sample for sample, _ in pairs], [verdict_features(surface) for _, surface in pairs]
        )
        self.verdict_model = fit(trees(), rows, [is_positive(sample["answer"]) for sample, _ in pairs])
        return self

    def answerable(self, samples: list[dict], surfaces: list[Surface]) -> np.ndarray:
        """Probability that each sample is answerable, shape (n_samples,)."""
        rows = self._rows(samples, [sample_features(surface) for surface in surfaces])
        return probabilities(self.answerable_model, rows)

    def support(self, samples: list[dict], surfaces: list[Surface]) -> list[np.ndarray]:
        """Per sample the probability that each chunk is support, given that one is, shape (n_chunks,)."""
        found = probabilities(self.support_model, self._chunk_rows(samples, surfaces))
        ends = np.cumsum([len(surface.chunks) for surface in surfaces])
        return np.split(found, ends[:-1])

    def verdicts(self, samples: list[dict], surfaces: list[Surface]) -> np.ndarray:
        """Probability that each claim is supported, or each yes/no question a yes, shape (n_samples,)."""
        rows = self._rows(samples, [verdict_features(surface) for surface in surfaces])
        return probabilities(self.verdict_model, rows)


@dataclass
class QuestionModel:
    """Two linear classifiers on the words and word pairs of the question or claim: they see no evidence."""

    # Share of the train samples that are answerable.
    share_answerable: float = 0.5
    vectorizer: Any = None
    answerable_model: Any = None
    verdict_model: Any = None

    def fit(self, samples: list[dict]) -> "QuestionModel":
        from sklearn.feature_extraction.text import TfidfVectorizer

        # Stop words stay: "not" and "only" tell the verdict of many claims. A token has a letter or digit.
        self.vectorizer = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, token_pattern=r"\w+")
        rows = self.vectorizer.fit_transform([query_of(sample) for sample in samples])
        answerable = [sample["answerable"] for sample in samples]
        self.share_answerable = sum(answerable) / len(answerable)
        self.answerable_model = fit(linear(), rows, answerable)

        with_verdict = [i for i, sample in enumerate(samples) if has_verdict(sample)]
        labels = [is_positive(samples[i]["answer"]) for i in with_verdict]
        self.verdict_model = fit(linear(), rows[with_verdict], labels)
        return self

    def _rows(self, samples: list[dict]):
        return self.vectorizer.transform([query_of(sample) for sample in samples])

    def answerable(self, samples: list[dict]) -> np.ndarray:
        """Probability that each sample is answerable, shape (n_samples,)."""
        return probabilities(self.answerable_model, self._rows(samples))

    def verdicts(self, samples: list[dict]) -> np.ndarray:
        """Probability that each claim is supported, or each yes/no question a yes, shape (n_samples,)."""
        return probabilities(self.verdict_model, self._rows(samples))
