"""The edits of one claim: what may be changed in it, so that its evidence surely gives the other verdict.

They see words, not meaning, and so change only what claim and evidence say in nearly the same words.
"""

import random

from evidence.contrast_case import Case, Edit, without_suffixes
from evidence.contrast_dates import right_date, wrong_date
from evidence.contrast_makers import maker
from evidence.contrast_negation import affirm, deny
from evidence.contrast_numbers import right_number, wrong_number
from evidence.contrast_places import countries_said, nationality, place
from evidence.contrast_words import kind_of_thing, opposite, word_of_evidence
from evidence.paraphrase import denies, unstated

# The kinds of edits, those first that need the evidence read most closely.
KINDS = ("date", "number", "entity", "word", "negation")


def is_doubtful(case: Case) -> bool:
    """True for a claim whose verdict may be a slip of its annotators.

    Supported although it has a name or a number that the support lacks, or refuted although the support says
    all of its words and it denies nothing (docs/log.md, hand check).
    """
    claim = without_suffixes(case.claim)
    if case.verdict == "supported":
        return bool(unstated(claim, case.said | countries_said(case)))
    return not (case.unsaid() or unstated(claim, case.said) or denies(claim))


def edits_of(case: Case, rng: random.Random) -> dict[str, Edit]:
    """Kind -> the edit of a claim that gives it the other verdict, for the kinds that have one."""
    if is_doubtful(case):
        return {}
    edits: list[Edit] = []
    if case.verdict == "supported":
        edits += wrong_date(case, rng) + wrong_number(case, rng) + opposite(case)
    else:
        edits += right_date(case) + right_number(case) + word_of_evidence(case) + opposite(case)
    edits += maker(case, rng) + place(case, rng) + nationality(case, rng) + kind_of_thing(case, rng)
    edits += affirm(case) + deny(case)
    found: dict[str, Edit] = {}
    for edit in edits:
        found.setdefault(edit.kind, edit)
    return found
