"""The scikit-learn classifiers of the shortcut audit: small, balanced, and the same on any machine.

They know rows of numbers and labels, nothing about samples. scikit-learn is imported inside the functions,
because the import takes a second and most commands need none of it.
"""

import numpy as np

# Enough for some 50 features; 40,000 chunks fit in seconds.
_N_TREES = 80
_SEED = 0


def one_thread():
    """A context in which scikit-learn uses one thread.

    More threads than free cores wait for each other: on a shared machine a fit of 3 seconds took 48.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1)


class Constant:
    """Stands for a classifier where the training samples have one class, or none."""

    def __init__(self, probability: float):
        self.probability = probability

    def predict_proba(self, rows) -> np.ndarray:
        """Shape (n_rows, 2), as of a scikit-learn classifier."""
        n_rows = rows.shape[0]
        return np.tile([1 - self.probability, self.probability], (n_rows, 1))


def fit(model, rows, labels: list[bool]):
    """The model fitted, or a constant where there is nothing to tell apart."""
    if len(set(labels)) < 2:
        return Constant(float(labels[0]) if labels else 0.5)
    with one_thread():
        return model.fit(rows, np.array(labels))


def trees():
    from sklearn.ensemble import HistGradientBoostingClassifier

    # Fixed seed and no early stopping: the same trees with any number of threads.
    return HistGradientBoostingClassifier(
        max_iter=_N_TREES,
        max_leaf_nodes=15,
        early_stopping=False,
        class_weight="balanced",
        random_state=_SEED,
    )


def linear(strength: float = 1.0):
    """Logistic regression; a smaller `strength` (scikit-learn's C) keeps the weights nearer to 0."""
    from sklearn.linear_model import LogisticRegression

    # liblinear runs in one thread, so that its figures do not depend on the machine.
    settings = {"solver": "liblinear", "class_weight": "balanced", "random_state": _SEED}
    return LogisticRegression(C=strength, **settings)


def probabilities(model, rows) -> np.ndarray:
    """Probability of the positive class, shape (n_rows,), as if both classes were equally frequent."""
    with one_thread():
        return model.predict_proba(rows)[:, 1]
