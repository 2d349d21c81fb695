"""Every number we report about answers, each defined once. Samples are scored one by one, rates come from sums.

A completion is an answer, a refusal or unparsable; unparsable stays in every denominator and is neither of the others.
"""

from collections import Counter

import numpy as np

from utils.calibration import apply_isotonic, aurc, brier, expected_calibration_error
from utils.schema import is_label_answer
from utils.text import normalize_answer

CORRECT_F1 = 0.5


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


def hallucination_kind(parsed, sample: dict) -> str | None:
    """`unanswerable`, `wrong` or `unsupported`, the first that applies to an answer; None for a sound answer and for no answer."""
    if not parsed.is_answer:
        return None
    if not sample["answerable"]:
        return "unanswerable"
    if answer_overlap(parsed.answer, sample["answer_aliases"])[2] < CORRECT_F1:
        return "wrong"
    return None if set(parsed.citations) & set(sample["support_spans"]) else "unsupported"


def is_right_answer(parsed, sample: dict) -> bool:
    """Answered without hallucination: what stated confidence and calibration are held against."""
    return parsed.is_answer and hallucination_kind(parsed, sample) is None


def outcome(parsed, sample: dict) -> str:
    """What became of one sample, in words: the six ways that `net_score` counts apart."""
    if parsed.answer is None:
        return "unparsable"
    if parsed.is_refusal:
        return "over-refusal" if sample["answerable"] else "right refusal"
    return {
        None: "right answer",
        "unanswerable": "answered the unanswerable",
        "wrong": "wrong answer",
        "unsupported": "right answer, wrong support",
    }[hallucination_kind(parsed, sample)]


def score_sample(parsed, strict_valid: bool, sample: dict) -> dict[str, float]:
    """The terms of one sample that every rate is a ratio of sums of. `parsed` needs answer, citations, is_answer, is_refusal, repaired."""
    answerable = sample["answerable"]
    answered = parsed.is_answer
    refused = parsed.is_refusal
    precision = recall = f1 = em = 0.0
    if answered and answerable:
        em = exact_match(parsed.answer, sample["answer_aliases"])
        precision, recall, f1 = answer_overlap(parsed.answer, sample["answer_aliases"])
    elif refused and not answerable:
        em = f1 = 1.0
    cited = (
        citation_scores(parsed.citations, sample["support_sets"], sample["support_spans"])
        if answered and answerable
        else (0.0,) * 4
    )
    joint = (
        float(f1_of(precision * cited[0], recall * cited[1]))
        if answerable
        else float(refused and not parsed.citations)
    )
    kind = hallucination_kind(parsed, sample)
    right = (answered and kind is None) or (refused and not answerable)
    terms = {
        "n": 1,
        "answerable": answerable,
        "unanswerable": not answerable,
        "em": em,
        "f1": f1,
        "em_answerable": em * answerable,
        "f1_answerable": f1 * answerable,
        "valid": strict_valid,
        "repaired": parsed.answer is not None and not strict_valid,
        "unparsable": parsed.answer is None,
        "refused": refused,
        "answered": answered,
        "refused_answerable": refused and answerable,
        "refused_unanswerable": refused and not answerable,
        "answered_answerable": answered and answerable,
        "not_refused_unanswerable": not refused and not answerable,
        "citation_precision": cited[0],
        "citation_recall": cited[1],
        "citation_f1": cited[2],
        "citation_correctness": cited[3],
        "spurious": bool(parsed.citations) and not answerable,
        "joint_f1": joint,
        "hallucination_unanswerable": kind == "unanswerable",
        "hallucination_wrong": kind == "wrong",
        "hallucination_unsupported": kind == "unsupported",
        "uncited": answered and not parsed.citations,
        "correct": answered and answerable and f1 >= CORRECT_F1,
        "net_score": 1 if right else 0 if refused else -1,
    }
    return {name: float(value) for name, value in terms.items()}


