"""Plots of an evaluation as PNG: reliability, risk against coverage, robustness curves."""

import io
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils.jsonl import atomic_write

# Colours that stay apart for colour-blind readers (Okabe and Ito, 2008); marks differ as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKS = "osD^vPX"


def _tidy(axis, title: str, xlabel: str, ylabel: str) -> None:
    axis.set(title=title, xlabel=xlabel, ylabel=ylabel)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _draw_reliability(axis, curves: dict[str, dict]) -> None:
    """Accuracy against stated confidence; the size of a mark grows with the answers in its bin."""
    axis.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=1, label="calibrated")
    for i, (name, curve) in enumerate(curves.items()):
        bins = curve["reliability"]
        most = max(b["n"] for b in bins)
        axis.plot(
            [b["confidence"] for b in bins], [b["accuracy"] for b in bins], color=COLOURS[i % 7], linewidth=1
        )
        sizes = [20 + 100 * b["n"] / most for b in bins]
        axis.scatter(
            [b["confidence"] for b in bins],
            [b["accuracy"] for b in bins],
            s=sizes,
            color=COLOURS[i % 7],
            marker=MARKS[i % 7],
            label=name,
            alpha=0.8,
        )
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    _tidy(
        axis,
        "Reliability of the stated confidence",
        "stated confidence",
        "share of answers right with support",
    )


def _draw_risk(axis, curves: dict[str, dict]) -> None:
    for i, (name, curve) in enumerate(curves.items()):
        points = curve["risk_coverage"]
        style = {
            "color": COLOURS[i % 7],
            "marker": MARKS[i % 7],
            "markersize": 4,
            "linewidth": 1.2,
            "label": name,
        }
        axis.plot([p["coverage"] for p in points], [p["risk"] for p in points], **style)
    axis.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03))
    _tidy(
        axis,
        "Risk when only the most confident answer",
        "coverage: share of answers kept",
        "risk: share of them wrong",
    )


_PANELS = {"reliability": _draw_reliability, "risk_coverage": _draw_risk}


def _legend(axis) -> None:
    if axis.get_legend_handles_labels()[0]:
        axis.legend(frameon=False, fontsize=8)


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
    with atomic_write(path, "wb") as handle:
        figure.savefig(handle, dpi=120, format="png")
    plt.close(figure)


def plot_robustness(path: Path, suites: dict[str, dict]) -> None:
    """One panel a suite: each metric over the levels, with its 95% interval. `suites` is the `suites` block of robustness.json."""
    n_columns = min(3, len(suites))
    n_rows = -(-len(suites) // n_columns)
    figure, axes = plt.subplots(
        n_rows, n_columns, figsize=(5.2 * n_columns, 4 * n_rows), squeeze=False, layout="constrained"
    )
    for axis in axes.flat[len(suites) :]:
        axis.set_visible(False)
    for axis, (name, suite) in zip(axes.flat, suites.items()):
        labels = list(suite["levels"])
        for i, metric in enumerate(suite["plotted"]):
            known = [
                (x, level[metric], level["ci95"].get(metric))
                for x, level in enumerate(suite["levels"].values())
                if level.get(metric) is not None
            ]
            if not known:
                continue
            x = [k[0] for k in known]
            y = [k[1] for k in known]
            bars = [
                [max(0.0, v - (ci or [v, v])[0]) for _, v, ci in known],
                [max(0.0, (ci or [v, v])[1] - v) for _, v, ci in known],
            ]
            style = {
                "color": COLOURS[i % 7],
                "marker": MARKS[i % 7],
                "markersize": 4,
                "capsize": 2,
                "elinewidth": 0.8,
            }
            # Side by side, so that equal figures do not hide one another.
            x = [place + 0.05 * (i - (len(suite["plotted"]) - 1) / 2) for place in x]
            axis.errorbar(
                x, y, yerr=bars, label=metric, linestyle="-" if suite["ordered"] else "none", **style
            )
        axis.set_xticks(
            range(len(labels)),
            labels,
            rotation=30 if max(map(len, labels)) > 8 else 0,
            ha="right" if max(map(len, labels)) > 8 else "center",
        )
        _tidy(axis, "", suite["axis"], "")
        axis.set_title(f"{name} ({suite['n']} samples)", pad=34, loc="left")
        axis.legend(
            frameon=False, fontsize=8, ncol=3, loc="lower left", bbox_to_anchor=(0, 1.0), borderaxespad=0.2
        )
    with atomic_write(path, "wb") as handle:
        figure.savefig(handle, dpi=120, format="png")
    plt.close(figure)


def plot_curves(path: Path, panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """One panel a title, one line a name; points are (step, value)."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (title, lines) in zip(axes[0], panels.items()):
        for name, points in lines.items():
            if points:
                axis.plot(*zip(*points), marker="o" if len(points) < 30 else None, markersize=3, label=name)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    with atomic_write(path, "wb") as handle:
        figure.savefig(handle, dpi=120, format="png")
    plt.close(figure)
