"""How far one completion agrees with the gold: words of the answer, ids of the citations.

Each function scores one sample; rates over many samples are in `utils/metrics.py`.
"""

from collections import Counter

import numpy as np

from utils.schema import is_label_answer
from utils.text import normalize_answer


def token_overlap(answer: str, alias: str) -> tuple[float, float, float]:
    """(precision, recall, F1) of normalised answer tokens against one alias (SQuAD)."""
    found = normalize_answer(answer).split()
    wanted = normalize_answer(alias).split()
    n_shared = sum((Counter(found) & Counter(wanted)).values())
    if not found or not wanted:
        same = float(found == wanted)
        return same, same, same
    if n_shared == 0:
        return 0.0, 0.0, 0.0
    precision = n_shared / len(found)
    recall = n_shared / len(wanted)
    return precision, recall, 2 * precision * recall / (precision + recall)


def exact_match(answer: str, aliases: list[str]) -> float:
    return float(any(normalize_answer(answer) == normalize_answer(alias) for alias in aliases))


def answer_overlap(answer: str, aliases: list[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) against the alias with the best F1; yes/no and label answers: exact match three times (HotpotQA)."""
    if is_label_answer(aliases[0]):
        return (exact_match(answer, aliases),) * 3
    return max((token_overlap(answer, alias) for alias in aliases), key=lambda overlap: overlap[2])


def f1_of(precision, recall):
    """Harmonic mean, 0 when both are 0. Works on numbers and arrays; NaN stays NaN."""
    total = np.asarray(precision + recall, dtype=float)
    return np.divide(
        2 * np.asarray(precision) * recall, total, out=np.where(np.isnan(total), np.nan, 0.0), where=total > 0
    )


def citation_scores(
    citations: list[int], support_sets: list[list[int]], support_spans: list[int]
) -> tuple[float, float, float, float]:
    """(precision, recall, F1, correctness) of the distinct cited ids; out-of-range ids count against precision (ALCE, FEVER scorer)."""
    cited = set(citations)
    if not cited:
        return 0.0, 0.0, 0.0, 0.0
    precision = len(cited & set(support_spans)) / len(citations_with_repeats(citations))
    recall = max(len(cited & set(support_set)) / len(support_set) for support_set in support_sets)
    correct = float(recall == 1.0 and cited <= set(support_spans))
    return precision, recall, float(f1_of(precision, recall)), correct


def citations_with_repeats(citations: list[int]) -> list[int]:
    """Distinct valid ids, but every unusable one (-1): two citations of nothing are two wrong citations."""
    return [*{c for c in citations if c >= 0}, *(c for c in citations if c < 0)]