# name -> (numerator terms, denominator term) of every plain rate
RATES = {
    "em": ("em", "n"),
    "f1": ("f1", "n"),
    "em_answerable": ("em_answerable", "answerable"),
    "f1_answerable": ("f1_answerable", "answerable"),
    "schema_valid_rate": ("valid", "n"),
    "repaired_rate": ("repaired", "n"),
    "unparsable_rate": ("unparsable", "n"),
    "refusal_rate": ("refused", "n"),
    "answered_rate": ("answered", "n"),
    "over_refusal_rate": ("refused_answerable", "answerable"),
    "under_refusal_rate": ("not_refused_unanswerable", "unanswerable"),
    "citation_precision": ("citation_precision", "answerable"),
    "citation_recall": ("citation_recall", "answerable"),
    "citation_f1": ("citation_f1", "answerable"),
    "citation_correctness": ("citation_correctness", "answerable"),
    "spurious_citation_rate": ("spurious", "unanswerable"),
    "joint_f1": ("joint_f1", "n"),
    "hallucination_unanswerable": ("hallucination_unanswerable", "n"),
    "hallucination_wrong": ("hallucination_wrong", "n"),
    "hallucination_unsupported": ("hallucination_unsupported", "n"),
    "legacy_uncited_rate": ("uncited", "n"),
    "net_score": ("net_score", "n"),
}
# Lower is better; deltas turn these round.
LOWER_IS_BETTER = {
    "unparsable_rate",
    "repaired_rate",
    "over_refusal_rate",
    "under_refusal_rate",
    "spurious_citation_rate",
    "hallucination_rate",
    "hallucination_unanswerable",
    "hallucination_wrong",
    "hallucination_unsupported",
    "legacy_uncited_rate",
}
# Metrics over all, or over all answerable, samples: only these have paired differences.
PAIRED = [
    *(name for name, (_, denominator) in RATES.items() if denominator != "unanswerable"),
    "hallucination_rate",
    "refusal_f1",
]


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where the denominator is empty."""
    top = np.asarray(top, dtype=float)
    bottom = np.asarray(bottom, dtype=float)
    return np.divide(top, bottom, out=np.full(np.broadcast(top, bottom).shape, np.nan), where=bottom > 0)


def rates_from_sums(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All metrics that are functions of summed terms; works on scalars and on arrays of resamples. NaN = empty denominator."""
    rates = {name: _ratio(sums[top], sums[bottom]) for name, (top, bottom) in RATES.items()}
    hallucinated = (
        sums["hallucination_unanswerable"] + sums["hallucination_wrong"] + sums["hallucination_unsupported"]
    )
    rates["hallucination_rate"] = _ratio(hallucinated, sums["n"])
    rates["hallucination_given_answered"] = _ratio(hallucinated, sums["answered"])
    # F1 = 2 true positives / (predicted + actual), for refusing on unanswerable and for answering on answerable samples.
    refuse_f1 = _ratio(2 * sums["refused_unanswerable"], sums["refused"] + sums["unanswerable"])
    answer_f1 = _ratio(2 * sums["answered_answerable"], sums["answered"] + sums["answerable"])
    one_class = (np.asarray(sums["answerable"]) == 0) | (np.asarray(sums["unanswerable"]) == 0)
    rates["refusal_f1"] = np.where(one_class, np.nan, (refuse_f1 + answer_f1) / 2)
    correct_f1 = _ratio(2 * sums["correct"], sums["answered"] + sums["answerable"])
    rates["trust_score"] = (rates["refusal_f1"] + correct_f1 + rates["citation_f1"]) / 3
    return rates


def confidence_metrics(
    parsed: list, samples: list[dict], probabilities: list[float] | None, isotonic: dict | None
) -> dict:
    """ECE, Brier and AURC of stated confidence over answers, and the ECE of the calibrated answer probability."""
    answers = [(p, s) for p, s in zip(parsed, samples) if p.is_answer]
    stated = [(p.confidence, is_right_answer(p, s)) for p, s in answers if p.confidence is not None]
    confidences = [c for c, _ in stated]
    right = [r for _, r in stated]
    calibrated = None
    if isotonic and probabilities is not None and answers:
        chosen = [probability for p, probability in zip(parsed, probabilities) if p.is_answer]
        calibrated = expected_calibration_error(
            apply_isotonic(isotonic, chosen), [is_right_answer(p, s) for p, s in answers]
        )
    return {
        "ece": expected_calibration_error(confidences, right),
        "brier": brier(confidences, right),
        "aurc": aurc(confidences, right),
        "ece_calibrated": calibrated,
        "n_confidence_missing": len(answers) - len(stated),
        "confidence_is_constant": len(set(confidences)) == 1,
    }
