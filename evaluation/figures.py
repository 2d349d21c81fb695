"""What every picture shows: training curves, confidence, robustness, as lines with their names and colors.

The same charts are drawn twice: as PNG files by `plots.py`, and in the report as SVG. Where a line would tell
nothing, there are words in its place: a constant confidence.
"""

from dataclasses import dataclass, field

from evaluation.palette import colors_of
from utils.metrics import SELECTION_METRICS

# Random guessing between two completions.
CHANCE_OF_PAIRS = (0.5, "chance")
# -log sigmoid(0), the loss of a head that scores both completions alike, where no margin is asked for.
CHANCE_LOSS = 0.6931


@dataclass(frozen=True)
class Line:
    """One line of a chart. `bars`: a [low, high] per point, or None. `joined`: a line joins the points.

    `stems`: points are counts, drawn as bars from 0. The report's SVG, which has none, draws points.
    """

    name: str
    color: str
    points: list[tuple[float, float]]
    bars: list[list[float] | None] = field(default_factory=list)
    joined: bool = True
    stems: bool = False


@dataclass(frozen=True)
class Chart:
    """A chart before it is placed. `x_names`: names of the places 0, 1, ... on the x axis, for categories.

    `guide`: (value, label) of a dashed line, such as chance. `best`: (x, label) of a marked place.
    `diagonal`: label of a line from corner to corner, for two axes of the same range.
    `words`: what is said in place of lines.
    """

    title: str
    lines: list[Line]
    x_label: str = ""
    y_label: str = ""
    x_names: list[str] = field(default_factory=list)
    x_range: tuple[float, float] | None = None
    y_range: tuple[float, float] | None = None
    guide: tuple[float, str] | None = None
    best: tuple[float, str] | None = None
    diagonal: str = ""
    note: str = ""
    words: list[str] = field(default_factory=list)


def _lines(points_of: dict[str, list[tuple[float, float]]]) -> list[Line]:
    """A line for each name that has points, in its own color."""
    drawn = {name: points for name, points in points_of.items() if points}
    colors = colors_of(list(drawn))
    return [Line(name, color, points) for (name, points), color in zip(drawn.items(), colors)]


def _points(rows: list[dict], key: str) -> list[tuple[float, float]]:
    """(step, value) of the rows that have the value; a loss that became NaN is null in the file."""
    return [(row["step"], row[key]) for row in rows if row.get(key) is not None]


# --- training


def best_step(rows: list[dict], metric: str) -> float | None:
    """The first step with the best value: the lowest loss, or the highest of another metric."""
    points = _points(rows, metric)
    if not points:
        return None
    sign = 1 if metric.endswith("loss") else -1
    return min(points, key=lambda point: (sign * point[1], point[0]))[0]


def sft_charts(history: dict, n_rows: int | None = None) -> list[Chart]:
    """Loss on completion tokens and, if answers were generated during training, their metrics."""
    rows = history["eval_metrics"]
    training = history.get("config", {}).get("training", {})
    metric = training.get("metric_for_best") or "eval_loss"
    step = best_step(rows, metric)
    best = (step, f"best {metric.removeprefix('eval_')}, step {step:g}") if step is not None else None
    about = [f"{n_rows:,} rows"] if n_rows else []
    tokens = "completion tokens"
    share = training.get("skeleton_share", 1.0)
    if share < 1:
        # The two lines are means over other tokens, so the gap between them tells nothing.
        tokens = "labeled tokens"
        about.append(f"train: {share:.0%} of the rows have labels on the JSON around the answer; val: all")
    losses = _lines({"train": _points(history["train_losses"], "loss"), "val": _points(rows, "eval_loss")})
    generated = _lines({name.removeprefix("eval_"): _points(rows, name) for name in SELECTION_METRICS})
    charts = []
    if losses:
        charts.append(Chart(f"SFT: loss on {tokens}", losses, "step", best=best, note="; ".join(about)))
    # In a second chart: losses have no upper limit, these metrics are at most 1.
    if generated:
        charts.append(Chart("SFT: generated val answers", generated, "step", best=best))
    return charts


