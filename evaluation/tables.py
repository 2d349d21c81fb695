"""A results object as text for a terminal: metrics of every model, differences with intervals, slices.

Nothing is computed here; what a metric means is in docs/metrics.md.
"""

from evaluation.columns import format_interval, format_number, format_table, metric_table
from evaluation.leads import lead_table
from evaluation.results import MAIN_MODELS, ONE_ORDER, WITHOUT_MODEL
from utils.metrics import DELTA_METRICS, HEADLINE, LOWER_IS_BETTER


def verdict(difference: float, interval: list[float] | None) -> str:
    """How a paired difference reads: an interval that includes 0 says tied, only another better or worse."""
    if interval is None:
        return "no interval: under 20 groups"
    if interval[0] <= 0 <= interval[1]:
        return "tied"
    return "better" if difference > 0 else "worse"


def all_models(results: dict) -> dict[str, dict]:
    """Name -> metrics of every model and baseline, the main models first."""
    main = {name: results[name] for name in MAIN_MODELS if name in results}
    return main | results["baselines"]


def strongest_baseline(results: dict) -> str | None:
    """The baseline without a language model that has the best net score: the one to beat."""
    names = [name for name in WITHOUT_MODEL if name in results["baselines"]]
    return max(names, key=lambda name: results["baselines"][name]["net_score"], default=None)


def headline_table(results: dict) -> str:
    """The headline metrics, one column per model or baseline."""
    return metric_table(f"{_n_samples(results)} samples", all_models(results))


def _n_samples(results: dict) -> int:
    return next(iter(all_models(results).values()))["n"]


def interval_table(results: dict, name: str) -> str:
    """The headline metrics of one model and their means over sources, with their intervals."""
    metrics = results[name]
    macro = metrics.get("macro", {}) if len(results["by_source"]) > 1 else {}
    # Every metric has its interval in the file; these are the ones that a reader compares.
    rows = []
    for key in (*HEADLINE, "trust_score", "ece", "brier", "aurc"):
        row = [key, format_number(metrics[key]), format_interval(metrics["ci95"][key]) or "-"]
        if macro:
            # Files of before have means without intervals.
            interval = macro.get("ci95", {}).get(key)
            row += [format_number(macro.get(key)), format_interval(interval) or "-"]
        rows.append(row)
    header = [name, "value", "95% interval"]
    return format_table([*header, "mean of sources", "95% interval"] if macro else header, rows)


# One stands among the values and the other among the differences.
BOTH_EM = "em counts right answers and right refusals; em_answerable right answers alone"

# Columns of `delta_rows` after the first.
DELTA_HEADER = ("better by", "95% interval", "detectable from", "")


def delta_rows(deltas: dict) -> list[list[str]]:
    """[metric, difference, interval, smallest detectable difference, verdict] of each of DELTA_METRICS."""
    rows = []
    for name in DELTA_METRICS:
        value = deltas[name]
        if value is None:
            rows.append([name, "-", "-", "-", "no such samples"])
            continue
        interval = deltas["ci95"][name]
        shown = format_interval(interval, sign=True) or "-"
        smallest = format_number(deltas["smallest_detectable"][name])
        # The reason is in the line below the table: in a cell it would make the table too wide.
        words = verdict(value, interval) if interval else "no interval"
        rows.append([name, f"{value:+.3f}", shown, smallest, words])
    return rows


def titled_deltas(title: str, deltas: dict) -> str:
    """A table of paired differences under its title."""
    table = format_table(["", *DELTA_HEADER], delta_rows(deltas))
    # All metrics are about the same groups, so either all have an interval or none has.
    reason = "" if any(deltas["ci95"].values()) else f"\n{verdict(0.0, None)}"
    return f"{title}\n{table}{reason}"


def delta_table(results: dict, other: str) -> str:
    """SFT model minus another model, signed so that positive is better, with both answered rates below."""
    models = all_models(results)
    table = titled_deltas(f"sft against {other}", results["deltas_to"][other])
    # A model that answers nothing hallucinates nothing: without these rates silence would look safe.
    sft, theirs = (format_number(models[name]["answered_rate"]) for name in ("sft", other))
    rates = f"answered_rate: sft {sft}, {other} {theirs} (read hallucination_rate with it)"
    return f"{table}\n{rates}"


def macro_table(results: dict) -> str:
    """The headline metrics of every model as means over sources; empty with one source."""
    n_sources = len(results["by_source"])
    if n_sources < 2:
        return ""
    macro = {name: metrics["macro"] for name, metrics in all_models(results).items()}
    return metric_table(f"mean of {n_sources} sources", macro)


def slice_table(parts: dict[str, dict], dimension: str, name: str) -> str:
    """The headline metrics of one model in each part of a slice; `parts`: part -> model -> metrics."""
    columns = {f"{part} ({found[name]['n']})": found[name] for part, found in parts.items()}
    return metric_table(f"{name} by {dimension} (n)", columns)


def selective_line(selective: dict) -> str:
    """Effect of the confidence threshold: one line for its choice on val, one per model for the test set."""
    first = f"answers below {selective['kind']} confidence {selective['threshold']:.3f} count as refusals"
    if "val" in selective:
        val = selective["val"]
        kept = f"precision {val['precision']:.3f} of {val['n_kept']} answers kept"
        first += f" (on val: {kept}, coverage {val['coverage']:.3f})"
    lines = [first]
    for name, test in selective["test"].items():
        kept = f"{test['n_kept']} answers kept of {test['n_answers']}"
        lines.append(f"  {name}: precision {format_number(test['precision'])} of {kept}")
    return "\n".join(lines)


def _constant_confidence(results: dict) -> str:
    """A warning that names the main models whose answers all state the same confidence; else empty."""
    models = all_models(results)
    constant = [name for name in MAIN_MODELS if name in models and models[name]["confidence_is_constant"]]
    if not constant:
        return ""
    return f"constant confidence: {', '.join(constant)} (ECE, Brier score and AURC say little)"


def results_text(results: dict) -> str:
    """All tables of one run, separated by blank lines."""
    # sft if present: a file for --predictions can contain any names.
    main = next(iter(all_models(results)))
    blocks = [headline_table(results), macro_table(results)]
    # Without a main model the first name is a baseline, whose metrics are one level down; it gets no table.
    if main in results:
        blocks.append(interval_table(results, main))
    if "deltas" in results:
        blocks.append(delta_table(results, "base"))
    if ONE_ORDER in results.get("deltas_to", {}):
        blocks.append(delta_table(results, ONE_ORDER))
    strongest = strongest_baseline(results)
    if strongest and "deltas_to" in results:
        blocks.append(delta_table(results, strongest))
    blocks.append(lead_table(results))
    if "selective" in results:
        blocks.append(selective_line(results["selective"]))

    # Beside each other, because a lead over all sources may come from one of them.
    for name in dict.fromkeys(filter(None, (main, strongest))):
        blocks.append(slice_table(results["by_source"], "source", name))
    for dimension, parts in results["slices"].items():
        # A slice with one part repeats the whole test set.
        if len(parts) > 1:
            blocks.append(slice_table(parts, dimension, main))

    blocks.append(_constant_confidence(results))
    lowers = [key for key in HEADLINE if key in LOWER_IS_BETTER]
    blocks.append(f"lower is better: {', '.join(lowers)}\n{BOTH_EM}\ndocs/metrics.md explains each metric")
    return "\n\n".join(block for block in blocks if block)
