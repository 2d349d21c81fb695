"""One question behind its chunks in several orders, and the completion that these agree on.

Where a chunk stands decides part of what a small model makes of it. Over several orders that cancels out
(permutation self-consistency; Tang et al., 2024). This module runs no model.
"""

import dataclasses
from collections.abc import Hashable

from utils.answer_forms import answer_form
from utils.completions import Parsed, map_citations, parse_completion
from utils.text import verdict_of


def chunk_orders(n_chunks: int, n_orders: int) -> list[list[int]]:
    """Chunk ids in their own order, and in others that begin later, at even distances.

    `n_orders` in all, or as many as there are chunks: no order comes twice.
    """
    starts = {number * n_chunks // n_orders for number in range(n_orders)}
    return [[*range(start, n_chunks), *range(start)] for start in sorted(starts)]


def show_only(sample: dict, ids: list[int]) -> dict:
    """The sample with these chunks alone, in this order. Its gold fields still use the ids of all chunks."""
    return {**sample, "evidence_chunks": [sample["evidence_chunks"][i] for i in ids]}


def build_showing(builder, sample: dict, ids: list[int]):
    """The prompt that shows these chunks, in this order; its `shown` has the sample's own ids."""
    prompt = builder.build(show_only(sample, ids))
    return dataclasses.replace(prompt, shown=[ids[i] for i in prompt.shown])


def vote_of(parsed: Parsed) -> Hashable | None:
    """What a completion votes for as an answer; None for one that cannot be parsed.

    Two verdicts of one class are one vote, and so are two spellings of one answer (`utils/answer_forms.py`).
    """
    if parsed.answer is None:
        return None
    if verdict := verdict_of(parsed.answer):
        return verdict
    form = answer_form(parsed.answer)
    # Signs alone have no normal form.
    return (form.key or parsed.answer, form.numbers, form.months, form.bounds, form.denials)


def _citations_of(parsed: Parsed) -> tuple[int, ...] | None:
    """The cited chunks; None where a number was not shown, which is -1 here."""
    return None if -1 in parsed.citations else tuple(sorted(set(parsed.citations)))


def _elected(votes: list, rows: list[dict]) -> object:
    """What most rows vote for; of equals what has more probability, then the first. None wins last."""
    weights: dict = {}
    for vote, row in zip(votes, rows):
        n, probability = weights.get(vote, (0, 0.0))
        weights[vote] = (n + (vote is not None), probability + row["probability"])
    return max(weights, key=lambda vote: weights[vote])


def agreed(rows: list[dict]) -> dict:
    """The prediction row of one sample that its rows of several orders agree on.

    Each row has one vote for its answer, however sure it is: fitted decisions change what a model answers,
    and not the probability that it reports. Among the rows of the answer that wins, the citations are voted
    on in the same way. The likeliest row that has both is returned, with "n_agree", the number of rows with
    the answer. Its probability is the mean over all rows, where another answer counts as 0.
    """
    parsed = []
    for row in rows:
        completion = parse_completion(row["completion"], len(row["shown"]))
        parsed.append(map_citations(completion, row["shown"]))
    answers = [vote_of(one) for one in parsed]
    answer = _elected(answers, rows)
    places = [i for i in range(len(rows)) if answers[i] == answer]
    citations = [_citations_of(parsed[i]) for i in places]
    cited = _elected(citations, [rows[i] for i in places])
    with_both = [rows[i] for i, found in zip(places, citations) if found == cited]
    chosen = max(with_both, key=lambda row: row["probability"])
    probability = sum(rows[i]["probability"] for i in places) / len(rows)
    return {**chosen, "probability": probability, "n_agree": len(places)}
