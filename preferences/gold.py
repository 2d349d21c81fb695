"""Pairs with the gold completion: behind the candidates of a sample, and over the one that is nearest to it.

Gold and completions are compared by the verifier. This module knows nothing about other judges.
"""

from collections import Counter
from collections.abc import Iterator

from preferences.cache import Job
from preferences.rows import JudgedSample
from preferences.verifier import verify
from utils.completions import gold_completion

# Equal scores make no pair, whatever --min-margin is.
_LEAST_MARGIN = 1e-9


def shows_support(sample: dict, shown: list[int]) -> bool:
    """Whether the prompt shows a whole support set, or the sample has none."""
    return not sample["answerable"] or any(set(one) <= set(shown) for one in sample["support_sets"])


def with_gold(sample: dict, candidates: list[dict]) -> tuple[list[dict], int]:
    """The candidates and the gold completion behind them, and the place of the one that made pairs choose.

    Chosen is a candidate of the models that no outcome is better than, else the gold completion.
    """
    shown = candidates[0]["shown"]
    gold = {"completion": gold_completion(sample, shown), "shown": shown, "model": "gold"}
    everyone = [*candidates, gold]
    top = 1.0 if sample["answerable"] else 0.75
    return everyone, next(i for i, one in enumerate(everyone) if verify(one, sample)[1] >= top)


def gold_pairs(jobs: list[Job], min_margin: float, drops: Counter) -> Iterator[tuple[JudgedSample, int, int]]:
    """(judged sample, place of gold, rejected): the likeliest candidate that gold beats by `min_margin`.

    It is the mistake that the model is nearest to making. Counts the samples without one.
    """
    for sample, candidates in jobs:
        if not shows_support(sample, candidates[0]["shown"]):
            drops["support cut to fit"] += 1
            continue
        everyone, _ = with_gold(sample, candidates)
        checks, scores = zip(*(verify(candidate, sample) for candidate in everyone))
        worse = [i for i, score in enumerate(scores) if scores[-1] - score >= max(min_margin, _LEAST_MARGIN)]
        if not worse:
            drops["no candidate is worse than gold"] += 1
            continue
        likeliest = max(worse, key=lambda i: (candidates[i]["logp"], -i))
        judgement = {"checks": list(checks), "llm": None}
        judged = JudgedSample(sample, everyone, judgement, list(scores), "gold")
        yield judged, len(candidates), likeliest
