"""Pictures as PNG files: training curves, reliability, risk against coverage, robustness curves.

It draws the charts of `figures.py`: no metric is defined here, and no color chosen.
"""

import textwrap
from pathlib import Path

from evaluation.figures import Chart, Line, confidence_charts, suite_chart
from evaluation.palette import COLORS
from utils.atomic import atomic_write
from utils.terminal import literal

# Markers differ as colors do, for a print in gray.
MARKERS = "osD^vPX"
# Labels of levels that are longer than this are turned, or they would overlap.
_MAX_FLAT_LABEL = 8
# With more points than this, markers would hide the line.
_MAX_MARKED_POINTS = 30
_TITLE_COLUMNS = 52
_GUIDE = {"color": "0.45", "linestyle": "--", "linewidth": 1}


def _draw_line(axis, line: Line, i: int) -> None:
    x, y = zip(*line.points)
    style: dict = {
        "color": COLORS[line.color],
        "label": literal(line.name),
        "linewidth": 1.3,
        "markersize": 4,
    }
    if len(line.points) <= _MAX_MARKED_POINTS:
        style["marker"] = MARKERS[i % len(MARKERS)]
    if line.stems:
        # Counts: the axis says of what.
        axis.vlines(x, 0, y, color=style["color"], linewidth=9)
        return
    if not line.joined:
        style["linestyle"] = "none"
    if not any(line.bars):
        axis.plot(x, y, **style)
        return
    ends = [bar or [value, value] for bar, value in zip(line.bars, y)]
    # A value can be outside its percentile interval; matplotlib accepts no negative bar.
    below = [max(0.0, value - low) for value, (low, _) in zip(y, ends)]
    above = [max(0.0, high - value) for value, (_, high) in zip(y, ends)]
    axis.errorbar(x, y, yerr=[below, above], capsize=2, elinewidth=0.8, **style)


def _draw_guides(axis, chart: Chart) -> None:
    """What the lines are compared with: chance, calibration, the step of the best checkpoint."""
    if chart.guide:
        axis.axhline(chart.guide[0], label=chart.guide[1], **_GUIDE)
    if chart.diagonal:
        axis.plot([0, 1], [0, 1], label=chart.diagonal, **_GUIDE)
    if chart.best:
        axis.axvline(chart.best[0], color="0.45", linestyle=":", linewidth=1.3, label=chart.best[1])


def _is_turned(chart: Chart) -> bool:
    # Names that are broken into lines already fit.
    whole = [name for name in chart.x_names if "\n" not in name]
    return max(map(len, whole), default=0) > _MAX_FLAT_LABEL


def _draw_axes(axis, chart: Chart) -> None:
    title = f"{chart.title} ({chart.note})" if chart.note else chart.title
    axis.set_title(textwrap.fill(literal(title), _TITLE_COLUMNS), fontsize=11, loc="left")
    axis.set(xlabel=literal(chart.x_label), ylabel=literal(chart.y_label))
    # A little more than the range: a point on its edge is a whole point.
    for limits, set_limits in ((chart.x_range, axis.set_xlim), (chart.y_range, axis.set_ylim)):
        if limits:
            set_limits(limits[0] - 0.03, limits[1] + 0.03)
    if chart.x_names:
        turn = {"rotation": 30, "ha": "right"} if _is_turned(chart) else {}
        axis.set_xticks(range(len(chart.x_names)), [literal(name) for name in chart.x_names], **turn)
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def draw(axis, chart: Chart) -> None:
    """One chart into one panel; its words in the middle if it has no lines."""
    _draw_axes(axis, chart)
    words = "\n".join(textwrap.fill(sentence, 40) for sentence in chart.words)
    if not chart.lines:
        nothing = words or "no answer states a confidence"
        axis.text(0.5, 0.5, nothing, ha="center", va="center", transform=axis.transAxes, fontsize=9)
        return
    _draw_guides(axis, chart)
    for i, line in enumerate(chart.lines):
        _draw_line(axis, line, i)
    if not axis.get_legend_handles_labels()[0]:
        return
    # Below the panel, where it covers no curve, and below the names of levels.
    place = {"loc": "upper left", "bbox_to_anchor": (0, -0.42 if _is_turned(chart) else -0.2), "ncol": 2}
    axis.legend(frameon=False, fontsize=8, title=words or None, title_fontsize=8, **place)


def plot_charts(path: Path, charts: list[Chart]) -> None:
    """All charts in one file, at most three in a row. Without a chart there is no file."""
    if not charts:
        return
    # Half a second, which a run that draws nothing need not wait for. A figure by itself needs no display.
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    n_columns = min(3, len(charts))
    n_rows = -(-len(charts) // n_columns)
    size = (5.2 * n_columns, 4.6 * n_rows)
    # A source or model may be named with two dollar signs, and what is between them is no formula.
    with rc_context({"text.parse_math": False}):
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(n_rows, n_columns, squeeze=False)
        for axis in axes.flat[len(charts) :]:
            axis.set_visible(False)
        for axis, chart in zip(axes.flat, charts):
            draw(axis, chart)
        with atomic_write(path, "wb") as handle:
            figure.savefig(handle, dpi=120, format="png")


def plot_calibration(path: Path, curves: dict[str, dict]) -> None:
    """Reliability and risk against coverage; `curves` is the `curves` block of a results file."""
    plot_charts(path, confidence_charts(curves))


def plot_robustness(path: Path, suites: dict[str, dict]) -> None:
    """One panel per suite. `suites` is the `suites` block of robustness.json."""
    plot_charts(path, [suite_chart(name, suite) for name, suite in suites.items()])
