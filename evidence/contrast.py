"""Claims with one thing changed, so that the same evidence gives the other verdict (`--made contrast`).

A model sees a claim and its edit with the same evidence, so that only what differs between them can tell the
verdicts apart (contrast sets: Gardner et al., 2020; counterfactual edits: Kaushik et al., 2020). What may be
changed is in contrast_edits.py; this module chooses one edit per claim.
"""

import random
from collections import Counter

from evidence.contrast_case import Edit, case_of
from evidence.contrast_edits import KINDS, edits_of
from evidence.contrast_makers import makers_of_claims
from evidence.made_row import Making, made_row
from evidence.paraphrase import stems
from evidence.queries import CLAIM_QUESTION, claim_of
from utils.schema import verdict_class
from utils.text import LABEL_ALIASES, chunk_text, padded_words

_NO_EDIT = "no new edit with a sure verdict"
_NO_TWIN = "no twin of its claim"
_DECIDED = "a chunk has the new value"
_NOT_BALANCED = "no edit of the other verdict to balance it"


def _edit_row(origin: dict, edit: Edit) -> dict:
    """The made row of an edit: the claim is another, and so is the verdict."""
    aliases = list(LABEL_ALIASES[edit.verdict])
    changes = {
        "question": CLAIM_QUESTION.format(claim=edit.claim),
        "answer": aliases[0],
        "answer_aliases": aliases,
        "metadata": {"claim": edit.claim},
    }
    return made_row(origin, f"contrast: {edit.kind}", changes)


def _balanced(edits: dict[str, dict[str, Edit]], rng: random.Random) -> dict[str, Edit]:
    """Origin -> its edit, so that of each kind as many are supported as refuted.

    Otherwise the kind of an edit would tell its verdict: without reading, "not" would be a no. An origin that
    one kind does not need is left to the next. `edits`: origin -> kind -> edit.
    """
    chosen: dict[str, Edit] = {}
    for kind in KINDS:
        by_verdict: dict[str, dict[str, str]] = {verdict: {} for verdict in LABEL_ALIASES}
        for origin, of_origin in edits.items():
            if origin not in chosen and kind in of_origin:
                edit = of_origin[kind]
                # Two claims may have one edit: what is wrong in them is the same thing.
                by_verdict[edit.verdict].setdefault(edit.claim.lower(), origin)
        n_chosen = min(map(len, by_verdict.values()))
        for origins in by_verdict.values():
            for origin in rng.sample(sorted(origins.values()), n_chosen):
                chosen[origin] = edits[origin][kind]
    return chosen


def _chosen_edits(train: list[dict], seed: int) -> tuple[dict[str, Edit], Counter[str]]:
    """Origin -> its edit, and by reason how many answerable claims have none."""
    skipped: Counter[str] = Counter()
    claims: dict[str, tuple[dict, str]] = {}
    for sample in train:
        claim = claim_of(sample)
        if claim and sample["answerable"] and verdict_class(sample["answer"]):
            claims[sample["id"]] = (sample, claim)

    pool = makers_of_claims([claim for _, claim in claims.values()])
    # Claims that are there already; many edits of one claim of a pair are the other.
    known = {padded_words(claim_of(sample) or "") for sample in train}
    edits: dict[str, dict[str, Edit]] = {}
    for origin, (sample, claim) in claims.items():
        # A generator per claim: an edit does not depend on which other claims there are.
        rng = random.Random(f"{seed}:contrast:{origin}")
        found = edits_of(case_of(sample, claim, pool), rng)
        edits[origin] = {kind: edit for kind, edit in found.items() if padded_words(edit.claim) not in known}
        skipped[_NO_EDIT] += not edits[origin]

    chosen = _balanced(edits, random.Random(f"{seed}:contrast"))
    skipped[_NOT_BALANCED] = len(claims) - skipped[_NO_EDIT] - len(chosen)
    return chosen, skipped


def contrast_rows(train: list[dict], seed: int) -> Making:
    """One edit per answerable claim that has one, with the other verdict; both verdicts equally often."""
    chosen, skipped = _chosen_edits(train, seed)
    # In the order of the samples.
    rows = [_edit_row(sample, chosen[sample["id"]]) for sample in train if sample["id"] in chosen]
    return Making(rows, skipped)


def contrast_twin_rows(train: list[dict], seed: int) -> Making:
    """The edits of `contrast_rows` on the evidence of their claims' twins, to be refused.

    Without them, a claim that looks like an edit would always have an answer. A twin's chunks were chosen so
    that they do not decide the claim; an edit with another value is checked against each of them too.
    """
    chosen, _ = _chosen_edits(train, seed)
    rows = []
    skipped: Counter[str] = Counter()
    twins = [sample for sample in train if sample["metadata"].get("twin_of") in chosen]
    skipped[_NO_TWIN] = len(chosen) - len(twins)
    for twin in twins:
        edit = chosen[twin["metadata"]["twin_of"]]
        changes = {
            "question": CLAIM_QUESTION.format(claim=edit.claim),
            "metadata": {"claim": edit.claim, "gold_aliases": list(LABEL_ALIASES[edit.verdict])},
        }
        if _is_decided(twin, claim_of(twin) or "", edit.claim):
            skipped[_DECIDED] += 1
        else:
            rows.append(made_row(twin, "contrast: twin", changes))
    return Making(rows, skipped)


def _is_decided(twin: dict, claim: str, edited: str) -> bool:
    """Whether a chunk may decide the edit although it does not decide the claim.

    What decides a claim decides its denial, so only the words matter that the edit has and the claim lacks.
    """
    new = stems(edited) - stems(claim) - {"not"}
    return any(new & stems(chunk_text(chunk)) for chunk in twin["evidence_chunks"])
