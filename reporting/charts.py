"""Line charts as numbers in the coordinates of an SVG; the templates draw them.

What is drawn is decided in `evaluation/figures.py`, for this page and for the PNG files alike.
"""

import math
from dataclasses import dataclass

from evaluation.figures import Chart

# As wide as the text column of a phone, so that letters keep their size there.
WIDTH = 360
HEIGHT = 230
_LEFT = 44
_RIGHT = 10
_TOP = 10
_BOTTOM = 40


def nice_ticks(low: float, high: float, n_wanted: int = 5) -> list[float]:
    """Round numbers from at most `low` to at least `high`, a step of 1, 2 or 5 times a power of 10 apart."""
    if not high > low:
        # All values are the same: it comes into the middle.
        low -= 0.5
        high = low + 1.0
    raw = (high - low) / n_wanted
    power = 10 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * 0.999)
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [round(i * step, 10) for i in range(first, last + 1)]


@dataclass(frozen=True)
class _Axis:
    """A linear axis: numbers from `low` to `high`, placed from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        share = (value - self.low) / (self.high - self.low)
        return round(self.start + share * (self.end - self.start), 1)


def _y_values(chart: Chart) -> list[float]:
    values = [y for line in chart.lines for _, y in line.points]
    for line in chart.lines:
        for bar in line.bars:
            values += bar or []
    return values + ([chart.guide[0]] if chart.guide else [])


def _x_axis(chart: Chart) -> tuple[_Axis, list[tuple[float, str]]]:
    """(the axis, its ticks as (place, label))."""
    ends = (_LEFT, WIDTH - _RIGHT)
    if chart.x_names:
        axis = _Axis(-0.5, len(chart.x_names) - 0.5, *ends)
        return axis, [(axis.place(i), name) for i, name in enumerate(chart.x_names)]
    values = chart.x_range or [x for line in chart.lines for x, _ in line.points]
    numbers = nice_ticks(min(values), max(values), 4)
    axis = _Axis(numbers[0], numbers[-1], *ends)
    return axis, [(axis.place(number), f"{number:,g}") for number in numbers]


def placed(chart: Chart) -> dict:
    """The chart with all coordinates, as its template needs them. Every line has at least one point."""
    low, high = chart.y_range or (min(_y_values(chart)), max(_y_values(chart)))
    numbers = nice_ticks(low, high)
    y_axis = _Axis(numbers[0], numbers[-1], HEIGHT - _BOTTOM, _TOP)
    x_axis, x_ticks = _x_axis(chart)
    lines = []
    for line in chart.lines:
        dots = [(x_axis.place(x), y_axis.place(y)) for x, y in line.points]
        bars = []
        for (x, _), bar in zip(line.points, line.bars):
            if bar:
                bars.append((x_axis.place(x), y_axis.place(bar[0]), y_axis.place(bar[1])))
        path = " ".join(f"{x},{y}" for x, y in dots) if line.joined else ""
        lines.append({"name": line.name, "color": line.color, "dots": dots, "bars": bars, "path": path})
    return {
        "chart": chart,
        "width": WIDTH,
        "height": HEIGHT,
        "left": _LEFT,
        "right": WIDTH - _RIGHT,
        "top": _TOP,
        "bottom": HEIGHT - _BOTTOM,
        "x_ticks": x_ticks,
        "y_ticks": [(y_axis.place(number), f"{number:g}") for number in numbers],
        "lines": lines,
        # Many dots on a line hide it.
        "with_dots": max(len(line.points) for line in chart.lines) <= 40,
        "guide": y_axis.place(chart.guide[0]) if chart.guide else None,
        "best": x_axis.place(chart.best[0]) if chart.best else None,
        "turned": bool(chart.x_names) and max(map(len, chart.x_names)) * len(chart.x_names) > 40,
    }
