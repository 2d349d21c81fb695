"""Claims with one thing changed, so that the same evidence gives the other verdict (`--made contrast`).

A model sees a claim and its edit with the same evidence, so that only what differs between them can tell the
verdicts apart (contrast sets: Gardner et al., 2020; counterfactual edits: Kaushik et al., 2020). The edits
are in contrast_edits.py; this module chooses among them.
"""

import random
from collections import Counter

from evidence.contrast_edits import Edit, edits_of
from evidence.made_row import Making, made_row
from evidence.queries import CLAIM_QUESTION, claim_of
from utils.schema import verdict_class
from utils.text import LABEL_ALIASES

_NO_EDIT = "no edit with a sure verdict"
_NOT_BALANCED = "more edits of its verdict than of the other"


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


def _balanced(rows: list[dict], rng: random.Random) -> list[dict]:
    """As many supported as refuted rows of each kind: else the kind of an edit would tell its verdict."""
    by_kind: dict[str, dict[str, list[dict]]] = {}
    for row in rows:
        verdicts = by_kind.setdefault(row["metadata"]["made"], {verdict: [] for verdict in LABEL_ALIASES})
        verdicts[row["answer"]].append(row)
    kept = set()
    for verdicts in by_kind.values():
        n_kept = min(map(len, verdicts.values()))
        for of_verdict in verdicts.values():
            rng.shuffle(of_verdict)
            kept |= {row["id"] for row in of_verdict[:n_kept]}
    return [row for row in rows if row["id"] in kept]


def contrast_rows(train: list[dict], seed: int) -> Making:
    """One edit per answerable claim that has one, with the other verdict; both verdicts equally often."""
    skipped: Counter[str] = Counter()
    rows = []
    for sample in train:
        claim = claim_of(sample)
        if not claim or not sample["answerable"] or verdict_class(sample["answer"]) is None:
            continue
        rng = random.Random(f"{seed}:contrast:{sample['id']}")
        edits = edits_of(sample, rng)
        if edits:
            rows.append(_edit_row(sample, edits[0]))
        else:
            skipped[_NO_EDIT] += 1
    kept = _balanced(rows, random.Random(f"{seed}:contrast"))
    skipped[_NOT_BALANCED] = len(rows) - len(kept)
    return Making(kept, skipped)
