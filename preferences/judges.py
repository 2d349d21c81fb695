"""Judging candidates: named checks against gold, and a model's preference between two rendered texts in both orders."""

import math
from collections.abc import Iterator

from generation.likelihood import next_token_logps
from utils.errors import StageError
from utils.scoring import CORRECT_F1, answer_overlap
from utils.tokens import encode_plain


def verifier_checks(parsed, is_valid: bool, sample: dict) -> dict[str, int]:
    """Named 0/1 checks of one candidate against the sample's gold; an unparsable candidate fails all of them."""
    if parsed.answer is None:
        return dict.fromkeys(("format", "refusal", "answer", "support", "precision"), 0)
    answerable = sample["answerable"]
    cited = set(parsed.citations)
    if parsed.is_refusal:
        right = not answerable
        supported = not answerable
        precise = not cited
    else:
        right = answerable and answer_overlap(parsed.answer, sample["answer_aliases"])[2] >= CORRECT_F1
        supported = any(set(support_set) <= cited for support_set in sample["support_sets"])
        precise = bool(cited) and cited <= set(sample["support_spans"])
    checks = {
        "format": is_valid,
        "refusal": parsed.is_refusal == (not answerable),
        "answer": right,
        "support": supported,
        "precision": precise,
    }
    return {name: int(passed) for name, passed in checks.items()}


def verifier_score(checks: dict[str, int]) -> float:
    """Mean of the checks, 0..1."""
    return sum(checks.values()) / len(checks)


def label_token_ids(tokenizer) -> tuple[list[int], list[int]]:
    """Ids of the first token of "A" and "B", bare and after a space. StageError when the two labels share one."""
    ids = [sorted({encode_plain(tokenizer, form)[0] for form in (label, f" {label}")}) for label in "AB"]
    shared = set(ids[0]) & set(ids[1])
    # " A" and " B" may share a lone space token; the letters alone must differ.
    ids = [[i for i in label_ids if i not in shared] for label_ids in ids]
    if not ids[0] or not ids[1]:
        raise StageError(
            "the judge's tokenizer starts labels A and B with the same token; take another judge model"
        )
    return ids[0], ids[1]


def preference_probabilities(
    model, tokenizer, prompts: list[list[int]], batch_size: int, groups: list | None = None
) -> Iterator[list[tuple[int, float]]]:
    """Batches of (index, probability that answer A is better, renormalised over the two labels). Prompts of a group share their beginning."""
    a_ids, b_ids = label_token_ids(tokenizer)
    for batch in next_token_logps(model, prompts, tokenizer.pad_token_id, batch_size, groups):
        rows = []
        for i, logps in batch:
            a = logps[a_ids].logsumexp(0).item()
            b = logps[b_ids].logsumexp(0).item()
            rows.append((i, 1 / (1 + math.exp(min(b - a, 700)))))
        yield rows


def order_averaged(p_first_as_a: float, p_second_as_a: float) -> float:
    """Probability that the first wins, averaged over both orders: it stands as A once and as B once."""
    return (p_first_as_a + 1 - p_second_as_a) / 2


def orders_agree(p_first_as_a: float, p_second_as_a: float) -> bool:
    return (p_first_as_a > 0.5) == (p_second_as_a < 0.5)


def win_scores(n_candidates: int, p_wins: dict[tuple[int, int], float]) -> list[float]:
    """Score of each candidate: mean over its opponents of the order-averaged probability that it wins. `p_wins[i, j]`, i < j."""
    scores = []
    for i in range(n_candidates):
        wins = [p_wins[i, j] if i < j else 1 - p_wins[j, i] for j in range(n_candidates) if j != i]
        scores.append(sum(wins) / len(wins))
    return scores
