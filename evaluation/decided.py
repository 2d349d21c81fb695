"""What a model can decide about samples, and what the samples score as decided, as arrays.

Of each sample the outcome of every decision and the model's log-probability of it are known, so the outcome
under any bias is looked up, not generated. This module knows no model and no tokens.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from utils.decisions import BRANCHES, Decisions
from utils.metrics import rates_from_sums

# The sum of these is maximized. Net score alone refuses what is probably answered wrongly, although such an
# answer costs no exact match; refusal F1 alone does not ask whether an answer is right.
OBJECTIVE = ("net_score", "refusal_f1", "em_answerable")


class Branch(NamedTuple):
    """One decision about a sample: the first token, its log-probability, and the terms of what follows."""

    token: int
    logp: float
    # As of `utils/scoring.py`.
    terms: dict[str, float]


class Decided(NamedTuple):
    """What a model can decide about one sample: a branch for each of BRANCHES, in their order.

    A question that is no claim has no third one. `refuse_odds` and `refuted_odds`: log-odds of gates
    (`evidence/surface_gates.py`).
    """

    group: str
    is_claim: bool
    branches: list[Branch]
    refuse_odds: float = 0.0
    refuted_odds: float = 0.0


class Table(NamedTuple):
    """Samples as arrays: scores (n, 3), terms (n, 3, n_terms), the others (n,).

    `is_refuted`: the gold of an answerable claim, False for anything else.
    """

    scores: np.ndarray
    terms: np.ndarray
    is_claim: np.ndarray
    answerable: np.ndarray
    is_refuted: np.ndarray
    refuse_odds: np.ndarray
    refuted_odds: np.ndarray

    def pick(self, rows: np.ndarray) -> "Table":
        return Table(*(column[rows] for column in self))

    def with_gates(self, factors: Mapping[str, float]) -> "Table":
        """The table with the gates' log-odds, times the factors by bias, added to the scores."""
        scores = self.scores.copy()
        of_claims = factors.get("refuse_claim", 0.0)
        of_questions = factors.get("refuse_question", 0.0)
        scores[:, 0] += self.refuse_odds * np.where(self.is_claim, of_claims, of_questions)
        scores[:, 2] += self.refuted_odds * factors.get("refuted", 0.0)
        return self._replace(scores=scores)


def table_of(samples: list[Decided]) -> Table:
    scores = np.full((len(samples), len(BRANCHES)), -np.inf)
    terms = np.zeros((len(samples), len(BRANCHES), len(samples[0].branches[0].terms)))
    for i, sample in enumerate(samples):
        for k, branch in enumerate(sample.branches):
            # Logits in bfloat16 are often equal, and then generation takes the token of the lowest id. What
            # is subtracted is far below any other difference.
            scores[i, k] = branch.logp - 1e-10 * branch.token
            terms[i, k] = list(branch.terms.values())
    names = list(samples[0].branches[0].terms)
    is_exact = terms[..., names.index("em_answerable")]
    return Table(
        scores=scores,
        terms=terms,
        is_claim=np.array([sample.is_claim for sample in samples]),
        answerable=terms[:, 0, names.index("answerable")] > 0,
        is_refuted=is_exact[:, 2] > is_exact[:, 1],
        refuse_odds=np.array([sample.refuse_odds for sample in samples]),
        refuted_odds=np.array([sample.refuted_odds for sample in samples]),
    )


def choose(scores: np.ndarray, refuse: np.ndarray, refuted: np.ndarray) -> np.ndarray:
    """The decision of each sample under biases that broadcast with it: indices 0 to 2.

    `scores` (..., n, 3); biases (..., n) or less. Returns (..., n).
    """
    biased = np.broadcast_arrays(scores[..., 0] + refuse, scores[..., 1], scores[..., 2] + refuted)
    return np.stack(biased, axis=-1).argmax(-1)


def decide_table(table: Table, decisions: Decisions) -> np.ndarray:
    """The decision (n,) of each sample under biases, without their gates."""
    refuse = np.where(table.is_claim, decisions.refuse_claim, decisions.refuse_question)
    return choose(table.scores, refuse, np.where(table.is_claim, decisions.refuted, 0.0))


def decide(samples: list[Decided], decisions: Decisions, factors: Mapping[str, float]) -> list[int]:
    """What is decided about each sample, indices into its branches, with the factors of its gates."""
    return decide_table(table_of(samples).with_gates(factors), decisions).tolist()


# --- the objective


def sums_of(terms: np.ndarray, choices: np.ndarray) -> np.ndarray:
    """Terms (n, 3, n_terms) summed over the samples as decided: choices (..., n) -> (..., n_terms)."""
    sums = np.zeros((*choices.shape[:-1], terms.shape[-1]))
    for branch in range(terms.shape[1]):
        sums += (choices == branch).astype(float) @ terms[:, branch]
    return sums


def rates_of(sums: np.ndarray, names: list[str]) -> dict[str, np.ndarray]:
    return rates_from_sums({name: sums[..., i] for i, name in enumerate(names)})


def objective(rates: dict[str, np.ndarray]) -> np.ndarray:
    """Sum of the rates to maximize; one that the samples do not define counts as 0."""
    return np.sum([np.nan_to_num(rates[name]) for name in OBJECTIVE], axis=0)
