"""The verifier: a candidate against gold. Its level decides; named checks stand beside it.

Levels order outcomes, so no number of passed checks lifts a wrong answer over a refusal:

    unparsable < wrong < refusal of an answerable < right refusal, or right but wrongly cited
               < right and supported

It sees parsed completions and samples, and knows nothing about judges, pairs or margins.
"""

from utils.completions import Parsed, map_citations, parse_completion
from utils.correctness import is_correct

# Counted up when a candidate is judged otherwise than before, so that no older judgement is read again.
VERIFIER_VERSION = 4
LEVELS = ("unparsable", "wrong", "refusal of an answerable", "right, not supported", "right and supported")
CHECKS = ("format", "refusal", "answer", "support", "precision")


def verifier_checks(parsed: Parsed, is_valid: bool, sample: dict) -> dict[str, int]:
    """The named 0/1 checks of one parsed candidate against the sample's gold; without an answer all are 0."""
    if parsed.answer is None:
        return dict.fromkeys(CHECKS, 0)
    answerable = sample["answerable"]
    cited = set(parsed.citations)
    if parsed.is_refusal:
        right = not answerable
        supported = not answerable
        precise = not cited
    else:
        right = answerable and is_correct(parsed.answer, sample["answer_aliases"])
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


def verifier_level(checks: dict[str, int], parsed: Parsed) -> int:
    """The place of a candidate in LEVELS.

    Supported: the citations hold a whole support set and nothing else. A right refusal stands in the fourth
    level, whether it cites or not.
    """
    if parsed.answer is None:
        return 0
    if parsed.is_refusal:
        return 3 if checks["answer"] else 2
    if not checks["answer"]:
        return 1
    return 4 if checks["support"] and checks["precision"] else 3


def verify(candidate: dict, sample: dict) -> tuple[dict[str, int], float]:
    """The checks of a candidate row, and its score: the level in 0..1, so that neighbours differ by 0.25."""
    parsed = parse_completion(candidate["completion"], len(candidate["shown"]))
    # A candidate cites chunks by their number in the prompt, gold by their number in the sample. They differ
    # where the prompt was cut, so citations are translated; whether they exist is decided before that.
    mapped = map_citations(parsed, candidate["shown"])
    checks = verifier_checks(mapped, parsed.is_valid, sample)
    return checks, verifier_level(checks, mapped) / (len(LEVELS) - 1)
