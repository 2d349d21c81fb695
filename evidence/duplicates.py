"""Near-duplicate questions, found exactly: every pair above the threshold, without comparing all pairs.

It compares words. Which questions belong together is decided in groups.py.
"""

import numpy as np
from scipy.sparse import csr_matrix

from utils.progress import track
from utils.text import shingles

# Questions of one template about two things ("Which body of water lies at the end of the ...?") reach a
# similarity of 0.81 and are no duplicates.
NEAR_DUPLICATE = 0.9

# Rows per block of the join, and pairs per block of the exact check: bounds on memory.
_BLOCK_ROWS = 1024
_BLOCK_PAIRS = 100_000

# Tolerance of comparisons with a multiple of the threshold, so that rounding never decides about a pair.
_ROUNDING = 1e-9


def _shingle_matrix(questions: list[str]) -> csr_matrix:
    """0/1 matrix of shape (n_questions, n_shingles): which word 1- and 2-grams a question has."""
    # Imported here: scikit-learn takes 3 seconds to import, and reading or checking samples does not need it.
    from sklearn.feature_extraction.text import CountVectorizer

    vectorizer = CountVectorizer(analyzer=lambda q: sorted(shingles(q)), binary=True, dtype=np.int32)
    return vectorizer.fit_transform(questions).tocsr()


def _rarest(counts: csr_matrix, threshold: float) -> csr_matrix:
    """Each row's rarest shingles: just enough that two rows as similar as `threshold` must share one of them.

    The prefix filter of set similarity joins (Chaudhuri et al., 2006): |x| - ceil(threshold |x|) + 1
    shingles of each set x, in one global order. Rare shingles first, so that few pairs of rows are left to
    check.
    """
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    rank = np.empty(counts.shape[1], dtype=np.int64)
    rank[np.argsort(frequency, kind="stable")] = np.arange(len(frequency))

    sizes = np.diff(counts.indptr)
    rows = np.repeat(np.arange(counts.shape[0]), sizes)
    order = np.lexsort((rank[counts.indices], rows))
    # `lexsort` keeps the rows together, so a shingle's place in its row is its place minus the row's start.
    place = np.arange(len(order)) - counts.indptr[:-1][rows]
    n_kept = sizes - np.ceil(threshold * sizes - _ROUNDING) + 1
    kept = place < n_kept[rows]

    indices = counts.indices[order][kept]
    ones = np.ones(len(indices), dtype=np.int32)
    return csr_matrix((ones, (rows[kept], indices)), shape=counts.shape)


def near_duplicates(questions: list[str], threshold: float = NEAR_DUPLICATE) -> list[tuple[int, int]]:
    """Index pairs (i < j) whose word 1- and 2-gram sets have at least this Jaccard similarity, exactly."""
    # scikit-learn has no matrix for questions that are all without a word.
    if len(questions) < 2 or not any(map(shingles, questions)):
        return []
    counts = _shingle_matrix(questions)
    sizes = np.diff(counts.indptr)
    rarest = _rarest(counts, threshold)
    by_shingle = rarest.T.tocsr()

    pairs: list[tuple[int, int]] = []
    for start in track(range(0, len(questions), _BLOCK_ROWS), "comparing questions", "block"):
        # Pairs that share a rare shingle, each once.
        near = (rarest[start : start + _BLOCK_ROWS] @ by_shingle).tocoo()
        is_upper = near.row + start < near.col
        rows = near.row[is_upper] + start
        columns = near.col[is_upper]

        for part in range(0, len(rows), _BLOCK_PAIRS):
            i = rows[part : part + _BLOCK_PAIRS]
            j = columns[part : part + _BLOCK_PAIRS]
            shared = np.asarray(counts[i].multiply(counts[j]).sum(axis=1)).ravel()
            # Jaccard: shared / (|a| + |b| - shared) >= threshold.
            similar = shared >= threshold * (sizes[i] + sizes[j] - shared) - _ROUNDING
            pairs += zip(i[similar].tolist(), j[similar].tolist())
    return pairs
