"""The picture beside preference_stats_*.json: kinds and margins of the pairs, their form, judge and style.

It turns that file's numbers into charts. It defines no number, and knows nothing about how pairs are made.
"""

from evaluation.figures import CHANCE_OF_PAIRS, Chart, Line
from evaluation.palette import COLOR_OF

_SIDES = ("chosen", "rejected")
# Shares of judge_report, in words that fit under an axis.
_JUDGE_SHARES = {
    "verifier_agreement": "agrees with\nthe verifier",
    "longer_wins": "prefers\nthe longer",
    "longer_wins_verifier": "verifier\nprefers it",
    "p_label_a": "says A,\nnot B",
}
_STYLE = {"accuracy": "accuracy", "roc_auc": "ROC-AUC"}


def _share_line(name: str, color: str, shares: list[dict]) -> Line:
    """Values with intervals, {"mean", "ci95"} each, beside one another. A share of nothing has no point."""
    points = []
    bars = []
    for place, share in enumerate(shares):
        if share["mean"] is not None:
            points.append((float(place), share["mean"]))
            bars.append(share["ci95"])
    return Line(name, color, points, bars, joined=False)


def _shares_chart(title: str, line: Line, names: list[str], note: str) -> Chart:
    ends = (0.0, 1.0)
    places = (-0.4, len(names) - 0.6)
    return Chart(title, [line], x_names=names, x_range=places, y_range=ends, guide=CHANCE_OF_PAIRS, note=note)


def _counts_chart(title: str, counts: list[tuple[float, float]], note: str, **about) -> Chart:
    top = 1.05 * max(count for _, count in counts)
    line = Line("pairs", "blue", counts, stems=True)
    return Chart(title, [line], y_label="pairs", y_range=(0, top), note=note, **about)


def _kinds_chart(stats: dict) -> Chart:
    counts = [(float(place), float(n)) for place, n in enumerate(stats["by_kind"].values())]
    names = [kind.replace(" ", "\n", 1) for kind in stats["by_kind"]]
    ends = (-0.4, len(names) - 0.6)
    return _counts_chart("Pairs by kind", counts, f"{stats['n_pairs']:,} pairs", x_names=names, x_range=ends)


def _margins_chart(stats: dict) -> Chart:
    margins = stats["margins"]
    # In the middle of its tenth.
    counts = [((i + 0.5) / len(margins), float(n)) for i, n in enumerate(margins)]
    axis = "margin: score of the chosen minus that of the rejected"
    return _counts_chart("Margins", counts, f"mean {stats['mean_margin']:.2f}", x_label=axis, x_range=(0, 1))


def _form_chart(stats: dict, key: str, title: str, axis: str) -> Chart | None:
    """Shares of the completions up to a value, for both sides; None if no side has values."""
    lines = []
    for side in _SIDES:
        values = stats["form"][side][key]
        if values:
            points = [(value, i / (len(values) - 1)) for i, value in enumerate(values)]
            lines.append(Line(side, COLOR_OF[side], points))
    return Chart(title, lines, axis, "share up to here", y_range=(0, 1)) if lines else None


def preference_charts(stats: dict) -> list[Chart]:
    """The charts of a preference_stats_*.json; those of the judge and of style only where it has them."""
    charts = [_kinds_chart(stats), _margins_chart(stats)]
    for key, title, axis in (
        ("length", "Length of the completions", "characters"),
        ("confidence", "Stated confidence", "confidence"),
    ):
        chart = _form_chart(stats, key, title, axis)
        charts += [chart] if chart else []
    judge = stats.get("judge")
    if judge:
        line = _share_line("judge (95% interval)", "green", [judge[name] for name in _JUDGE_SHARES])
        note = f"{judge['p_label_a']['n']:,} comparisons"
        charts.append(_shares_chart("Judge model", line, list(_JUDGE_SHARES.values()), note))
    style = stats.get("style_only")
    if style:
        shares = [{"mean": style[name], "ci95": style.get(f"{name}_ci95")} for name in _STYLE]
        line = _share_line("style alone (95% interval)", "purple", shares)
        note = "held-out groups"
        charts.append(_shares_chart("What style alone tells", line, list(_STYLE.values()), note))
    return charts
