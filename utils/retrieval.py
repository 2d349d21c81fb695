"""BM25 over short texts, on scikit-learn's vectorizer and scipy's sparse matrices."""

import numpy as np
from sklearn.feature_extraction.text import CountVectorizer

from utils.text import STOP_WORDS, tokenize


def _terms(text: str) -> list[str]:
    return [token for token in tokenize(text) if token not in STOP_WORDS]


class BM25:
    """Okapi BM25 (Robertson and Zaragoza, 2009) with k1 = 1.5, b = 0.75 and the non-negative idf of Lucene."""

    def __init__(self, texts: list[str], k1: float = 1.5, b: float = 0.75):
        self.n_texts = len(texts)
        self._vectorizer = CountVectorizer(analyzer=_terms, dtype=np.float32)
        try:
            counts = self._vectorizer.fit_transform(texts)  # (n_texts, n_terms)
        except ValueError:  # not one term in all texts
            self._weights = None
            return
        n_with_term = np.bincount(counts.indices, minlength=counts.shape[1])
        idf = np.log1p((len(texts) - n_with_term + 0.5) / (n_with_term + 0.5))
        lengths = np.asarray(counts.sum(axis=1)).ravel()
        rows = np.repeat(np.arange(len(texts)), np.diff(counts.indptr))
        norm = k1 * (1 - b + b * lengths[rows] / max(lengths.mean(), 1e-9))
        counts.data = (idf[counts.indices] * counts.data * (k1 + 1) / (counts.data + norm)).astype(np.float32)
        self._weights = counts.tocsc()

    def scores(self, query: str) -> np.ndarray:
        """Score of every text for the query, shape (n_texts,), zero where no term is shared."""
        total = np.zeros(self.n_texts, dtype=np.float32)
        if self._weights is None:
            return total
        vocabulary, weights = self._vectorizer.vocabulary_, self._weights
        for term in _terms(query):
            if (column := vocabulary.get(term)) is not None:
                # A column names each text once, so that the sum below loses nothing.
                span = slice(weights.indptr[column], weights.indptr[column + 1])
                total[weights.indices[span]] += weights.data[span]
        return total

    def top(self, query: str, k: int) -> list[int]:
        """Indices of at most `k` texts that share a term with the query, best first, ties in index order."""
        scores = self.scores(query)
        near = np.flatnonzero(scores)
        if k < len(near):
            # Everything that ties with the k-th best is ranked too, so that the order never depends on the partition.
            near = near[scores[near] >= np.partition(scores[near], -k)[-k]]
        return [int(i) for i in near[np.lexsort((near, -scores[near]))][:k]]
