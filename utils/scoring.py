"""How one completion compares with its sample: its answer, the ids of its citations, and the outcome.

A completion is an answer, a refusal or unparsable. Unparsable completions stay in every denominator, and
count as neither of the other two. Each function scores one sample; `utils/metrics.py` turns many of them into
rates.
"""

from collections.abc import Callable

import numpy as np

from utils.correctness import answer_overlap, best_match, is_correct, is_correct_lenient

OUTCOME_OF_ANSWER = {
    None: "right answer",
    "unanswerable": "answered the unanswerable",
    "wrong": "wrong answer",
    "unsupported": "right answer, wrong support",
}


def f1_of(precision, recall):
    """Harmonic mean, 0 when both are 0. Works on numbers and arrays; NaN stays NaN."""
    total = np.asarray(precision + recall, dtype=float)
    # np.divide leaves `out` where the total is 0 or NaN.
    otherwise = np.where(np.isnan(total), np.nan, 0.0)
    return np.divide(2 * np.asarray(precision) * recall, total, out=otherwise, where=total > 0)


def citation_scores(
    citations: list[int], support_sets: list[list[int]], support_spans: list[int]
) -> tuple[float, float, float, float]:
    """(precision, recall, F1, correctness) of the distinct cited ids, each 0-1.

    Recall is that of the best support set, since one whole set is enough (FEVER scorer). An out-of-range id
    counts against precision (ALCE; Gao et al., 2023). Correctness is 1 when a whole set is cited, and only
    support.
    """
    cited = set(citations)
    if not cited:
        return 0.0, 0.0, 0.0, 0.0
    # Support is the union of all sets: citing a second sufficient set is not wrong.
    precision = len(cited & set(support_spans)) / len(citations_with_repeats(citations))
    recall = max(len(cited & set(support_set)) / len(support_set) for support_set in support_sets)
    correct = float(recall == 1.0 and cited <= set(support_spans))
    return precision, recall, float(f1_of(precision, recall)), correct


def citations_with_repeats(citations: list[int]) -> list[int]:
    """Distinct valid ids, but every unusable one (-1): two citations of nothing are two wrong citations."""
    valid = {citation for citation in citations if citation >= 0}
    unusable = [citation for citation in citations if citation < 0]
    return [*valid, *unusable]


def hallucination_kind(parsed, sample: dict, is_right: Callable[..., bool] = is_correct) -> str | None:
    """The first kind that applies to an answer: `unanswerable`, `wrong` or `unsupported`.

    Returns None for a sound answer, for a refusal and for an unparsable completion.
    """
    if not parsed.is_answer:
        return None
    if not sample["answerable"]:
        return "unanswerable"
    if not is_right(parsed.answer, sample["answer_aliases"]):
        return "wrong"
    # One chunk of support is enough here; citation_correctness needs a whole set.
    return None if set(parsed.citations) & set(sample["support_spans"]) else "unsupported"


def is_right_answer(parsed, sample: dict) -> bool:
    """True for an answer without hallucination: the event that stated and calibrated confidence predict."""
    return parsed.is_answer and hallucination_kind(parsed, sample) is None


def outcome(parsed, sample: dict) -> str:
    """The outcome of one sample in words, finer than the three values of `net_score`."""
    # Not a refusal: the model failed to say anything, right or wrong.
    if parsed.answer is None:
        return "unparsable"
    if parsed.is_refusal:
        return "over-refusal" if sample["answerable"] else "right refusal"
    return OUTCOME_OF_ANSWER[hallucination_kind(parsed, sample)]


def _net_score(parsed, kind: str | None, sample: dict) -> int:
    """+1 for a right answer or refusal, 0 for an over-refusal, else -1 (after CRAG; Yang et al., 2024)."""
    if parsed.is_refusal:
        return 0 if sample["answerable"] else 1
    return 1 if parsed.is_answer and kind is None else -1


def _joint_f1(parsed, sample: dict, words: tuple[float, ...], cited: tuple[float, ...]) -> float:
    """F1 of the products of answer and citation precision and recall (HotpotQA; Yang et al., 2018).

    On an unanswerable sample: 1 for a refusal without citations.
    """
    if not sample["answerable"]:
        return float(parsed.is_refusal and not parsed.citations)
    return float(f1_of(words[0] * cited[0], words[1] * cited[1]))


def score_sample(parsed, strict_valid: bool, sample: dict) -> dict[str, float]:
    """The terms of one sample. Every rate is a ratio of sums of these (`utils/metrics.py`, RATES).

    `parsed` needs answer, citations, is_answer and is_refusal. The names come in one order for every sample.
    """
    answerable = sample["answerable"]
    answered = parsed.is_answer
    refused = parsed.is_refusal

    # An answer to an unanswerable sample has no gold words or support, so these terms stay 0.
    em = 0.0
    words = (0.0, 0.0, 0.0)
    cited = (0.0, 0.0, 0.0, 0.0)
    if answered and answerable:
        em = best_match(parsed.answer, sample["answer_aliases"])
        words = answer_overlap(parsed.answer, sample["answer_aliases"])
        cited = citation_scores(parsed.citations, sample["support_sets"], sample["support_spans"])

    # A right refusal is an exact match, as "no answer" is in SQuAD 2.0; it has no words that could overlap.
    right_refusal = refused and not answerable
    f1 = words[2]
    kind = hallucination_kind(parsed, sample)
    lenient = hallucination_kind(parsed, sample, is_correct_lenient)
    terms = {
        "n": 1,
        "answerable": answerable,
        "unanswerable": not answerable,
        "em": 1.0 if right_refusal else em,
        "f1": 1.0 if right_refusal else f1,
        "em_answerable": em,
        "f1_answerable": f1,
        "valid": strict_valid,
        "repaired": parsed.answer is not None and not strict_valid,
        "unparsable": parsed.answer is None,
        "refused": refused,
        "answered": answered,
        "refused_answerable": refused and answerable,
        "refused_unanswerable": right_refusal,
        "answered_answerable": answered and answerable,
        "not_refused_unanswerable": not refused and not answerable,
        "citation_precision": cited[0],
        "citation_recall": cited[1],
        "citation_f1": cited[2],
        "citation_correctness": cited[3],
        "spurious": bool(parsed.citations) and not answerable,
        "joint_f1": _joint_f1(parsed, sample, words, cited),
        "hallucination_unanswerable": kind == "unanswerable",
        "hallucination_wrong": kind == "wrong",
        "hallucination_unsupported": kind == "unsupported",
        "uncited": answered and not parsed.citations,
        "correct": answered and answerable and kind != "wrong",
        "net_score": _net_score(parsed, kind, sample),
        "hallucination_lenient": lenient is not None,
        "correct_lenient": answered and answerable and lenient != "wrong",
        "net_score_lenient": _net_score(parsed, lenient, sample),
    }
    return {name: float(value) for name, value in terms.items()}
