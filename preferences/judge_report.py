"""How far a judge can be believed: its agreement with the verifier, and what it prefers for form's sake.

It reads judgement rows of a model, and knows nothing about how they were made or about pairs.
"""

from collections import defaultdict
from dataclasses import dataclass

from sklearn.metrics import cohen_kappa_score

from preferences.cache import Job
from preferences.kinds import pair_kind
from preferences.rows import parse_candidate
from utils.intervals import mean_with_interval


@dataclass(frozen=True)
class Compared:
    """One comparison of two candidates, the first of them with the lower number."""

    group: str
    kind: str
    # Probability that the first one is better, averaged over both orders.
    p_first: float
    # Probability of the label A, averaged over both orders: 0.5 without a bias.
    p_a: float
    # Verifier's score of the first minus that of the second, and the same of lengths in characters.
    verified: float
    longer: int

    @property
    def first_wins(self) -> bool:
        return self.p_first > 0.5


def read_comparisons(jobs: list[Job], judgements: dict[str, dict]) -> list[Compared]:
    """All comparisons of a model judge; judgements of the verifier alone and of older versions have none."""
    found = []
    for sample, candidates in jobs:
        judgement = judgements.get(sample["id"], {})
        # Of a question without gold the verifier prefers neither.
        scores = [score or 0.0 for score in judgement.get("verifier", [])]
        for i, j, as_a, other_as_a in judgement.get("comparisons") or []:
            verified = scores[i] - scores[j]
            better, worse = (i, j) if verified >= 0 else (j, i)
            kind = pair_kind(parse_candidate(candidates[better]), parse_candidate(candidates[worse]))
            longer = len(candidates[i]["completion"]) - len(candidates[j]["completion"])
            p_first = (as_a + 1 - other_as_a) / 2
            p_a = (as_a + other_as_a) / 2
            found.append(Compared(sample["group"], kind, p_first, p_a, verified, longer))
    return found


def _share(values: list[bool] | list[float], groups: list[str], seed: int) -> dict:
    mean, ci95 = mean_with_interval([float(value) for value in values], groups, seed)
    return {"n": len(values), "mean": mean, "ci95": ci95}


def _agreement(compared: list[Compared], seed: int) -> dict:
    """Accuracy of the judge where the verifier's scores differ, and Cohen's kappa of the two (Cohen, 1960).

    None for kappa where one of them always names the same candidate.
    """
    judged = [one.first_wins for one in compared]
    right = [one.verified > 0 for one in compared]
    has_both = len(set(judged)) == 2 and len(set(right)) == 2
    accuracy = _share([a == b for a, b in zip(judged, right)], [one.group for one in compared], seed)
    return {**accuracy, "kappa": float(cohen_kappa_score(judged, right)) if has_both else None}


def judge_report(jobs: list[Job], judgements: dict[str, dict], seed: int) -> dict | None:
    """What preference_stats_*.json says of a model judge; None where none judged.

    Intervals are 95%, by group; `verifier_agreement` counts comparisons whose candidates differ for the
    verifier, `longer_wins` those whose candidates differ in length, beside the verifier's on the same.
    """
    compared = read_comparisons(jobs, judgements)
    if not compared:
        return None
    decided = [one for one in compared if one.verified]
    of_kind: dict[str, list[Compared]] = defaultdict(list)
    for one in decided:
        of_kind[one.kind].append(one)
    uneven = [one for one in decided if one.longer]
    groups = [one.group for one in uneven]
    longer_wins = [one.first_wins == (one.longer > 0) for one in uneven]
    longer_is_better = [(one.verified > 0) == (one.longer > 0) for one in uneven]
    return {
        "verifier_agreement": _agreement(decided, seed),
        "by_kind": {kind: _agreement(rows, seed) for kind, rows in sorted(of_kind.items())},
        "p_label_a": _share([one.p_a for one in compared], [one.group for one in compared], seed),
        "longer_wins": _share(longer_wins, groups, seed),
        "longer_wins_verifier": _share(longer_is_better, groups, seed),
    }
