"""The file of statistics beside preferences, and its picture.

It describes finished rows, and knows nothing about how they were made or judged.
"""

from pathlib import Path

import numpy as np

from evaluation.plots import plot_charts
from evaluation.preference_figures import preference_charts
from utils.completions import parse_completion
from utils.jsonl import write_json

_N_BINS = 10
_QUANTILES = np.linspace(0, 1, 11)


def margin_counts(rows: list[dict]) -> list[int]:
    """Pairs per tenth of the margin, (10,): 0 to below 0.1, and so on; the last one includes 1."""
    counts = [0] * _N_BINS
    for row in rows:
        # 0.7 * 10 is a little more than 7, and other products are a little less than whole.
        counts[min(int(round(row["margin"] * _N_BINS, 6)), _N_BINS - 1)] += 1
    return counts


def _quantiles(values: list[float]) -> list[float] | None:
    if not values:
        return None
    return [round(float(value), 4) for value in np.quantile(values, _QUANTILES)]


def form_quantiles(rows: list[dict]) -> dict[str, dict[str, list[float] | None]]:
    """Per side, the quantiles 0, 0.1, ... 1 of length (characters) and stated confidence.

    Confidence is that of the completions that state one; None if none does.
    """
    found = {}
    for side in ("chosen", "rejected"):
        lengths = []
        confidences = []
        for row in rows:
            text = row[side][0]["content"]
            lengths.append(float(len(text)))
            confidence = parse_completion(text, len(row["evidence_chunks"])).confidence
            confidences += [] if confidence is None else [confidence]
        found[side] = {"length": _quantiles(lengths), "confidence": _quantiles(confidences)}
    return found


def write_statistics(path: Path, stats: dict, rows: list[dict]) -> None:
    """Write statistics of preference rows as JSON, with margins and form added, and as a PNG beside it."""
    stats = {**stats, "margins": margin_counts(rows), "form": form_quantiles(rows)}
    write_json(path, stats)
    plot_charts(path.with_suffix(".png"), preference_charts(stats))
