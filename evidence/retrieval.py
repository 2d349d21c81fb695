"""BM25 over short texts, on scipy's sparse matrices.

The index knows terms and their counts. It knows nothing about answers, support or splits.
"""

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
from scipy.sparse import csr_matrix

from utils.text import STOP_WORDS, tokenize

# A term in more than this share of the texts gets a dense row: adding a dense row is many times faster than
# adding its scattered entries. The bound in bytes keeps a pool of millions of chunks within memory.
_FREQUENT = 1 / 24
_FREQUENT_BYTES = 64 << 20

# Blocks of texts whose maxima bound the k-th best score from below (`_floor`).
_BLOCKS = 256


def terms_of(text: str) -> list[str]:
    """The tokens of a text that BM25 counts: all but the stop words."""
    return [token for token in tokenize(text) if token not in STOP_WORDS]


class BM25:
    """Okapi BM25 (Robertson and Zaragoza, 2009) with the non-negative idf of Lucene.

    A text may be given as a string or as the list of its terms. All weights are computed once, so that a
    query only adds up the columns of its terms.
    """

    def __init__(self, texts: Iterable[str | list[str]], k1: float = 1.5, b: float = 0.75):
        # Term -> column of the weight matrix, in order of first occurrence.
        self._columns: dict[str, int] = {}

        # Flat arrays of one entry per distinct term of a text, the layout of csr_matrix. Lists of Python
        # integers would need several times the memory.
        columns = array("i")
        counts = array("f")
        ends = array("q", [0])
        for text in texts:
            counted = Counter(terms_of(text) if isinstance(text, str) else text)
            columns.extend(self._columns.setdefault(term, len(self._columns)) for term in counted)
            counts.extend(counted.values())
            ends.append(len(columns))

        self.n_texts = len(ends) - 1
        # Without any term no query can match: `scores` returns zeros and needs no weights.
        if not self._columns:
            return

        indices = np.frombuffer(columns, np.int32)
        counted_terms = np.frombuffer(counts, np.float32)
        indptr = np.frombuffer(ends, np.int64)

        n_with_term = np.bincount(indices, minlength=len(self._columns))
        self._n_with_term = n_with_term
        idf = np.log1p((self.n_texts - n_with_term + 0.5) / (n_with_term + 0.5))

        rows = np.repeat(np.arange(self.n_texts), np.diff(indptr))
        lengths = np.bincount(rows, counted_terms, minlength=self.n_texts).astype(np.float32)
        norm = k1 * (1 - b + b * lengths[rows] / max(lengths.mean(), 1e-9))
        weights = (idf[indices] * counted_terms * (k1 + 1) / (counted_terms + norm)).astype(np.float32)

        # By column (csc), because a query reads the columns of its terms.
        shape = (self.n_texts, len(self._columns))
        self._weights = csr_matrix((weights, indices, indptr), shape=shape).tocsc()
        self._rows = self._frequent_rows(n_with_term)

    def _frequent_rows(self, n_with_term: np.ndarray) -> dict[int, np.ndarray]:
        """Column -> dense weights, shape (n_texts,), of the most frequent terms that fit into the bound."""
        n_frequent = int((n_with_term > max(_FREQUENT * self.n_texts, 64)).sum())
        n_rows = min(n_frequent, _FREQUENT_BYTES // (4 * self.n_texts))
        if not n_rows:
            return {}
        columns = np.argsort(-n_with_term, kind="stable")[:n_rows]
        return dict(zip(columns.tolist(), self._weights[:, columns].T.toarray()))

    def n_with(self, term: str) -> int:
        """Number of texts that contain a term."""
        column = self._columns.get(term)
        return 0 if column is None else int(self._n_with_term[column])

    def scores(self, query: str | list[str]) -> np.ndarray:
        """Score of every text for the query, shape (n_texts,), zero where no term is shared.

        A query may be given as the list of its terms, as the texts may.
        """
        total = np.zeros(self.n_texts, dtype=np.float32)
        for term in terms_of(query) if isinstance(query, str) else query:
            column = self._columns.get(term)
            if column is None:
                continue
            row = self._rows.get(column)
            if row is not None:
                total += row
                continue
            # Fancy-index addition counts a repeated index once; a column names each text once, so nothing
            # is lost.
            start = self._weights.indptr[column]
            end = self._weights.indptr[column + 1]
            total[self._weights.indices[start:end]] += self._weights.data[start:end]
        return total

    def top(self, query: str | list[str], k: int) -> list[int]:
        """Indices of at most `k` texts that share a term with the query, best first, ties in index order."""
        scores = self.scores(query)
        near = np.flatnonzero(scores >= _floor(scores, k))
        order = np.lexsort((near, -scores[near]))
        return [int(i) for i in near[order][:k]]


def _floor(scores: np.ndarray, k: int) -> float:
    """A positive score that the k best texts all reach: the k-th best of the maxima of blocks of texts.

    At least `k` texts reach it if that many have a positive score. It spares `top` from sorting all scores.
    """
    smallest = float(np.finfo(np.float32).tiny)
    if k > _BLOCKS or len(scores) < 2 * _BLOCKS:
        return smallest
    n_whole = len(scores) // _BLOCKS * _BLOCKS
    best = scores[:n_whole].reshape(-1, _BLOCKS).max(axis=0)
    return max(float(np.partition(best, -k)[-k]), smallest)
