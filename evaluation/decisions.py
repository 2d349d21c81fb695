"""Biases on a model's decisions (refuse, answer, `refuted`), fitted to val samples.

Of each sample the outcome of every decision and the model's log-probability of it are known, so the outcome
under any bias is looked up, not generated. This module knows no model and no tokens.
"""

from typing import NamedTuple

import numpy as np

from utils.decisions import BRANCHES, Decisions
from utils.metrics import rates_from_sums

# The sum of these is maximized. Net score alone refuses what is probably answered wrongly, although such an
# answer costs no exact match; refusal F1 alone does not ask whether an answer is right.
OBJECTIVE = ("net_score", "refusal_f1", "em_answerable")
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


class Branch(NamedTuple):
    """One decision about a sample: the first token, its log-probability, and the terms of what follows."""

    token: int
    logp: float
    # As of `utils/scoring.py`.
    terms: dict[str, float]


class Decided(NamedTuple):
    """What a model can decide about one sample: a branch for each of BRANCHES, in their order.

    A question that is no claim has no third one.
    """

    group: str
    is_claim: bool
    branches: list[Branch]


class _Table(NamedTuple):
    """Samples as arrays: scores (n, 3), terms (n, 3, n_terms), is_claim (n,)."""

    scores: np.ndarray
    terms: np.ndarray
    is_claim: np.ndarray

    def pick(self, rows: np.ndarray) -> "_Table":
        return _Table(self.scores[rows], self.terms[rows], self.is_claim[rows])


def _table(samples: list[Decided]) -> _Table:
    scores = np.full((len(samples), len(BRANCHES)), -np.inf)
    terms = np.zeros((len(samples), len(BRANCHES), len(samples[0].branches[0].terms)))
    for i, sample in enumerate(samples):
        for k, branch in enumerate(sample.branches):
            # Logits in bfloat16 are often equal, and then generation takes the token of the lowest id. What
            # is subtracted is far below any other difference.
            scores[i, k] = branch.logp - 1e-10 * branch.token
            terms[i, k] = list(branch.terms.values())
    return _Table(scores, terms, np.array([sample.is_claim for sample in samples]))


def _choose(scores: np.ndarray, refuse: np.ndarray, refuted: np.ndarray) -> np.ndarray:
    """The decision of each sample under biases that broadcast with it: indices 0 to 2.

    `scores` (..., n, 3); biases (..., n) or less. Returns (..., n).
    """
    biased = np.broadcast_arrays(scores[..., 0] + refuse, scores[..., 1], scores[..., 2] + refuted)
    return np.stack(biased, axis=-1).argmax(-1)


def _decide(table: _Table, decisions: Decisions) -> np.ndarray:
    """The decision (n,) of each sample."""
    refuse = np.where(table.is_claim, decisions.refuse_claim, decisions.refuse_question)
    return _choose(table.scores, refuse, np.where(table.is_claim, decisions.refuted, 0.0))


def decide(samples: list[Decided], decisions: Decisions) -> list[int]:
    """What is decided about each sample under the biases: indices into its branches."""
    return _decide(_table(samples), decisions).tolist()


# --- the objective


def _sums(terms: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Terms (n, 3, n_terms) summed over the samples as decided: choices (..., n) -> (..., n_terms)."""
    sums = np.zeros((*choices.shape[:-1], terms.shape[-1]))
    for branch in range(terms.shape[1]):
        sums += (choices == branch).astype(float) @ terms[:, branch]
    return sums


def _rates(sums: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    return rates_from_sums({name: sums[..., i] for i, name in enumerate(names)})


def _objective(rates: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of the rates to maximize; one that the samples do not define counts as 0."""
    return np.sum([np.nan_to_num(rates[name]) for name in OBJECTIVE], axis=0)


def _thresholds(log_odds: np.ndarray) -> np.ndarray:
    """Biases that turn over the decisions with log-odds below minus them; 0 alone for too few samples."""
    if len(log_odds) < MIN_SAMPLES:
        return np.zeros(1)
    return -np.quantile(log_odds, np.linspace(0, 1, _N_THRESHOLDS), method="midpoint")


def _fit(table: _Table, names: list[str]) -> Decisions:
    """The biases with the highest smoothed objective."""
    from scipy.ndimage import gaussian_filter

    claims = table.pick(table.is_claim)
    questions = table.pick(~table.is_claim)
    verdicts = claims.scores[:, 1:].max(axis=1)
    refuse_claim = _thresholds(claims.scores[:, 0] - verdicts)
    refuted = _thresholds(claims.scores[:, 2] - claims.scores[:, 1])
    refuse_question = _thresholds(questions.scores[:, 0] - questions.scores[:, 1])

    # (refuse_claim, refuted, n_claims) and (refuse_question, n_questions)
    of_claims = _choose(claims.scores, refuse_claim[:, None, None], refuted[:, None])
    of_questions = _choose(questions.scores, refuse_question[:, None], np.zeros(1))
    sums = _sums(claims.terms, of_claims)[:, :, None] + _sums(questions.terms, of_questions)
    found = _objective(_rates(sums, names))  # (refuse_claim, refuted, refuse_question)
    smooth = gaussian_filter(found, [_SMOOTHING if n > 1 else 0.0 for n in found.shape], mode="nearest")
    a, b, c = np.unravel_index(smooth.argmax(), smooth.shape)
    rounded = [round(float(bias), 4) for bias in (refuse_claim[a], refuse_question[c], refuted[b])]
    return Decisions(*rounded)


# --- the fit


def _shown(rates: dict[str, np.ndarray]) -> dict[str, float | None]:
    shown: dict[str, float | None] = {"objective": float(_objective(rates))}
    for name in (*OBJECTIVE, *_ALSO_SHOWN):
        shown[name] = None if np.isnan(rates[name]) else float(rates[name])
    return shown


def fit_decisions(samples: list[Decided]) -> tuple[Decisions, dict[str, dict]]:
    """The best biases, and the metrics of val by name: "plain", "fitted" and "cross_validated".

    Cross-validated: each fifth of the groups is decided with biases that were fitted to the others. The
    biases are all 0 where the objective is then not above the plain one.
    """
    # Importing scikit-learn takes a second.
    from sklearn.model_selection import GroupKFold

    table = _table(samples)
    names = list(samples[0].branches[0].terms)
    groups = [sample.group for sample in samples]

    def rates(chosen: np.ndarray) -> dict[str, np.ndarray]:
        return _rates(_sums(table.terms, chosen), names)

    n_folds = min(_N_FOLDS, len(set(groups)))
    choices = _decide(table, Decisions())
    plain = rates(choices)
    for rest, part in GroupKFold(n_folds).split(groups, groups=groups) if n_folds > 1 else []:
        choices[part] = _decide(table.pick(part), _fit(table.pick(rest), names))
    cross_validated = rates(choices)

    helps = _objective(cross_validated) > _objective(plain)
    best = _fit(table, names) if helps else Decisions()
    of_all = {"plain": plain, "fitted": rates(_decide(table, best)), "cross_validated": cross_validated}
    return best, {name: _shown(found) for name, found in of_all.items()}
