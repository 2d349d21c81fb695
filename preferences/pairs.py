"""Figures over preference pairs: accuracy, ROC-AUC, intervals, and the rivals that a reward model has to beat."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score

from utils.completions import parse_completion

N_RESAMPLES = 2000


def pair_metrics(chosen: np.ndarray, rejected: np.ndarray) -> dict[str, float]:
    """Pairwise accuracy (ties 0.5) and ROC-AUC of the pooled scores (chosen 1, rejected 0)."""
    accuracy = float(((chosen > rejected) + 0.5 * (chosen == rejected)).mean())
    labels = np.r_[np.ones(len(chosen)), np.zeros(len(rejected))]
    return {"accuracy": accuracy, "roc_auc": float(roc_auc_score(labels, np.r_[chosen, rejected]))}


def style_features(rows: list[dict]) -> np.ndarray:
    """What a completion looks like without its prompt: length, citations, confidence, refusal, validity. (n, 6)."""
    table = []
    for row in rows:
        parsed = parse_completion(row["completion"], len(row["evidence_chunks"]))
        table.append(
            [
                len(row["completion"]),
                len(parsed.answer or ""),
                len(parsed.citations),
                parsed.confidence or 0.0,
                parsed.is_refusal,
                parsed.is_valid,
            ]
        )
    return np.asarray(table, dtype=float)


def baseline_scores(
    rows: list[dict], found: dict, penalty_sums: np.ndarray, split: dict[str, list[int]]
) -> dict[str, np.ndarray]:
    """Scores (n,) of rivals that need no reward model: length, style (logistic regression on train pairs), penalties, likelihood."""
    style = style_features(rows)
    style = (style - style.mean(0)) / np.maximum(style.std(0), 1e-9)
    train_differences = (style[0::2] - style[1::2])[split["train"]]
    fit = LogisticRegression(fit_intercept=False).fit(
        np.r_[train_differences, -train_differences],
        np.r_[np.ones(len(train_differences)), np.zeros(len(train_differences))],
    )
    return {
        "length_only": -found["n_tokens"].numpy(),
        "style_only": style @ fit.coef_[0],
        "penalties_only": -penalty_sums,
        "mean_logprob": found["mean_logp"].numpy(),
    }


def interval(
    chosen: np.ndarray, rejected: np.ndarray, groups: list[str], seed: int
) -> dict[str, list[float] | None]:
    """95% bootstrap intervals over groups; None with fewer than 20 groups."""
    names = sorted(set(groups))
    if len(names) < 20:
        return {"accuracy": None, "roc_auc": None}
    members = [np.flatnonzero(np.asarray(groups) == name) for name in names]
    rng = np.random.default_rng(seed)
    drawn = []
    for _ in range(N_RESAMPLES):
        rows = np.concatenate([members[i] for i in rng.integers(0, len(names), len(names))])
        drawn.append(pair_metrics(chosen[rows], rejected[rows]))
    return {
        name: [float(x) for x in np.percentile([d[name] for d in drawn], [2.5, 97.5])]
        for name in ("accuracy", "roc_auc")
    }
