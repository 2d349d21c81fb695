"""Rules without training that answer from titles and word overlap. They see question and chunks, no gold.

If the query names a chunk's title, `overlap_rule` cites the chunk with the largest word overlap. A claim or a
yes/no question is refuted when a name, a number or a negation of it is not in that chunk, else supported.
Any other question gets the best span of that chunk. `title_overlap` looks at chunks of a named title alone.
"""

from collections.abc import Callable

from evaluation.spans import best_span
from evaluation.thresholds import REFUSED, Answer
from evidence.queries import claim_of
from evidence.surface import (
    Surface,
    asks_verdict,
    nearest_chunk,
    nearest_named_chunk,
    says_everything,
    surface_of,
)
from utils.completions import MAX_ANSWER_CHARS


def verdict_answer(sample: dict, says_all: bool) -> str:
    """The verdict in the words of the sample's question: of a claim, or yes and no."""
    if claim_of(sample):
        return "supported" if says_all else "refuted"
    return "yes" if says_all else "no"


def answer_from(sample: dict, i: int) -> str:
    """The best span of chunk `i`."""
    return best_span(sample["evidence_chunks"][i]["text"], sample["question"])[:MAX_ANSWER_CHARS]


def _answer(sample: dict, pick: Callable[[Surface], int]) -> Answer:
    """(answer, citations, confidence): the confidence is the share of the query that the cited chunk says.

    A refusal where the query names no title of a chunk.
    """
    surface = surface_of(sample)
    if not any(chunk.is_named for chunk in surface.chunks):
        return REFUSED
    i = pick(surface)
    chunk = surface.chunks[i]
    if asks_verdict(sample):
        answer = verdict_answer(sample, says_everything(chunk))
    else:
        answer = answer_from(sample, i)
    return answer, [i], round(chunk.share, 2)


def overlap_rule(sample: dict) -> Answer:
    return _answer(sample, nearest_chunk)


def title_overlap(sample: dict) -> Answer:
    return _answer(sample, nearest_named_chunk)