def reward_charts(history: dict, n_pairs: dict[str, int]) -> list[Chart]:
    """Bradley-Terry loss, and the metrics on the val pairs beside chance. `n_pairs`: pairs per split."""
    rows = history["eval_metrics"]
    # The checkpoint with the best ROC-AUC is kept, of equals the one with the lower loss. Kinds of pairs
    # weigh alike in it, but not in histories of earlier versions.
    kind = "macro_roc_auc" if all("macro_roc_auc" in row for row in rows) else "roc_auc"
    scored = [row for row in rows if row.get(kind) is not None and row.get("loss") is not None]
    kept = max(scored, key=lambda row: (row[kind], -row["loss"]), default=None)
    best = (kept["step"], f"best ROC-AUC, step {kept['step']:g}") if kept else None
    train: list[tuple[float, float]] = []
    for step, loss in enumerate(history["train_losses"], 1):
        train += [(step, loss)] if loss is not None else []
    losses = _lines({"train": train, "val": _points(rows, "loss")})
    names = {"roc_auc": "roc_auc", "accuracy": "accuracy", "macro_roc_auc": "roc_auc, kinds alike"}
    metrics = _lines({label: _points(rows, name) for name, label in names.items()})
    charts = []
    if losses:
        note = f"{n_pairs['train']:,} training pairs" if n_pairs.get("train") else ""
        title = "Reward model: Bradley-Terry loss"
        chance = (history.get("chance_loss", CHANCE_LOSS), "chance")
        charts.append(Chart(title, losses, "step", guide=chance, best=best, note=note))
    if metrics:
        note = f"{n_pairs['val']:,} val pairs" if n_pairs.get("val") else ""
        title = "Reward model: validation"
        whole = (0.0, 1.0)
        charts.append(
            Chart(title, metrics, "step", y_range=whole, guide=CHANCE_OF_PAIRS, best=best, note=note)
        )
    return charts


def calibration_charts(validation: dict) -> list[Chart]:
    """P(chosen preferred) beside how often it is right; `validation` is a validation.json.

    No chart for one of an earlier version, which has no bins.
    """
    if not validation.get("reliability"):
        return []
    points = [(row["confidence"], row["accuracy"]) for row in validation["reliability"]]
    lines = _lines({"head, test pairs": points})
    axes = ("P(higher score is chosen), from 0.5 on", "share of pairs where it is")
    whole: dict = {"x_range": (0.0, 1.0), "y_range": (0.0, 1.0)}
    title = "Reward model: calibration of P(chosen preferred)"
    note = f"{validation['n_test_pairs']:,} test pairs"
    return [Chart(title, lines, *axes, diagonal="ideal", note=note, **whole)]


# --- confidence


def _constant_words(name: str, curve: dict) -> str:
    stated = curve["reliability"][0]
    return (
        f"{name} states a confidence of {stated['confidence']:.2f} in each of its {stated['n']:,} answers, "
        f"of which {stated['accuracy']:.0%} are right: its confidence tells nothing about a single answer."
    )


def confidence_charts(curves: dict[str, dict]) -> list[Chart]:
    """Reliability and risk against coverage of stated confidence; `curves` is that block of a results file.

    A model that states one confidence in all answers gets a sentence in place of its points.
    """
    # One threshold keeps all answers or none, so there is one point.
    constant = [name for name, curve in curves.items() if len(curve["risk_coverage"]) == 1]
    words = [_constant_words(name, curves[name]) for name in constant]
    varying = [name for name in curves if name not in constant]
    reliable = []
    risks = []
    for name, color in zip(varying, colors_of(varying)):
        bins = curves[name]["reliability"]
        label = f"{name} ({sum(place['n'] for place in bins):,} answers)"
        points = [(place["confidence"], place["accuracy"]) for place in bins]
        kept = [(point["coverage"], point["risk"]) for point in curves[name]["risk_coverage"]]
        reliable.append(Line(label, color, points))
        risks.append(Line(label, color, kept))
    whole: dict = {"x_range": (0, 1), "y_range": (0, 1), "words": words}
    axes = ("stated confidence", "share of answers right with support")
    reliability = "Reliability of the stated confidence"
    risk_axes = ("coverage: share of answers kept", "risk: share of them wrong")
    return [
        Chart(reliability, reliable, *axes, diagonal="ideal", **whole),
        Chart("Risk against coverage", risks, *risk_axes, **whole),
    ]


# --- robustness


def _suite_line(suite: dict, metric: str, color: str, offset: float) -> Line | None:
    """One metric over the levels of a suite; None if no level has it."""
    points = []
    bars = []
    for place, level in enumerate(suite["levels"].values()):
        if level.get(metric) is not None:
            points.append((place + offset, level[metric]))
            bars.append((level.get("ci95") or {}).get(metric))
    # Only levels with an order (more chunks, less support) are joined.
    return Line(metric, color, points, bars, suite["ordered"]) if points else None


def suite_chart(name: str, suite: dict) -> Chart:
    """The plotted metrics of a suite over its levels."""
    metrics = suite["plotted"]
    lines = []
    for i, (metric, color) in enumerate(zip(metrics, colors_of(metrics))):
        # Beside each other, so that equal values do not hide one another.
        line = _suite_line(suite, metric, color, 0.07 * (i - (len(metrics) - 1) / 2))
        lines += [line] if line else []
    note = f"{suite['n']:,} samples"
    return Chart(name, lines, suite["axis"], x_names=list(suite["levels"]), note=note)
