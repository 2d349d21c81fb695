"""Versions of a sample's evidence: its chunks in another order, or few of them. Ids of chunks are renumbered.

It knows samples and their units, not what is learned from them.
"""

import random

from utils.schema import unit_of


def with_chunks(sample: dict, order: list[int]) -> dict:
    """The sample with these evidence chunks, in this order; a support set that lost a chunk is left out."""
    place = {old: new for new, old in enumerate(order)}

    def renumbered(ids: list[int]) -> list[int]:
        return sorted(place[i] for i in ids if i in place)

    whole_sets = [ids for ids in sample["support_sets"] if place.keys() >= set(ids)]
    in_whole_sets = {i for ids in whole_sets for i in ids}
    return {
        **sample,
        "evidence_chunks": [sample["evidence_chunks"][old] for old in order],
        "support_sets": [renumbered(ids) for ids in whole_sets],
        "support_spans": renumbered([i for i in sample["support_spans"] if i in in_whole_sets]),
        "hard_negatives": renumbered(sample["hard_negatives"]),
    }


# --- other orders


def evidence_of(sample: dict) -> tuple:
    """What two samples have in common whose evidence can be read once: the unit, and the chunks in order."""
    chunks = sample["evidence_chunks"]
    return unit_of(sample), *((chunk["title"], chunk["text"]) for chunk in chunks)


def gather_evidence(samples: list[dict]) -> list[dict]:
    """The samples unit by unit, those with the same evidence behind each other."""
    units: dict[str, dict[tuple, list[dict]]] = {}
    for sample in samples:
        of_unit = units.setdefault(unit_of(sample), {})
        of_unit.setdefault(evidence_of(sample), []).append(sample)
    gathered = []
    for of_unit in units.values():
        for same in of_unit.values():
            gathered += same
    return gathered


def shuffle_chunks(samples: list[dict], rng: random.Random, shares_evidence: bool = False) -> list[dict]:
    """The samples, each with its chunks in a new order; with `shares_evidence` one order per evidence."""
    order_of: dict[tuple, list[int]] = {}
    shuffled = []
    for sample in samples:
        order = order_of.get(evidence_of(sample)) if shares_evidence else None
        if order is None:
            order = list(range(len(sample["evidence_chunks"])))
            rng.shuffle(order)
            order_of[evidence_of(sample)] = order
        shuffled.append(with_chunks(sample, order))
    return shuffled


# --- short evidence


def short_sizes(samples: list[dict], seed: int) -> dict[str, int]:
    """Unit -> the number of chunks that the short evidence of its unanswerable samples has.

    That of the gold chunks of the unit's question or, without it, of a question of the source that is drawn:
    the number of chunks must not tell what can be answered.
    """
    size_of: dict[str, int] = {}
    by_source: dict[str, list[int]] = {}
    for sample in samples:
        if sample["answerable"]:
            n_gold = len(sample["support_sets"][0])
            size_of.setdefault(unit_of(sample), n_gold)
            by_source.setdefault(sample["source"], []).append(n_gold)
    for sample in samples:
        unit = unit_of(sample)
        if unit not in size_of:
            size_of[unit] = random.Random(f"{seed}:{unit}").choice(by_source.get(sample["source"], [1]))
    return size_of


def shorten(sample: dict, sizes: dict[str, int]) -> dict:
    """The sample with the chunks of its first support set alone; unanswerable: with as few of its own.

    `sizes`: see `short_sizes`. The chunks keep their order.
    """
    if sample["answerable"]:
        return with_chunks(sample, sorted(sample["support_sets"][0]))
    n_chunks = min(sizes[unit_of(sample)], len(sample["evidence_chunks"]))
    return with_chunks(sample, list(range(n_chunks)))
