"""Biases on a model's decisions (refuse, answer, `refuted`), fitted to val samples.

With gates (`evidence/surface_gates.py`), a bias grows with the log-odds of its gate: two judgements of the
evidence that err otherwise decide better than one. This module knows no model and no tokens.
"""

from collections.abc import Callable

import numpy as np

from evaluation.decided import (
    OBJECTIVE,
    Decided,
    Table,
    choose,
    decide_table,
    objective,
    rates_of,
    sums_of,
    table_of,
)
from utils.decisions import Decisions

# Shown beside them.
_ALSO_SHOWN = ("citation_correctness", "over_refusal_rate", "under_refusal_rate")
# Thresholds to choose from, at equal steps of the share of samples that they decide otherwise.
_N_THRESHOLDS = 41
# The objective is averaged over neighboring thresholds (a Gaussian of this many steps, 7% of the decisions),
# because its peak follows single samples. In simulations with 160 to 670 samples the peak itself lost 0.006
# to 0.022 more of it on new samples; widths from 2.5 to 6 steps did equally well.
_SMOOTHING = 3.0
_N_FOLDS = 5
# With fewer samples of a kind its bias stays 0.
MIN_SAMPLES = 20
# A few decisions that a model is very sure of would otherwise set the weight of all of its log-odds.
_MOST_ODDS = 10.0


def _thresholds(log_odds: np.ndarray) -> np.ndarray:
    """Biases that turn over the decisions with log-odds below minus them; 0 alone for too few samples."""
    if len(log_odds) < MIN_SAMPLES:
        return np.zeros(1)
    return -np.quantile(log_odds, np.linspace(0, 1, _N_THRESHOLDS), method="midpoint")


def _factor(own: np.ndarray, gate: np.ndarray, labels: np.ndarray) -> float:
    """What a gate's log-odds are worth in log-odds of the model: the ratio of their weights; all (n,).

    The weights are those of a logistic regression on both. 0 where there is too little to fit, and where the
    gate tells nothing that the model does not know.
    """
    from sklearn.linear_model import LogisticRegression

    n_true = int(labels.sum())
    if min(n_true, len(labels) - n_true) < MIN_SAMPLES or not gate.any():
        return 0.0
    rows = np.column_stack([np.clip(own, -_MOST_ODDS, _MOST_ODDS), gate])
    of_model, of_gate = LogisticRegression().fit(rows, labels).coef_[0]
    return round(float(of_gate / of_model), 4) if of_model > 0 and of_gate > 0 else 0.0


def _no_factors(table: Table) -> dict[str, float]:
    return {}


def _factors(table: Table) -> dict[str, float]:
    """The factor of the gate of each bias."""
    own = table.scores[:, 0] - table.scores[:, 1:].max(axis=1)
    factors = {}
    for name, kind in (("refuse_claim", table.is_claim), ("refuse_question", ~table.is_claim)):
        factors[name] = _factor(own[kind], table.refuse_odds[kind], ~table.answerable[kind])
    told = table.pick(table.is_claim & table.answerable)
    own = told.scores[:, 2] - told.scores[:, 1]
    factors["refuted"] = _factor(own, told.refuted_odds, told.is_refuted)
    return factors


def _fit(table: Table, names: list[str]) -> Decisions:
    """The biases with the highest smoothed objective."""
    from scipy.ndimage import gaussian_filter

    claims = table.pick(table.is_claim)
    questions = table.pick(~table.is_claim)
    verdicts = claims.scores[:, 1:].max(axis=1)
    refuse_claim = _thresholds(claims.scores[:, 0] - verdicts)
    refuted = _thresholds(claims.scores[:, 2] - claims.scores[:, 1])
    refuse_question = _thresholds(questions.scores[:, 0] - questions.scores[:, 1])

    # (refuse_claim, refuted, n_claims) and (refuse_question, n_questions)
    of_claims = choose(claims.scores, refuse_claim[:, None, None], refuted[:, None])
    of_questions = choose(questions.scores, refuse_question[:, None], np.zeros(1))
    sums = sums_of(claims.terms, of_claims)[:, :, None] + sums_of(questions.terms, of_questions)
    found = objective(rates_of(sums, names))  # (refuse_claim, refuted, refuse_question)
    smooth = gaussian_filter(found, [_SMOOTHING if n > 1 else 0.0 for n in found.shape], mode="nearest")
    a, b, c = np.unravel_index(smooth.argmax(), smooth.shape)
    best = [round(float(bias), 4) for bias in (refuse_claim[a], refuse_question[c], refuted[b])]
    return Decisions(refuse_claim=best[0], refuse_question=best[1], refuted=best[2])


# --- the fit


def _shown(rates: dict[str, np.ndarray]) -> dict[str, float | None]:
    shown: dict[str, float | None] = {"objective": float(objective(rates))}
    for name in (*OBJECTIVE, *_ALSO_SHOWN):
        shown[name] = None if np.isnan(rates[name]) else float(rates[name])
    return shown


def fit_decisions(samples: list[Decided]) -> tuple[Decisions, dict[str, float], dict[str, dict]]:
    """The best biases, the factors of their gates, and val's metrics: "plain", "fitted", "cross_validated".

    Cross-validated: each fifth of the groups is decided with what was fitted to the others. Of the plain
    decisions, biases alone and biases with gates those are taken that are best then, in this order where
    they are equal.
    """
    # Importing scikit-learn takes a second.
    from sklearn.model_selection import GroupKFold

    table = table_of(samples)
    names = list(samples[0].branches[0].terms)
    groups = [sample.group for sample in samples]

    def rates(chosen: np.ndarray) -> dict[str, np.ndarray]:
        return rates_of(sums_of(table.terms, chosen), names)

    def cross_validate(factors_of: Callable[[Table], dict[str, float]]) -> dict[str, np.ndarray]:
        choices = decide_table(table, Decisions())
        n_folds = min(_N_FOLDS, len(set(groups)))
        for rest, part in GroupKFold(n_folds).split(groups, groups=groups) if n_folds > 1 else []:
            gated = table.with_gates(factors_of(table.pick(rest)))
            choices[part] = decide_table(gated.pick(part), _fit(gated.pick(rest), names))
        return rates(choices)

    plain = rates(decide_table(table, Decisions()))
    has_gates = table.refuse_odds.any() or table.refuted_odds.any()
    ways = [_no_factors, _factors] if has_gates else [_no_factors]
    found = [cross_validate(way) for way in ways]
    # The first of equals.
    best = int(np.argmax([objective(one) for one in found]))
    biases = Decisions()
    factors: dict[str, float] = {}
    if objective(found[best]) > objective(plain):
        factors = ways[best](table)
        biases = _fit(table.with_gates(factors), names)
    fitted = rates(decide_table(table.with_gates(factors), biases))
    of_all = {"plain": plain, "fitted": fitted, "cross_validated": found[best]}
    return biases, factors, {name: _shown(one) for name, one in of_all.items()}
