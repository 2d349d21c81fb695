"""The tables of a report as rows of numbers and words: outcomes, differences, metrics, slices, pairs.

Nothing is escaped here: the templates do that.
"""

from evaluation.columns import format_interval, format_number
from evaluation.leads import DECIDES, lead_rows
from evaluation.tables import all_models, strongest_baseline, verdict
from utils.metrics import DELTA_METRICS, HEADLINE, LOWER_IS_BETTER

# The outcomes of a sample in the order of a bar, good ones first, with the class of their color.
OUTCOMES = {
    "right answer": "o1",
    "right refusal": "o2",
    "over-refusal": "o3",
    "right answer, wrong support": "o4",
    "wrong answer": "o5",
    "answered the unanswerable": "o6",
    "unparsable": "o7",
}


def outcome_counts(metrics: dict, n_answerable: int) -> dict[str, int]:
    """Outcome -> number of samples of one model, from its rates alone."""
    n = metrics["n"]
    refused = metrics["refusal_rate"] * n
    over_refused = (metrics["over_refusal_rate"] or 0.0) * n_answerable
    counts = {
        "right answer": (metrics["answered_rate"] - metrics["hallucination_rate"]) * n,
        "right refusal": refused - over_refused,
        "over-refusal": over_refused,
        "right answer, wrong support": metrics["hallucination_unsupported"] * n,
        "wrong answer": metrics["hallucination_wrong"] * n,
        "answered the unanswerable": metrics["hallucination_unanswerable"] * n,
        "unparsable": metrics["unparsable_rate"] * n,
    }
    return {name: round(count) for name, count in counts.items()}


def outcome_bars(results: dict) -> list[dict]:
    """One bar per model: its name and the parts (outcome, class, count, start and width in percent)."""
    parts_of = results["slices"].get("answerability", {})
    bars = []
    for name, metrics in all_models(results).items():
        n_answerable = parts_of.get("answerable", {}).get(name, {"n": 0})["n"]
        start = 0.0
        parts = []
        for outcome, count in outcome_counts(metrics, n_answerable).items():
            width = 100 * count / metrics["n"]
            if count:
                parts.append((outcome, OUTCOMES[outcome], count, round(start, 3), round(width, 3)))
            start += width
        bars.append({"name": name, "parts": parts})
    return bars


# --- differences


def _difference_rows(deltas: dict) -> tuple[list[dict], str]:
    """(the paired differences that exist, each with its interval on the scale of all of them, the scale)."""
    names = [name for name in DELTA_METRICS if deltas[name] is not None]
    ends = [0.0]
    for name in names:
        ends += [deltas[name], *(deltas["ci95"][name] or [])]
    low = min(ends)
    width = max(ends) - low or 1.0

    def place(value: float) -> float:
        # The drawing is 200 wide, with room for a dot at both ends.
        return round(8 + 184 * (value - low) / width, 1)

    rows = []
    for name in names:
        interval = deltas["ci95"][name]
        words = verdict(deltas[name], interval)
        rows.append(
            {
                "name": name,
                "value": f"{deltas[name]:+.3f}",
                "interval": format_interval(interval, sign=True),
                "smallest": format_number(deltas["smallest_detectable"][name]),
                "words": words,
                "color": {"better": "good", "worse": "bad"}.get(words, "soft"),
                "dot": place(deltas[name]),
                "bar": [place(end) for end in interval] if interval else [],
                "zero": place(0.0),
            }
        )
    return rows, f"{low:+.2f} to {max(ends):+.2f}"


def difference_tables(results: dict) -> list[dict]:
    """A table per opponent of the SFT model; those that the verdict names first, the others `folded`."""
    strongest = strongest_baseline(results)
    models = all_models(results)
    tables = []
    for name, deltas in results.get("deltas_to", {}).items():
        sft, theirs = (format_number(models[model]["answered_rate"]) for model in ("sft", name))
        rows, scale = _difference_rows(deltas)
        tables.append(
            {
                "other": name,
                "rows": rows,
                "scale": scale,
                "rates": f"Answered rate: sft {sft}, {name} {theirs}.",
                "folded": name not in ("base", strongest),
            }
        )
    return sorted(tables, key=lambda table: table["folded"])


def leads(results: dict) -> dict | None:
    """The lead in net score over every other model, a column per source; None with one source."""
    header, rows = lead_rows(results)
    if not rows:
        return None
    shown = [(other, False, cells) for other, cells in rows]
    return {"title": f"{DECIDES} lead over", "header": header, "rows": shown}


# --- metrics


def _cell(metrics: dict, key: str) -> tuple[str, str]:
    """(value, interval) of a metric as text."""
    return format_number(metrics.get(key)), format_interval((metrics.get("ci95") or {}).get(key))


def metric_rows(columns: dict[str, dict], keys=HEADLINE) -> dict:
    """{"header": names, "rows": (metric, is lower better, cells)}; `columns`: name -> metrics."""
    rows = []
    for key in keys:
        rows.append((key, key in LOWER_IS_BETTER, [_cell(metrics, key) for metrics in columns.values()]))
    return {"header": list(columns), "rows": rows}


def headline(results: dict) -> dict:
    return metric_rows(all_models(results))


def macro(results: dict) -> dict | None:
    """Means over sources, in which a large source does not decide; None with one source."""
    if len(results["by_source"]) < 2:
        return None
    return metric_rows({name: metrics["macro"] for name, metrics in all_models(results).items()})


def slices(results: dict, main: str) -> list[tuple[str, dict]]:
    """(dimension, table) of one model: a column per part."""
    found = []
    for dimension, parts in {"source": results["by_source"], **results["slices"]}.items():
        columns = {}
        for part, models in parts.items():
            has_intervals = any((models[main].get("ci95") or {}).values())
            reason = "" if has_intervals else ", under 20 groups: no intervals"
            columns[f"{part} ({models[main]['n']}{reason})"] = models[main]
        # A slice with one part repeats the whole test set.
        if len(columns) > 1:
            found.append((dimension, metric_rows(columns)))
    return found


def confidence(results: dict) -> dict | None:
    """Confidence metrics of the models whose answers state one."""
    models = {name: metrics for name, metrics in all_models(results).items() if name in results["curves"]}
    return metric_rows(models, ("ece", "ece_calibrated", "brier", "aurc")) if models else None


def reward_scores(validation: dict) -> dict:
    """Accuracy and ROC-AUC of the reward and of what it must beat, on the test pairs."""
    return metric_rows(validation["test"], ("accuracy", "roc_auc"))
