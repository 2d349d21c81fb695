"""Easy claims that the train split leaves out, as further rows to train on (`--made easy_claims`).

A split keeps few claims that repeat the words of their evidence, since word counts would answer them
(evidence/balance.py). For training they are worth having: without them, a model of 270 million parameters
learned no verdicts at all (docs/log.md, 2026-11-28).
"""

from collections import Counter

from evidence.balance import is_annotation_doubtful
from evidence.made_row import Making
from evidence.queries import claim_of
from utils.schema import unit_of


def _row(sample: dict, kind: str) -> dict:
    """The sample itself; it names no origin, as no sample of the split is one."""
    metadata = {**sample["metadata"], "made": kind, "unit": unit_of(sample)}
    return {**sample, "metadata": metadata}


def easy_claim_rows(left_out: list[dict], seed: int) -> Making:
    """The answerable claims among `left_out`, each followed by its twin; the rest is counted.

    Nothing is drawn, so `seed` changes nothing.
    """
    twins = {sample["metadata"].get("twin_of"): sample for sample in left_out}
    rows = []
    n_doubtful = 0
    for sample in left_out:
        if not sample["answerable"] or not claim_of(sample):
            continue
        if is_annotation_doubtful(sample):
            n_doubtful += 1 + (sample["id"] in twins)
            continue
        rows.append(_row(sample, "easy claim"))
        if sample["id"] in twins:
            rows.append(_row(twins[sample["id"]], "easy claim: twin"))
    n_surplus = len(left_out) - len(rows) - n_doubtful
    # A reason without a row is none.
    skipped = +Counter({"surplus unanswerable rows": n_surplus, "doubtful annotation": n_doubtful})
    return Making(rows, skipped)
