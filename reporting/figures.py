"""The charts of a report, from the files' numbers to lines: training curves, confidence, robustness.

Where a line would tell nothing, there are words in its place: a constant confidence.
"""

from evaluation.palette import colors_of
from reporting.charts import Chart, Line, placed
from reporting.outputs import Run
from utils.jsonl import read_json_object
from utils.metrics import SELECTION_METRICS

# A picture of random guessing between two completions.
CHANCE_OF_PAIRS = (0.5, "chance")


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
    """The step of the evaluation with the best value: the lowest loss, or the highest of another metric."""
    points = _points(rows, metric)
    if not points:
        return None
    sign = 1 if metric.endswith("loss") else -1
    return min(points, key=lambda point: (sign * point[1], point[0]))[0]


def sft_charts(run: Run) -> list[dict]:
    """Loss on completion tokens and, if answers were generated during training, their metrics."""
    history = read_json_object(run.path / "training_history.json")
    rows = history["eval_metrics"]
    metric = str(run.manifest.get("metric_for_best") or "eval_loss")
    step = best_step(rows, metric)
    best = (step, f"best {metric.removeprefix('eval_')}, step {step:g}") if step is not None else None
    n_rows = run.manifest.get("n_rows")
    about = f"{n_rows:,} training rows" if isinstance(n_rows, int) else ""
    losses = _lines({"train": _points(history["train_losses"], "loss"), "val": _points(rows, "eval_loss")})
    generated = _lines({name.removeprefix("eval_"): _points(rows, name) for name in SELECTION_METRICS})
    charts = []
    if losses:
        charts.append(Chart("SFT: loss on completion tokens", losses, "step", best=best, note=about))
    if generated:
        charts.append(Chart("SFT: generated answers on val", generated, "step", best=best))
    return [placed(chart) for chart in charts]


def reward_charts(run: Run) -> list[dict]:
    """Bradley-Terry loss, and the metrics on the val pairs beside chance."""
    history = read_json_object(run.path / "training_history.json")
    rows = history["eval_metrics"]
    # The checkpoint with the best ROC-AUC is kept, of equals the one with the lower loss.
    scored = [row for row in rows if row.get("roc_auc") is not None and row.get("loss") is not None]
    kept = max(scored, key=lambda row: (row["roc_auc"], -row["loss"]), default=None)
    best = (kept["step"], f"best ROC-AUC, step {kept['step']:g}") if kept else None
    sizes = run.manifest.get("n_pairs") or {}
    train: list[tuple[float, float]] = []
    for step, loss in enumerate(history["train_losses"], 1):
        train += [(step, loss)] if loss is not None else []
    losses = _lines({"train": train, "val": _points(rows, "loss")})
    metrics = _lines({name: _points(rows, name) for name in ("roc_auc", "accuracy")})
    charts = []
    if losses:
        note = f"{sizes.get('train', '?')} training pairs"
        # A head that scores both completions alike has this loss.
        guide = (0.6931, "chance")
        charts.append(
            Chart("Reward model: Bradley-Terry loss", losses, "step", guide=guide, best=best, note=note)
        )
    if metrics:
        note = f"{sizes.get('val', '?')} val pairs"
        title = "Reward model: val pairs"
        charts.append(
            Chart(title, metrics, "step", y_range=(0, 1), guide=CHANCE_OF_PAIRS, best=best, note=note)
        )
    return [placed(chart) for chart in charts]


# --- confidence


def confidence_charts(results: dict, models: dict[str, dict]) -> tuple[list[dict], list[str]]:
    """(charts, sentences) about the stated confidence of the models' answers."""
    words = []
    varying = {}
    for name, curve in results["curves"].items():
        n = sum(place["n"] for place in curve["reliability"])
        if models[name].get("confidence_is_constant"):
            stated = curve["reliability"][0]
            words.append(
                f"{name} states a confidence of {stated['confidence']:.2f} on each of its {n:,} answers, and "
                f"{stated['accuracy']:.0%} of them are right: its confidence tells nothing about an answer."
            )
        else:
            varying[f"{name} ({n:,} answers)"] = (name, curve)
    if not varying:
        return [], words
    colors = colors_of([name for name, _ in varying.values()])
    reliable = []
    risks = []
    for (label, (_, curve)), color in zip(varying.items(), colors):
        bins = [(place["confidence"], place["accuracy"]) for place in curve["reliability"]]
        kept = [(point["coverage"], point["risk"]) for point in curve["risk_coverage"]]
        reliable.append(Line(label, color, bins))
        risks.append(Line(label, color, kept))
    whole: dict = {"x_range": (0, 1), "y_range": (0, 1)}
    charts = [
        Chart(
            "Reliability of the stated confidence",
            reliable,
            "stated confidence",
            "share right, with support",
            diagonal="calibrated",
            **whole,
        ),
        Chart("Risk against coverage", risks, "share of answers kept", "share of them wrong", **whole),
    ]
    return [placed(chart) for chart in charts], words


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


def robustness_charts(suites: dict[str, dict]) -> list[dict]:
    """One chart per suite, with a line per plotted metric."""
    charts = []
    for name, suite in suites.items():
        metrics = suite["plotted"]
        lines = []
        for i, (metric, color) in enumerate(zip(metrics, colors_of(metrics))):
            # Beside each other, so that equal values do not hide one another.
            line = _suite_line(suite, metric, color, 0.07 * (i - (len(metrics) - 1) / 2))
            lines += [line] if line else []
        if lines:
            levels = list(suite["levels"])
            note = f"{suite['n']} samples"
            charts.append(Chart(f"{name}", lines, suite["axis"], x_names=levels, note=note))
    return [placed(chart) for chart in charts]
