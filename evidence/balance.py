"""How many unanswerable samples and twins a data set keeps, so that each source has the wanted share.

It chooses among finished samples, and knows nothing about what makes one answerable.
"""

import hashlib
from collections import Counter

# Dropped rows: source -> reason -> number.
Drops = dict[str, Counter]


def order_key(seed: int, sample: dict) -> tuple[str, str]:
    """Sort key of a random order in which a twin follows its original."""
    original = sample["metadata"].get("twin_of") or sample["id"]
    return hashlib.sha1(f"{seed}:{original}".encode()).hexdigest(), sample["id"]


def choose_unanswerable(
    built: list[tuple[dict, dict | None]], fraction: float, seed: int, drops: Drops
) -> list[dict]:
    """The answerable samples of a split with the wanted share of unanswerable ones per source.

    At least half of the unanswerable ones are twins, where that many could be built: a twin differs from
    its original in the support alone, so nothing else in it can give the refusal away.
    """
    chosen = []
    for source in sorted({sample["source"] for sample, _ in built}):
        pairs = [pair for pair in built if pair[0]["source"] == source]
        pairs.sort(key=lambda pair: order_key(seed, pair[0]))
        answerable = [sample for sample, _ in pairs if sample["answerable"]]
        own = [sample for sample, _ in pairs if not sample["answerable"]]
        twins = [twin for _, twin in pairs if twin]

        # fraction = n_wanted / (n_wanted + answerable), solved for n_wanted.
        n_wanted = round(len(answerable) * fraction / (1 - fraction))
        n_own = min(len(own), max(n_wanted - len(twins), n_wanted // 2))
        drops[source]["surplus unanswerable rows"] += len(own) - n_own
        chosen += answerable + own[:n_own] + twins[: n_wanted - n_own]
    return sorted(chosen, key=lambda sample: order_key(seed, sample))
