"""Plots as PNG: training curves, reliability, risk against coverage, robustness curves.

It draws numbers that are already computed: no metric is defined here.
"""

import io
from pathlib import Path

import matplotlib

# Before pyplot is imported: a server has no display.
matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils.jsonl import atomic_write

# Colors that color-blind readers can tell apart (Okabe and Ito, 2008); the markers differ as well.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^vPX"
# Labels of levels that are longer than this are turned, or they would overlap.
_MAX_FLAT_LABEL = 8


def _style(i: int) -> dict:
    """Color and marker of the i-th line of a panel."""
    return {"color": COLORS[i % len(COLORS)], "marker": MARKERS[i % len(MARKERS)]}


def _tidy(axis, title: str, xlabel: str, ylabel: str) -> None:
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _legend(axis) -> None:
    # Without lines matplotlib would warn about an empty legend.
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8)


def _save(figure, path: Path) -> None:
    with atomic_write(path, "wb") as handle:
        figure.savefig(handle, dpi=120, format="png")
    plt.close(figure)


# --- training


def plot_curves(path: Path, panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """One panel per title, one line per name; points are (step, value). Lines without points are left out."""
    size = (5 * len(panels), 3.6)
    figure, axes = plt.subplots(1, len(panels), figsize=size, squeeze=False, layout="constrained")
    for axis, (title, lines) in zip(axes[0], panels.items()):
        for name, points in lines.items():
            if not points:
                continue
            steps, values = zip(*points)
            marker = "o" if len(points) < 30 else None
            axis.plot(steps, values, marker=marker, markersize=3, label=name)
        _tidy(axis, title, "step", "")
        axis.legend(frameon=False)
    _save(figure, path)


# --- confidence


def _draw_reliability(axis, curves: dict[str, dict]) -> None:
    """Accuracy against stated confidence; a larger marker means more answers in the bin."""
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="calibrated")
    for i, (name, curve) in enumerate(curves.items()):
        bins = curve["reliability"]
        most = max(b["n"] for b in bins)
        x = [b["confidence"] for b in bins]
        y = [b["accuracy"] for b in bins]
        sizes = [20 + 100 * b["n"] / most for b in bins]
        axis.plot(x, y, color=_style(i)["color"], linewidth=1)
        axis.scatter(x, y, s=sizes, label=name, alpha=0.8, **_style(i))
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    title = "Reliability of the stated confidence"
    _tidy(axis, title, "stated confidence", "share of answers right with support")


def _draw_risk(axis, curves: dict[str, dict]) -> None:
    """Share of wrong answers (risk) when only the most confident ones are kept, against the share kept."""
    for i, (name, curve) in enumerate(curves.items()):
        points = curve["risk_coverage"]
        x = [point["coverage"] for point in points]
        y = [point["risk"] for point in points]
        axis.plot(x, y, markersize=4, linewidth=1.2, label=name, **_style(i))
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    title = "Risk against coverage"
    _tidy(axis, title, "coverage: share of answers kept", "risk: share of kept answers that are wrong")


_PANELS = {"reliability": _draw_reliability, "risk_coverage": _draw_risk}


def calibration_png(curves: dict[str, dict], panel: str) -> bytes:
    """One panel, `reliability` or `risk_coverage`, as PNG bytes."""
    figure, axis = plt.subplots(figsize=(4.6, 4), layout="constrained")
    _PANELS[panel](axis, curves)
    _legend(axis)
    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=110, format="png")
    plt.close(figure)
    return buffer.getvalue()


def plot_calibration(path: Path, curves: dict[str, dict]) -> None:
    """Both panels side by side; `curves` is the `curves` block of a results file."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 4.4), layout="constrained")
    for axis, draw in zip(axes, _PANELS.values()):
        draw(axis, curves)
        _legend(axis)
    _save(figure, path)


# --- robustness


def _draw_metric(axis, suite: dict, metric: str, i: int) -> None:
    """One metric over the levels of a suite, with its 95% intervals; levels without it are left out."""
    x = []
    y = []
    below = []
    above = []
    # Side by side, so that equal values do not hide one another.
    offset = 0.05 * (i - (len(suite["plotted"]) - 1) / 2)
    for place, level in enumerate(suite["levels"].values()):
        value = level.get(metric)
        if value is None:
            continue
        low, high = level["ci95"].get(metric) or (value, value)
        x.append(place + offset)
        y.append(value)
        # A value can be outside its percentile interval; matplotlib accepts no negative bar.
        below.append(max(0.0, value - low))
        above.append(max(0.0, high - value))
    if not x:
        return
    # Only levels with an order (more chunks, less support) are joined by a line.
    line = "-" if suite["ordered"] else "none"
    bars = {"yerr": [below, above], "capsize": 2, "elinewidth": 0.8}
    axis.errorbar(x, y, label=metric, linestyle=line, markersize=4, **bars, **_style(i))


def _draw_suite(axis, name: str, suite: dict) -> None:
    for i, metric in enumerate(suite["plotted"]):
        _draw_metric(axis, suite, metric, i)
    labels = list(suite["levels"])
    is_turned = max(map(len, labels)) > _MAX_FLAT_LABEL
    turn = {"rotation": 30, "ha": "right"} if is_turned else {}
    axis.set_xticks(range(len(labels)), labels, **turn)
    _tidy(axis, "", suite["axis"], "")
    axis.set_title(f"{name} ({suite['n']} samples)", pad=34, loc="left")
    # Between title and panel: inside, the legend would cover curves.
    place = {"loc": "lower left", "bbox_to_anchor": (0, 1.0), "borderaxespad": 0.2}
    axis.legend(frameon=False, fontsize=8, ncol=3, **place)


def plot_robustness(path: Path, suites: dict[str, dict]) -> None:
    """One panel per suite, at most three per row. `suites` is the `suites` block of robustness.json."""
    n_columns = min(3, len(suites))
    n_rows = -(-len(suites) // n_columns)
    size = (5.2 * n_columns, 4 * n_rows)
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, squeeze=False, layout="constrained")
    for axis in axes.flat[len(suites) :]:
        axis.set_visible(False)
    for axis, (name, suite) in zip(axes.flat, suites.items()):
        _draw_suite(axis, name, suite)
    _save(figure, path)
