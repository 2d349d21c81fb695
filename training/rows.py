"""Samples -> training rows of token ids, once per epoch.

What a row's completion says is the stage's decision and arrives as a function; the prompt builder is handed
in too. training/selection.py decides which samples become rows.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from training.evidence_versions import short_sizes, shorten, shuffle_chunks
from utils.errors import DataError
from utils.progress import track
from utils.schema import unit_of

# Tokens kept free for the completion; 120 characters of answer and the JSON around them take fewer.
COMPLETION_TOKENS = 96


def row_weight(sample: dict, weights: dict[str, float]) -> float:
    """Loss weight of a sample: the weight of its source times that of its answerability (default 1)."""
    side = "answerable" if sample["answerable"] else "unanswerable"
    return weights.get(sample["source"], 1.0) * weights.get(side, 1.0)


def encode_rows(
    samples: list[dict],
    builder,
    complete: Callable[..., list[int]],
    max_seq_length: int,
    weights: dict[str, float] | None = None,
) -> tuple[list[dict], Counter]:
    """Rows {"id", "suffix", "completion", "labels", "unit", "answerable", "weight"}; drops by reason.

    `builder.build(sample)` gives the prompt; its prefix is the same for all rows, so a row has the suffix
    alone. `complete(tokenizer, sample, prompt)` gives the token ids that are trained on; the labels are the
    same. Rows with the same `unit` belong together: see `unit_of`. DataError if no row is left.
    """
    rows = []
    drops: Counter = Counter()
    for sample in track(samples, "encoding samples", "sample"):
        prompt = builder.build(sample)
        # Without its support, the row would teach the model to answer from nothing.
        if not prompt.shows_support(sample):
            drops["support cut to fit max_seq_length"] += 1
            continue
        completion = complete(builder.tokenizer, sample, prompt)
        # Never cut: a completion without its end, or without all of it, gives a wrong label or none.
        if len(prompt.ids) + len(completion) > max_seq_length:
            drops["completion does not fit max_seq_length"] += 1
            continue
        rows.append(
            {
                "id": sample["id"],
                "suffix": prompt.suffix,
                "completion": completion,
                "labels": completion,
                "unit": unit_of(sample),
                "answerable": sample["answerable"],
                "weight": row_weight(sample, weights or {}),
            }
        )
    if not rows:
        raise DataError(
            f"no row with a supervised token is left ({dict(drops)}); raise training.max_seq_length"
        )
    return rows, drops


@dataclass(frozen=True)
class Versions:
    """Which versions of the evidence are encoded: in how many orders, and in how many of them also short.

    `shares_evidence`: samples of one unit with the same evidence get the same orders.
    """

    n_orders: int = 1
    n_short: int = 0
    shares_evidence: bool = False


def encode_epochs(
    samples: list[dict], versions: Versions, seed: int, encode: Callable
) -> tuple[list[dict], Counter]:
    """The rows of every epoch, block after block, then those of the first epochs with short evidence.

    From the second block on, each sample's chunks are reordered. A sample dropped in one version (its support
    cut) is dropped in all, so that every block has the same samples; it is counted once.
    """
    # One generator for all epochs, so that each has another order.
    rng = random.Random(seed)
    rows, drops = encode(samples)
    blocks = [{row["id"]: row for row in rows}]
    orders = [samples]
    for _ in range(versions.n_orders - 1):
        orders.append(shuffle_chunks(samples, rng, versions.shares_evidence))
    sizes = short_sizes(samples, seed) if versions.n_short else {}
    short = [[shorten(sample, sizes) for sample in order] for order in orders[: versions.n_short]]
    for version in [*orders[1:], *short]:
        later, _ = encode(version)
        blocks.append({row["id"]: row for row in later})

    in_all = set(blocks[0]).intersection(*blocks[1:])
    kept = [sample_id for sample_id in blocks[0] if sample_id in in_all]
    n_later = len(blocks[0]) - len(kept)
    if n_later:
        drops["does not fit in the chunk order of a later epoch"] += n_later

    epochs = []
    for block in blocks:
        epochs += [block[sample_id] for sample_id in kept]
    return epochs, drops
