"""Subsets of the test set with separate metrics: source, answerability, verdict, difficulty, hops and more.

It knows samples and their scored terms, no completions. A new slice is one more line in `slice_names`.
"""

import re
from collections.abc import Sequence

import numpy as np

from utils.intervals import Drawn, draw_rates, intervals_of, paired
from utils.metrics import DELTA_METRICS, HEADLINE, PAIRED
from utils.progress import track
from utils.schema import verdict_class

# Only the metrics that a table shows: intervals of all of them took most of the time (docs/log.md).
SLICE_METRICS = ("em", "f1", *HEADLINE)
# Leads by source, for the same reason.
SOURCE_DELTAS = ("em_answerable", *DELTA_METRICS)


def _hop_names(samples: list[dict]) -> list[str | None]:
    """Number of chunks in the smallest support set; None for unanswerable samples, which have no set."""
    names: list[str | None] = []
    for sample in samples:
        # The smallest set is enough for a right answer, so it says how many hops are needed.
        size = min(map(len, sample["support_sets"]), default=0)
        if size == 0:
            names.append(None)
        else:
            names.append("3 or more" if size > 2 else str(size))
    return names


def _popularity_names(samples: list[dict]) -> list[str | None]:
    """Thirds of `metadata.popularity` (PopQA), named by their range; None where a sample has none."""
    values = [sample["metadata"].get("popularity") for sample in samples]
    known = np.array([value for value in values if value is not None])
    if not len(known):
        return [None] * len(samples)

    # Observed values as edges, and the left side of each, keep equal values in one part. Few distinct values
    # give equal edges, hence fewer parts.
    edges = np.unique(np.quantile(known, [1 / 3, 2 / 3], method="lower"))
    part_of = np.searchsorted(edges, known, side="left")
    names = {}
    for part in np.unique(part_of):
        low = known[part_of == part].min()
        high = known[part_of == part].max()
        names[part] = f"{low:,}" if low == high else f"{low:,} to {high:,}"
    return [None if value is None else names[np.searchsorted(edges, value, side="left")] for value in values]


def _verdict_names(samples: list[dict]) -> list[str | None]:
    """Source and right verdict (yes counts as supported, no as refuted); None where no verdict is right.

    By source, because a model that says `supported` everywhere does so in one source and not in another.
    """
    names: list[str | None] = []
    for sample in samples:
        verdict = verdict_class(sample["answer"])
        names.append(f"{sample['source']} {verdict}" if verdict else None)
    return names


def slice_names(samples: list[dict]) -> dict[str, list[str | None]]:
    """Dimension -> name of each sample's part, None for a sample in none of them."""
    return {
        "source": [sample["source"] for sample in samples],
        "answerability": ["answerable" if sample["answerable"] else "unanswerable" for sample in samples],
        "verdict": _verdict_names(samples),
        "difficulty": [sample["metadata"].get("difficulty") for sample in samples],
        "hops": _hop_names(samples),
        "chunks": [str(len(sample["evidence_chunks"])) for sample in samples],
        "popularity": _popularity_names(samples),
    }


def _order(name: str) -> tuple[int, str]:
    """Sort key of a part's name: its first number where it has one, so that 10 comes after 9."""
    number = re.match(r"\d{1,9}$", name.split(" ")[0].replace(",", ""))
    return (int(number[0]), name) if number else (0, name)


def slices(samples: list[dict]) -> dict[str, dict[str, list[int]]]:
    """Dimension -> part -> indices of its samples; parts sorted by number or name, no empty dimensions."""
    found: dict[str, dict[str, list[int]]] = {}
    for dimension, names in slice_names(samples).items():
        parts: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            if name is not None:
                parts.setdefault(name, []).append(i)
        if parts:
            found[dimension] = {name: parts[name] for name in sorted(parts, key=_order)}
    return found


# --- the metrics of slices


def slice_metrics(drawn: Drawn, n: int) -> dict:
    """EM, F1 and the headline metrics of a part with `n` samples, with intervals."""
    found = intervals_of(drawn, SLICE_METRICS)
    del found["ci95_skipped"]
    return {"n": n, **found}


def _draws(
    terms_of: dict[str, list[dict]], indices: list[int], groups: list[str], seed: int
) -> dict[str, Drawn]:
    """Model name -> its rates on the samples at `indices`."""
    own_groups = [groups[i] for i in indices]
    return {
        name: draw_rates([terms[i] for i in indices], own_groups, seed) for name, terms in terms_of.items()
    }


def slice_results(
    terms_of: dict[str, list[dict]], samples: list[dict], seed: int
) -> tuple[dict[str, dict], dict[str, dict]]:
    """(dimension -> part -> model name -> metrics, source -> model name -> the SFT model's lead over it).

    `terms_of`: model name -> terms, one per sample. Leads are paired differences on the source's samples.
    """
    groups = [sample["group"] for sample in samples]
    found: dict[str, dict] = {}
    leads: dict[str, dict] = {}
    for dimension, parts in track(slices(samples).items(), "scoring slices", "dimension"):
        found[dimension] = {}
        for part, indices in parts.items():
            draws = _draws(terms_of, indices, groups, seed)
            found[dimension][part] = {name: slice_metrics(draws[name], len(indices)) for name in draws}
            if dimension == "source":
                leads[part] = paired_with_sft(draws, SOURCE_DELTAS)
    return found, leads


def paired_with_sft(draws: dict[str, Drawn], names: Sequence[str] = PAIRED) -> dict[str, dict]:
    """Model name -> paired differences of the SFT model to it; empty without an SFT model."""
    if "sft" not in draws:
        return {}
    first = draws["sft"]
    return {name: paired(first, drawn, names) for name, drawn in draws.items() if name != "sft"}
