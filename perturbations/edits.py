"""Perturbed samples: evidence added, dropped, moved or swapped, with the gold that then holds. Every function returns a sample in file layout."""

import random
import re
from collections import Counter

from utils.schema import is_label_answer
from utils.text import REFUSAL, answer_pattern, contains_tokens, holds_answer, tokenize


def relayout(sample: dict, order: list[tuple[int | None, dict]]) -> dict:
    """The sample with these chunks, each with its old id or None for a new one. Support sets that are not whole any more are gone;
    when none is left the right completion is a refusal."""
    place = {old: new for new, (old, _) in enumerate(order) if old is not None}
    sets = [
        sorted(place[i] for i in support_set)
        for support_set in sample["support_sets"]
        if all(i in place for i in support_set)
    ]
    spans = sorted({i for support_set in sets for i in support_set})
    moved = {
        **sample,
        "evidence_chunks": [chunk for _, chunk in order],
        "support_sets": sets,
        "support_spans": spans,
        "hard_negatives": [i for i in range(len(order)) if i not in spans],
    }
    if sample["answerable"] and not sets:
        metadata = {
            **sample["metadata"],
            "gold_aliases": sample["answer_aliases"],
            "support_rule": "support dropped",
        }
        moved |= {"answer": REFUSAL, "answer_aliases": [], "answerable": False, "metadata": metadata}
    return moved


def add_distractors(sample: dict, distractors: list[dict], rng: random.Random) -> dict:
    """The sample with chunks that do not answer it, one after the other at a random place."""
    order: list[tuple[int | None, dict]] = list(enumerate(sample["evidence_chunks"]))
    for chunk in distractors:
        order.insert(rng.randint(0, len(order)), (None, chunk))
    return relayout(sample, order)


def drop_order(sample: dict, rng: random.Random) -> dict[int, float]:
    """Support chunk -> the share of dropping, 0 to 1, from which on it is gone.

    The shares are drawn evenly, so that a share p drops p of all support in expectation, also where a sample has one chunk of it.
    Chunks that hold the answer go first, those of one support set together: what is left of a broken set must not answer.
    """
    chunks = sample["evidence_chunks"]
    spans = sample["support_spans"]
    answers = [] if is_label_answer(sample["answer"]) else sample["answer_aliases"]
    holds = {i: holds_answer(f"{chunks[i]['title']} {chunks[i]['text']}", answers) for i in spans}
    shares = dict(
        zip(sorted(spans, key=lambda i: (not holds[i], rng.random())), sorted(rng.random() for _ in spans))
    )
    for support_set in sample["support_sets"]:
        holders = [i for i in support_set if holds[i]]
        shares |= dict.fromkeys(holders, min((shares[i] for i in holders), default=1.0))
    return shares


def drop_support(sample: dict, share: float, drops: dict[int, float], filler: dict | None) -> dict | None:
    """The sample without the support chunks that go at this share; a sample that loses all its evidence keeps `filler`, None without one."""
    order: list[tuple[int | None, dict]] = [
        (i, chunk) for i, chunk in enumerate(sample["evidence_chunks"]) if i not in drops or drops[i] >= share
    ]
    if not order and filler is None:
        return None
    return relayout(sample, order or [(None, filler)])


def move_gold(sample: dict, position: int) -> dict:
    """The sample with its one support chunk at `position`, the others in their order."""
    (gold,) = sample["support_spans"]
    order: list[tuple[int | None, dict]] = [
        (i, chunk) for i, chunk in enumerate(sample["evidence_chunks"]) if i != gold
    ]
    order.insert(position, (gold, sample["evidence_chunks"][gold]))
    return relayout(sample, order)


def with_movable_gold(samples: list[dict]) -> list[dict]:
    """Answerable samples with one support chunk, of the most common number of chunks among them."""
    single = [sample for sample in samples if sample["answerable"] and len(sample["support_spans"]) == 1]
    if not single:
        return []
    n_chunks = Counter(len(sample["evidence_chunks"]) for sample in single).most_common(1)[0][0]
    return [sample for sample in single if len(sample["evidence_chunks"]) == n_chunks]


_ASKED = re.compile(
    r"\b(how many|how much|how|who|whose|whom|when|where|what year|which year)\b", re.IGNORECASE
)


def _likeness(sample: dict, donor: dict) -> int:
    """How well a donor's answer fits in the place of the sample's: 3 same property (PopQA), 2 same question word, 1 same shape, 0 none of them."""
    asked, donor_asked = ((_ASKED.search(s["question"]) or [""])[0].lower() for s in (sample, donor))
    answer = sample["answer"]
    other = donor["answer"]
    same_shape = answer.isdigit() == other.isdigit() and any(w[:1].isupper() for w in answer.split()) == any(
        w[:1].isupper() for w in other.split()
    )
    if not same_shape:
        return 0
    if sample["metadata"].get("popularity") is not None and sample["metadata"].get("type") == donor[
        "metadata"
    ].get("type"):
        return 3
    return 2 if asked and asked == donor_asked else 1


def counterfactual(sample: dict, donors: list[dict], rng: random.Random) -> dict | str:
    """The sample with its answer replaced in all evidence by another sample's answer, of the same source and kind; or why that cannot be."""
    if not sample["answerable"] or is_label_answer(sample["answer"]):
        return "no entity to swap"
    aliases = sample["answer_aliases"]
    everything = " ".join(
        [sample["question"], *(f"{chunk['title']} {chunk['text']}" for chunk in sample["evidence_chunks"])]
    )
    if holds_answer(sample["question"], aliases):
        return "answer stands in the question"
    usable: dict[str, int] = {}
    for donor in donors:
        fits = donor["source"] == sample["source"] and (likeness := _likeness(sample, donor))
        if (
            fits
            and not holds_answer(everything, [donor["answer"]])
            and not holds_answer(donor["answer"], aliases)
        ):
            usable[donor["answer"]] = max(likeness, usable.get(donor["answer"], 0))
    if not usable:
        return "no other entity like it"
    best = max(usable.values())
    new = rng.choice(sorted(answer for answer, likeness in usable.items() if likeness == best))
    pattern = answer_pattern(sample["answer_aliases"])
    if pattern is None:
        return "answer without a word"
    swapped = [
        {key: pattern.sub(lambda _: new, chunk[key]) for key in ("title", "text")}
        for chunk in sample["evidence_chunks"]
    ]
    chunks = [{**chunk, **texts} for chunk, texts in zip(sample["evidence_chunks"], swapped)]
    if any(holds_answer(f"{chunk['title']} {chunk['text']}", aliases) for chunk in chunks):
        return "answer left in the evidence"
    if not any(contains_tokens(tokenize(chunks[i]["text"]), tokenize(new)) for i in sample["support_spans"]):
        return "answer not in the support's words"
    metadata = {**sample["metadata"], "memory_aliases": sample["answer_aliases"]}
    return {**sample, "evidence_chunks": chunks, "answer": new, "answer_aliases": [new], "metadata": metadata}
