"""BM25 over short texts, on scipy's sparse matrices."""

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_matrix

from utils.text import STOP_WORDS, tokenize

# Terms of more than this share of the texts are kept as whole rows, which are added many times as fast as scattered entries.
_FREQUENT = 1 / 24
_FREQUENT_BYTES = 64 << 20
_BLOCKS = 256


def _terms(text: str) -> list[str]:
    return [token for token in tokenize(text) if token not in STOP_WORDS]


class BM25:
    """Okapi BM25 (Robertson and Zaragoza, 2009) with k1 = 1.5, b = 0.75 and the non-negative idf of Lucene. A text may come as its terms."""

    def __init__(self, texts: Iterable[str | list[str]], k1: float = 1.5, b: float = 0.75):
        self._columns: dict[str, int] = {}
        columns = array("i")
        counts = array("f")
        ends = array("q", [0])
        for text in texts:
            counted = Counter(_terms(text) if isinstance(text, str) else text)
            columns.extend(self._columns.setdefault(term, len(self._columns)) for term in counted)
            counts.extend(counted.values())
            ends.append(len(columns))
        self.n_texts = n_texts = len(ends) - 1
        if not self._columns:
            return
        indices = np.frombuffer(columns, np.int32)
        data = np.frombuffer(counts, np.float32)
        indptr = np.frombuffer(ends, np.int64)
        n_with_term = np.bincount(indices, minlength=len(self._columns))
        idf = np.log1p((n_texts - n_with_term + 0.5) / (n_with_term + 0.5))
        rows = np.repeat(np.arange(n_texts), np.diff(indptr))
        lengths = np.bincount(rows, data, minlength=n_texts).astype(np.float32)
        norm = k1 * (1 - b + b * lengths[rows] / max(lengths.mean(), 1e-9))
        data = (idf[indices] * data * (k1 + 1) / (data + norm)).astype(np.float32)
        self._weights = csr_matrix((data, indices, indptr), shape=(n_texts, len(self._columns))).tocsc()
        self._rows = self._frequent_rows(n_with_term)

    def _frequent_rows(self, n_with_term: np.ndarray) -> dict[int, np.ndarray]:
        """Weights of the most frequent terms as rows of shape (n_texts,), within a bound on memory."""
        n_rows = min(
            int((n_with_term > max(_FREQUENT * self.n_texts, 64)).sum()),
            _FREQUENT_BYTES // (4 * self.n_texts),
        )
        if not n_rows:
            return {}
        columns = np.argsort(-n_with_term, kind="stable")[:n_rows]
        return dict(zip(columns.tolist(), self._weights[:, columns].T.toarray()))

    def scores(self, query: str) -> np.ndarray:
        """Score of every text for the query, shape (n_texts,), zero where no term is shared."""
        total = np.zeros(self.n_texts, dtype=np.float32)
        for term in _terms(query):
            if (column := self._columns.get(term)) is None:
                continue
            if (row := self._rows.get(column)) is not None:
                total += row
                continue
            # A column names each text once, so that the sum below loses nothing.
            start = self._weights.indptr[column]
            end = self._weights.indptr[column + 1]
            total[self._weights.indices[start:end]] += self._weights.data[start:end]
        return total

    def top(self, query: str, k: int) -> list[int]:
        """Indices of at most `k` texts that share a term with the query, best first, ties in index order."""
        scores = self.scores(query)
        near = np.flatnonzero(scores >= _floor(scores, k))
        return [int(i) for i in near[np.lexsort((near, -scores[near]))][:k]]


def _floor(scores: np.ndarray, k: int) -> float:
    """A positive score that at least `k` texts reach, if so many have one: the k-th best of the maxima of blocks of texts."""
    smallest = np.finfo(np.float32).tiny
    if k > _BLOCKS or len(scores) < 2 * _BLOCKS:
        return smallest
    n_whole = len(scores) // _BLOCKS * _BLOCKS
    best = scores[:n_whole].reshape(-1, _BLOCKS).max(axis=0)
    return max(np.partition(best, -k)[-k], smallest)
