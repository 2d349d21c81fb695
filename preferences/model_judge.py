"""A language model as judge: its preference between two candidates, from the probabilities of two labels.

The order of the answers matters to a model, so every two candidates are compared in both orders and the two
probabilities are averaged. Reading a label's probability is cheaper than generating a verdict with reasons,
and small judges are right more often that way. The prompt builder is handed in. This module knows nothing
about gold answers or pairs.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from preferences.cache import Job
from preferences.label_share import MIN_LABEL_SHARE
from utils.completions import parse_completion
from utils.errors import StageError
from utils.text import REFUSAL
from utils.tokens import encode_plain


@dataclass(frozen=True)
class JudgeModel:
    """A loaded judge. `build(chunks, question, answer_a, answer_b)` makes the token ids of one comparison."""

    model: Any
    tokenizer: Any
    build: Callable[[list[dict], str, str, str], list[int]]
    batch_size: int
    # The least mean probability of the two labels with which the judgements count.
    min_label_share: float = MIN_LABEL_SHARE
    # Called with the number of comparisons of each batch.
    on_compared: Callable[[int], object] = lambda n: None

    @property
    def name(self) -> str:
        return getattr(self.tokenizer, "name_or_path", "") or "the judge"


@dataclass
class Comparisons:
    """One sample's comparisons: `p_wins[i, j]`, i < j, is the probability that candidate i is better than j.

    `n_agree` counts the comparisons with the same winner in both orders; `label_shares` has the probability
    of the two labels in each of the two orders of each comparison.
    """

    p_wins: dict[tuple[int, int], float] = field(default_factory=dict)
    n_agree: int = 0
    # (i, j, probability that i is better where it is answer A, that j is where it is answer A).
    in_both_orders: list[tuple[int, int, float, float]] = field(default_factory=list)
    label_shares: list[float] = field(default_factory=list)


def label_token_ids(tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the first tokens of "A" and of "B", alone and after a space. StageError when they are equal."""
    ids = []
    for label in "AB":
        ids.append(sorted({encode_plain(tokenizer, form)[0] for form in (label, f" {label}")}))
    # " A" and " B" may start with the same lone space token; only the other tokens tell the labels apart.
    shared = set(ids[0]) & set(ids[1])
    a_ids = [i for i in ids[0] if i not in shared]
    b_ids = [i for i in ids[1] if i not in shared]
    if not a_ids or not b_ids:
        raise StageError(
            "the judge's tokenizer starts the labels A and B with the same token; choose another judge model"
        )
    return a_ids, b_ids


def preference_probabilities(
    model, tokenizer, prompts: list[list[int]], batch_size: int, groups: list | None = None
) -> Iterator[list[tuple[int, float, float]]]:
    """Batches of (index of the prompt, probability that answer A is better, probability of both labels).

    The first is normalized over the two labels. The beginning that prompts of one group share is read
    once.
    """
    # Not at the top: the flags of make_prefs.py name the judges, before torch is imported.
    from generation.likelihood import next_token_logps

    a_ids, b_ids = label_token_ids(tokenizer)
    for batch in next_token_logps(model, prompts, tokenizer.pad_token_id, batch_size, groups):
        rows = []
        for i, logps in batch:
            a = logps[a_ids].logsumexp(0).item()
            b = logps[b_ids].logsumexp(0).item()
            # exp overflows above 709; at 700 the probability is 0 to every digit.
            rows.append((i, 1 / (1 + math.exp(min(b - a, 700))), math.exp(a) + math.exp(b)))
        yield rows


def order_averaged(p_first_as_a: float, p_second_as_a: float) -> float:
    """Probability that the first candidate wins: the mean of its probability as answer A and as answer B."""
    return (p_first_as_a + 1 - p_second_as_a) / 2


def orders_agree(p_first_as_a: float, p_second_as_a: float) -> bool:
    """True when the same candidate wins in both orders."""
    return (p_first_as_a > 0.5) == (p_second_as_a < 0.5)


def win_scores(n_candidates: int, p_wins: dict[tuple[int, int], float]) -> list[float]:
    """Score of each candidate, 0..1: the mean over its opponents of the probability that it wins.

    `p_wins[i, j]`, i < j, is the order-averaged probability that candidate i beats j.
    """
    scores = []
    for i in range(n_candidates):
        wins = [p_wins[i, j] if i < j else 1 - p_wins[j, i] for j in range(n_candidates) if j != i]
        scores.append(sum(wins) / len(wins))
    return scores


def shown_to_judge(candidate: dict, chunks: list[dict]) -> str:
    """A candidate as the judge sees it: its answer and the passages that it cites, no JSON, no confidence.

    So all candidates look alike, whoever wrote them. One that cannot be parsed is shown as it is.
    """
    parsed = parse_completion(candidate["completion"], len(chunks))
    if parsed.answer is None:
        return candidate["completion"]
    if parsed.is_refusal:
        return REFUSAL
    passages = []
    for number in parsed.citations:
        if 0 <= number < len(chunks):
            passages.append(f"[{number}] {chunks[number]['title']}: {chunks[number]['text']}")
        else:
            passages.append(f"[{number}], which is not there")
    return f"{parsed.answer}\nIt cites {' '.join(passages) or 'nothing'}"


def compare_candidates(judge: JudgeModel, jobs: list[Job]) -> list[Comparisons]:
    """The comparisons of each (sample, candidates): every two candidates, in both orders."""
    prompts = []
    # Prompts 2k and 2k + 1 compare the two candidates of places[k] = (number of the job, i, j).
    places = []
    # All comparisons of a sample share instructions, evidence and question, so they form a group.
    groups = []
    for number, (sample, candidates) in enumerate(jobs):
        # The judge sees the evidence that the candidates saw. They share one prompt, so any one tells.
        chunks = [sample["evidence_chunks"][i] for i in candidates[0]["shown"]]
        texts = [shown_to_judge(candidate, chunks) for candidate in candidates]
        for i, j in itertools.combinations(range(len(texts)), 2):
            prompts.append(judge.build(chunks, sample["question"], texts[i], texts[j]))
            prompts.append(judge.build(chunks, sample["question"], texts[j], texts[i]))
            places.append((number, i, j))
            groups += [number, number]
    p_a = [0.0] * len(prompts)
    on_labels = [0.0] * len(prompts)
    batches = preference_probabilities(judge.model, judge.tokenizer, prompts, judge.batch_size, groups)
    for batch in batches:
        for i, probability, share in batch:
            p_a[i] = probability
            on_labels[i] = share
        judge.on_compared(len(batch))
    found = [Comparisons() for _ in jobs]
    for k, (number, i, j) in enumerate(places):
        as_a = p_a[2 * k]
        other_as_a = p_a[2 * k + 1]
        found[number].label_shares += on_labels[2 * k : 2 * k + 2]
        found[number].p_wins[i, j] = order_averaged(as_a, other_as_a)
        found[number].in_both_orders.append((i, j, as_a, other_as_a))
        found[number].n_agree += orders_agree(as_a, other_as_a)
    return found
