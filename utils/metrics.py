"""Every rate that we report about answers, each defined once: a ratio of sums of the samples' terms.

`utils/scoring.py` makes the terms of one sample. This module knows nothing about completions, so the same
functions serve a whole test set, a slice of it and the resamples of a bootstrap.
"""

import numpy as np

# name -> (term of the numerator, term of the denominator) of every plain rate.
# The samples fix a denominator, not the number of answers, so a model cannot raise a rate by answering less.
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
    # The rule before faults in an answer counted: wrong = F1 below 0.5. Only for comparison.
    "hallucination_rate_lenient": ("hallucination_lenient", "n"),
    "net_score_lenient": ("net_score_lenient", "n"),
}
# A difference of these changes its sign, so that positive always means better.
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
    "hallucination_rate_lenient",
}
# Only rates over all samples, or over all answerable ones, have paired differences.
PAIRED = [name for name, (_, denominator) in RATES.items() if denominator != "unanswerable"]
PAIRED += ["hallucination_rate", "refusal_f1"]


def _ratio(top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """top / bottom, NaN where the denominator is 0."""
    top = np.asarray(top, dtype=float)
    bottom = np.asarray(bottom, dtype=float)
    unknown = np.full(np.broadcast(top, bottom).shape, np.nan)
    return np.divide(top, bottom, out=unknown, where=bottom > 0)


def rates_from_sums(sums: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """All metrics that are functions of summed terms, as name -> value of the terms' own shape.

    Works on scalars and on arrays of resamples, (n_resamples,). NaN where a denominator is 0.
    """
    rates = {name: _ratio(sums[top], sums[bottom]) for name, (top, bottom) in RATES.items()}

    kinds = ("hallucination_unanswerable", "hallucination_wrong", "hallucination_unsupported")
    hallucinated = sums[kinds[0]] + sums[kinds[1]] + sums[kinds[2]]
    rates["hallucination_rate"] = _ratio(hallucinated, sums["n"])
    # The one rate over answers alone, so two models have different denominators: it is never paired.
    rates["hallucination_given_answered"] = _ratio(hallucinated, sums["answered"])

    # F1 = 2 true positives / (predicted + actual), for refusing unanswerable and for answering answerable
    # samples.
    refuse_f1 = _ratio(2 * sums["refused_unanswerable"], sums["refused"] + sums["unanswerable"])
    answer_f1 = _ratio(2 * sums["answered_answerable"], sums["answered"] + sums["answerable"])
    # With samples of one class alone, one of the two F1 scores has nothing to find.
    one_class = (np.asarray(sums["answerable"]) == 0) | (np.asarray(sums["unanswerable"]) == 0)
    rates["refusal_f1"] = np.where(one_class, np.nan, (refuse_f1 + answer_f1) / 2)

    # After Trust-Align (Song et al., 2024), with gold labels in place of an entailment model.
    for suffix in ("", "_lenient"):
        correct_f1 = _ratio(2 * sums[f"correct{suffix}"], sums["answered"] + sums["answerable"])
        rates[f"trust_score{suffix}"] = (rates["refusal_f1"] + correct_f1 + rates["citation_f1"]) / 3
    return rates


# Where each metric is shown.

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
