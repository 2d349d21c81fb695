"""Every number we report about answers, each defined once. Samples are scored one by one, rates come from sums.

A completion is an answer, a refusal or unparsable; unparsable stays in every denominator and is neither of the others.
"""

import numpy as np

from utils.overlap import answer_overlap, citation_scores, exact_match, f1_of

CORRECT_F1 = 0.5


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


# --- Where each metric is shown

# First table of a results file, slices, `--compare` and the HTML page.
HEADLINE = (
    "em_answerable",
    "f1_answerable",
    "citation_correctness",
    "citation_f1",
    "refusal_f1",
    "hallucination_rate",
    "answered_rate",
    "net_score",
)
# Paired differences in the terminal and on the HTML page.
DELTA_METRICS = (
    "em",
    "f1",
    "citation_correctness",
    "citation_f1",
    "refusal_f1",
    "joint_f1",
    "hallucination_rate",
    "net_score",
)
# The levels of a robustness suite; their differences to the first level are the paired ones among them.
ROBUSTNESS_METRICS = (
    "em_answerable",
    "f1_answerable",
    "citation_correctness",
    "citation_f1",
    "refusal_f1",
    "refusal_rate",
    "answered_rate",
    "unparsable_rate",
    "hallucination_rate",
    "net_score",
)
# Metrics of generated answers that `training.metric_for_best` may name; higher is better for all of them.
SELECTION_METRICS = ("eval_joint_f1", "eval_refusal_f1", "eval_net_score", "eval_schema_valid_rate")
