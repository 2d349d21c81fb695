"""Parts of a test set that figures are repeated for."""

import numpy as np


def _hops(samples: list[dict]) -> list[str | None]:
    """Chunks that the smallest support set needs; None for unanswerable samples, which have no set."""
    sizes = [min(map(len, sample["support_sets"]), default=0) for sample in samples]
    return [None if size == 0 else "3 or more" if size > 2 else str(size) for size in sizes]


def _popularity(samples: list[dict]) -> list[str | None]:
    """Thirds of `metadata.popularity` (PopQA), named by their range; equal values stay together. None where a sample has none."""
    found = [sample["metadata"].get("popularity") for sample in samples]
    known = np.array([value for value in found if value is not None])
    if not len(known):
        return [None] * len(samples)
    edges = np.unique(np.quantile(known, [1 / 3, 2 / 3], method="lower"))
    third = np.searchsorted(edges, known, side="left")
    ranges = {t: (known[third == t].min(), known[third == t].max()) for t in np.unique(third)}
    names = {t: f"{low:,}" if low == high else f"{low:,} to {high:,}" for t, (low, high) in ranges.items()}
    return [None if value is None else names[np.searchsorted(edges, value, side="left")] for value in found]


def slice_names(samples: list[dict]) -> dict[str, list[str | None]]:
    """Dimension -> the part that each sample is in, None for in none of them."""
    return {
        "source": [sample["source"] for sample in samples],
        "answerability": ["answerable" if sample["answerable"] else "unanswerable" for sample in samples],
        "hops": _hops(samples),
        "chunks": [str(len(sample["evidence_chunks"])) for sample in samples],
        "popularity": _popularity(samples),
    }


def slices(samples: list[dict]) -> dict[str, dict[str, list[int]]]:
    """Dimension -> part -> indices of its samples, parts in order of their first number or their name."""
    found: dict[str, dict[str, list[int]]] = {}
    for dimension, names in slice_names(samples).items():
        parts: dict[str, list[int]] = {}
        for i, name in enumerate(names):
            if name is not None:
                parts.setdefault(name, []).append(i)
        found[dimension] = dict(sorted(parts.items(), key=lambda item: _order(item[0])))
    return {dimension: parts for dimension, parts in found.items() if parts}


def _order(name: str) -> tuple[int, str]:
    number = name.split(" ")[0].replace(",", "")
    return (int(number), name) if number.isdigit() else (0, name)
