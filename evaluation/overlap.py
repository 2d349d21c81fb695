"""The strongest rule without training that we know: it answers from titles and word overlap alone.

If the query names a chunk's title, it cites the chunk with the largest word overlap. A claim, or a yes/no
question, is refuted when a name, a number or a negation of it is not in that chunk, else supported. Any other
question gets the best span of that chunk. It sees the question and the chunks, no gold.
"""

from evaluation.spans import best_span
from evaluation.thresholds import REFUSED, Answer
from evidence.surface import Surface, asks_verdict, nearest_chunk, says_everything, surface_of
from utils.completions import MAX_ANSWER_CHARS


def verdict_answer(sample: dict, says_all: bool) -> str:
    """The verdict in the words of the sample's question: of a claim, or yes and no."""
    if sample["metadata"].get("claim"):
        return "supported" if says_all else "refuted"
    return "yes" if says_all else "no"


def answer_from(sample: dict, i: int) -> str:
    """The best span of chunk `i`."""
    return best_span(sample["evidence_chunks"][i]["text"], sample["question"])[:MAX_ANSWER_CHARS]


def overlap_rule(sample: dict, surface: Surface | None = None) -> Answer:
    """(answer, citations, confidence): the confidence is the share of the query that the cited chunk says.

    It refuses where the query names no title of a chunk. `surface`: the sample's, if it is known already.
    """
    found = surface or surface_of(sample)
    if not any(chunk.is_named for chunk in found.chunks):
        return REFUSED
    i = nearest_chunk(found)
    chunk = found.chunks[i]
    if asks_verdict(sample):
        answer = verdict_answer(sample, says_everything(chunk))
    else:
        answer = answer_from(sample, i)
    return answer, [i], round(chunk.share, 2)
