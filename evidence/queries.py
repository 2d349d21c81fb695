"""What a sample asks, the claim alone or the question: what texts are searched and compared with."""

import re

# How a row with a claim asks about it.
CLAIM_QUESTION = "Is this claim supported or refuted by the evidence? {claim}"

# Samples of other tools may ask in these words without naming the claim in their metadata.
_BEFORE_CLAIM = re.compile(rf"{re.escape(CLAIM_QUESTION.format(claim='').strip())}\s*(?=\S)")


def claim_of(sample: dict) -> str | None:
    """The claim that a sample asks about; None for a question."""
    asked = _BEFORE_CLAIM.match(sample["question"])
    named = sample["metadata"].get("claim")
    return named or (sample["question"][asked.end() :] if asked else None)


def query_of(sample: dict) -> str:
    """What a sample (or a record, by its fields) asks: the claim alone, or the question.

    All questions about claims share the words "claim supported refuted evidence", and a search with them
    finds the same pages for most claims (docs/log.md, hand check 1).
    """
    return claim_of(sample) or sample["question"]
