"""Models that score each candidate alone: a reward model, or likelihoods that show what citations are worth.

Neither needs gold. Scores are in 0..1, so that their differences are margins. This module knows nothing about
pairs, and how a model is opened is in preferences/score_models.py.
"""

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

from preferences.cache import Job
from utils.batched import batched
from utils.completions import parse_completion
from utils.config import input_path
from utils.jsonl import sha256_file, sha256_value

# Between an answer that its citations make likelier and one that they do not.
_REFUSAL_SCORE = 0.5
# Samples whose candidates are read between two lines of progress.
_JOBS_PER_READ = 8


@dataclass(frozen=True)
class ScoreModel:
    """`score(rows)` gives the scores of completion rows {id, question, evidence_chunks, completion}."""

    score: Callable[[list[dict]], list[float]]
    # Called with the number of candidates of each portion.
    on_compared: Callable[[int], object] = lambda n: None


def head_key(folder: str) -> str:
    """What stands for a reward model in the key of a cache: a hash of its files."""
    files = [input_path(folder) / name for name in ("config.json", "reward_head.safetensors")]
    return sha256_value([sha256_file(path) for path in files])[:16]


def score_candidates(model: ScoreModel, jobs: list[Job]) -> list[list[float]]:
    """The scores of the candidates of each (sample, candidates)."""
    found = []
    for portion in batched(jobs, _JOBS_PER_READ):
        found += _score_portion(model, portion)
    return found


def _score_portion(model: ScoreModel, jobs: list[Job]) -> list[list[float]]:
    rows = []
    for sample, candidates in jobs:
        for candidate in candidates:
            # As shown, so that citations are numbers in this list.
            chunks = [sample["evidence_chunks"][i] for i in candidate["shown"]]
            facts = {"id": sample["id"], "question": sample["question"], "evidence_chunks": chunks}
            rows.append({**facts, "completion": candidate["completion"]})
    scores = iter(model.score(rows))
    model.on_compared(len(rows))
    return [list(itertools.islice(scores, len(candidates))) for _, candidates in jobs]


def squashed(value: float) -> float:
    """1 / (1 + exp(-value)): any number as one in 0..1."""
    # exp overflows above 709; at 700 the result is 0 to every digit.
    return 1 / (1 + math.exp(-max(-700.0, value)))


def citation_scores(rows: list[dict], effects: list[float | None]) -> list[float]:
    """Scores of completion rows from `CompletionReader.citation_effects`.

    A refusal has no citations to measure, and stands where citations change nothing; what cannot be parsed
    has 0.
    """
    scores = []
    for row, effect in zip(rows, effects):
        parsed = parse_completion(row["completion"], len(row["evidence_chunks"]))
        if parsed.answer is None:
            scores.append(0.0)
        elif parsed.is_refusal or effect is None:
            scores.append(_REFUSAL_SCORE)
        else:
            scores.append(squashed(effect))
    return scores
