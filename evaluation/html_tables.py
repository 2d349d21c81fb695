"""Tables of the HTML page: cells with their intervals, and the paired differences to other models.

Everything here returns HTML. What a metric means is in docs/metrics.md.
"""

from html import escape

from evaluation.columns import format_interval, format_number
from evaluation.tables import all_models, strongest_baseline, verdict
from utils.metrics import DELTA_METRICS, HEADLINE

_ABOUT_DELTAS = (
    "On the same samples and resamples. A positive number means that the SFT model is better; "
    "tied: the interval includes 0. "
    "A true difference of the size under “detectable from” shows in four of five test sets."
)


# --- cells and tables


def _breakable(cell: str) -> str:
    """Metric names may break after an underscore, so that columns stay narrow."""
    return cell.replace("_", "_<wbr>")


def html_table(header: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already (escaped by the caller); scrolls sideways on a narrow screen."""
    head = "".join(f"<th>{_breakable(cell)}</th>" for cell in header)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        lines.append(f"<tr><td>{_breakable(first)}</td>{cells}</tr>")
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def metric_cell(metrics: dict, key: str) -> str:
    """A metric and, on the line under it, its interval."""
    interval = format_interval(metrics.get("ci95", {}).get(key))
    under = f'<span class="ci">{interval}</span>' if interval else ""
    return format_number(metrics[key]) + under


def headline_cells(metrics: dict) -> list[str]:
    return [metric_cell(metrics, key) for key in HEADLINE]


def _interval_svg(value: float, interval: list[float] | None) -> str:
    """A difference as a dot on a line from -1 to 1, its interval as a bar, zero marked."""

    def x(number: float) -> float:
        # The drawing is 170 wide: zero is at 85, and 1 is 80 away from it.
        return round(85 + 80 * max(-1.0, min(1.0, number)), 1)

    start = f'<svg class="interval" viewBox="0 0 170 18" role="img" aria-label="{value:+.3f}">'
    axis = '<line x1="5" x2="165" y1="9" y2="9" stroke="#d9dee3"/>'
    zero = '<line x1="85" x2="85" y1="1" y2="17" stroke="#5b6570"/>'
    bar = ""
    if interval:
        ends = f'x1="{x(interval[0])}" x2="{x(interval[1])}" y1="9" y2="9"'
        bar = f'<line {ends} stroke="#1c2024" stroke-width="2"/>'
    dot = f'<circle cx="{x(value)}" cy="9" r="4" fill="#0b57a4"/>'
    return f"{start}{axis}{zero}{bar}{dot}</svg>"


# --- differences


def _deltas(results: dict, other: str) -> str:
    """Paired differences of the SFT model to one other model."""
    deltas = results["deltas_to"][other]
    # A metric without samples on one side has no difference; the terminal says so, the page leaves it out.
    rows = []
    for key in DELTA_METRICS:
        value = deltas[key]
        if value is None:
            continue
        interval = deltas["ci95"][key]
        words = verdict(value, interval)
        color = {"better": "good", "worse": "bad"}.get(words, "soft")
        shown = format_interval(interval, sign=True) or "-"
        colored = f'<span class="{color}">{words}</span>'
        smallest = format_number(deltas["smallest_detectable"][key])
        drawn = _interval_svg(value, interval)
        rows.append([key, f"{value:+.3f}", shown, smallest, drawn, colored])
    table = html_table(["", "better by", "95% interval", "detectable from", "-1 to 1", ""], rows)

    models = all_models(results)
    sft, theirs = (format_number(models[name]["answered_rate"]) for name in ("sft", other))
    rates = f"Answered rate: sft {sft}, {escape(other)} {theirs}."
    return f"<h3>sft against {escape(other)}</h3>{table}<p class='soft'>{rates}</p>"


def all_deltas(results: dict) -> str:
    """The differences to the base model and the strongest baseline in view, the others folded away."""
    others = results.get("deltas_to", {})
    if not others:
        return ""
    strongest = strongest_baseline(results)
    in_view = [name for name in others if name in ("base", strongest)]
    folded = [name for name in others if name not in in_view]
    first = "".join(_deltas(results, name) for name in in_view)
    rest = "".join(_deltas(results, name) for name in folded)
    more = f"<details><summary>against {len(folded)} more</summary>{rest}</details>" if rest else ""
    return f"<h2>Differences</h2><p>{_ABOUT_DELTAS}</p>{first}{more}"
