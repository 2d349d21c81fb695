"""One question behind its chunks in several orders, and the completion that these agree on.

Where a chunk stands decides part of what a small model makes of it. Over several orders that cancels out
(permutation self-consistency; Tang et al., 2024). This module runs no model.
"""

from utils.completions import map_citations, parse_completion
from utils.text import normalize_answer


def chunk_orders(n_chunks: int, n_orders: int) -> list[list[int]]:
    """Chunk ids in their own order, and in others that begin later, at even distances: `n_orders` in all."""
    starts = [number * n_chunks // n_orders for number in range(n_orders)]
    return [[*range(start, n_chunks), *range(start)] for start in starts]


def _heaviest(weights: dict) -> object:
    """The key with the largest weight, of equals the first."""
    return max(weights, key=lambda key: weights[key])


def agreed(rows: list[dict]) -> dict:
    """The prediction row of one sample that its rows of several orders agree on.

    Each answer weighs the sum of its probabilities, of which the heaviest wins; so do, among its rows, their
    citations. The likeliest row that has both is returned, with the mean over all orders as the probability
    of its answer, where an order that answers otherwise counts as 0: never more than their mixture gives it.
    """
    answers: list[str | None] = []
    citations = []
    for row in rows:
        parsed = map_citations(parse_completion(row["completion"], len(row["shown"])), row["shown"])
        answers.append(None if parsed.answer is None else normalize_answer(parsed.answer))
        citations.append(tuple(sorted(parsed.citations)))
    weights: dict = {}
    for row, answer in zip(rows, answers):
        # What cannot be parsed wins against nothing.
        weights[answer] = weights.get(answer, 0.0) + (row["probability"] if answer is not None else -1.0)
    winner = _heaviest(weights)
    places = [i for i, answer in enumerate(answers) if answer == winner]
    of_citations: dict = {}
    for i in places:
        of_citations[citations[i]] = of_citations.get(citations[i], 0.0) + rows[i]["probability"]
    cited = _heaviest(of_citations)
    chosen = max((rows[i] for i in places if citations[i] == cited), key=lambda row: row["probability"])
    probability = sum(rows[i]["probability"] for i in places) / len(rows)
    return {**chosen, "probability": probability}
