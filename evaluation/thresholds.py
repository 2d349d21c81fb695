"""When a rule should refuse: the score below which refusing has the better net score on tuning samples.

The tuning samples' gold is read here, to choose a number. A rule itself sees no gold.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from evaluation.results import score_rows
from evidence.surface import asks_verdict
from utils.completions import render_completion
from utils.text import REFUSAL

# (answer, citations, confidence)
Answer = tuple[str, list[int], float]
Rule = Callable[[dict], Answer]

REFUSED: Answer = (REFUSAL, [], 0.0)


class Tried(NamedTuple):
    """A rule on one sample: its score, and the net score of its answer and of a refusal."""

    score: float
    answered: float
    refused: float


def _net_score(sample: dict, answer: Answer) -> float:
    row = {"id": sample["id"], "completion": render_completion(*answer)}
    terms, _ = score_rows([row], [sample])
    return terms[0]["net_score"]


def try_rule(sample: dict, answer: Answer, score: float) -> Tried:
    return Tried(score, _net_score(sample, answer), _net_score(sample, REFUSED))


def best_threshold(tried: list[Tried], is_all_or_none: bool = False) -> float:
    """The score from which answering has the best net score; without samples 0, which never refuses.

    `is_all_or_none`: choose between always answering and always refusing alone.
    """
    if not tried:
        return 0.0

    def net(threshold: float) -> float:
        return sum(one.refused if one.score < threshold else one.answered for one in tried)

    # Infinity refuses everything, the best choice on real data (docs/log.md). The first of equals wins.
    scores = set() if is_all_or_none else {one.score for one in tried}
    candidates = [0.0, *sorted(scores), np.inf]
    return max(candidates, key=net)


# --- one threshold per source


def _keys(sample: dict) -> tuple[tuple, tuple]:
    """What a sample's threshold is looked up by: its source; for an unknown source, what it asks for."""
    return ("source", sample["source"]), ("asks verdict", asks_verdict(sample))


def tuned_by_source(rule: Rule, samples: list[dict], is_all_or_none: bool = False) -> Rule:
    """The rule that refuses where its confidence is under the best threshold of the sample's source.

    Thresholds are chosen on `samples`; without any the rule never refuses by itself.
    """
    tried: dict[tuple, list[Tried]] = {}
    for sample in samples:
        answer = rule(sample)
        one = try_rule(sample, answer, answer[2])
        for key in _keys(sample):
            tried.setdefault(key, []).append(one)
    thresholds = {key: best_threshold(found, is_all_or_none) for key, found in tried.items()}

    def respond(sample: dict) -> Answer:
        answer = rule(sample)
        known = [thresholds[key] for key in _keys(sample) if key in thresholds]
        return REFUSED if known and answer[2] < known[0] else answer

    return respond
