"""A results object as text for a terminal: every model's headline figures, differences with intervals, slices."""

from evaluation.results import MAIN_MODELS
from utils.metrics import DELTA_METRICS, HEADLINE, LOWER_IS_BETTER


def format_number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Columns padded to their widest cell, the first to the left, the others to the right."""
    widths = [max(len(str(row[i])) for row in [header, *rows]) for i in range(len(header))]
    lines = []
    for row in [header, ["-" * width for width in widths], *rows]:
        lines.append(
            "  ".join(
                str(cell).ljust(width) if i == 0 else str(cell).rjust(width)
                for i, (cell, width) in enumerate(zip(row, widths))
            )
        )
    return "\n".join(lines)


def all_models(results: dict) -> dict[str, dict]:
    """Name -> metrics of every model and baseline, the main models first."""
    return {name: results[name] for name in MAIN_MODELS if name in results} | results["baselines"]


def format_interval(interval: list[float] | None, sign: bool = False) -> str:
    """`[0.123, 0.456]`, with + and - for differences; empty without one."""
    if interval is None:
        return ""
    low, high = (f"{value:+.3f}" if sign else f"{value:.3f}" for value in interval)
    return f"[{low}, {high}]"


def headline_table(results: dict) -> str:
    rows = [
        [name, *(format_number(metrics[key]) for key in HEADLINE)]
        for name, metrics in all_models(results).items()
    ]
    return format_table(["", *HEADLINE], rows)


def interval_table(results: dict, name: str) -> str:
    """The headline figures of one model with their intervals."""
    metrics = results[name]
    rows = [
        [key, format_number(metrics[key]), format_interval(metrics["ci95"][key]) or "-"]
        for key in (*HEADLINE, "trust_score", "ece", "brier", "aurc")
    ]
    return format_table([name, "value", "95% interval"], rows)


def verdict(difference: float, interval: list[float] | None) -> str:
    """How a paired difference reads: only an interval that excludes 0 says better or worse."""
    if interval is None:
        return "no interval: under 20 groups"
    if interval[0] <= 0 <= interval[1]:
        return "interval includes 0"
    return "better" if difference > 0 else "worse"


def delta_rows(deltas: dict) -> list[list[str]]:
    """[metric, difference, interval, verdict] of the metrics worth a line."""
    rows = []
    for name in DELTA_METRICS:
        value = deltas[name]
        interval = deltas["ci95"][name]
        if value is None:
            rows.append([name, "-", "-", "no such samples"])
            continue
        shown = format_interval(interval, sign=True) or "-"
        rows.append([name, f"{value:+.3f}", shown, verdict(value, interval)])
    return rows


def delta_table(results: dict, other: str) -> str:
    """SFT model minus another, signed so that positive is better, with both answered rates below: silence must not look safe."""
    models = all_models(results)
    table = format_table(
        [f"sft against {other}", "better by", "95% interval", ""], delta_rows(results["deltas_to"][other])
    )
    rates = [format_number(models[name]["answered_rate"]) for name in ("sft", other)]
    return (
        f"{table}\nanswered_rate: sft {rates[0]}, {other} {rates[1]} (read the hallucination_rate beside it)"
    )


def slice_table(parts: dict[str, dict], dimension: str, name: str) -> str:
    rows = [
        [part, str(found[name]["n"]), *(format_number(found[name][key]) for key in HEADLINE)]
        for part, found in parts.items()
    ]
    return format_table([f"{name} by {dimension}", "n", *HEADLINE], rows)


def selective_line(selective: dict) -> str:
    lines = [f"answers below {selective['kind']} confidence {selective['threshold']:.3f} count as refusals"]
    if "val" in selective:
        val = selective["val"]
        lines[0] += (
            f" (on val: precision {val['precision']:.3f} of {val['n_kept']} answers kept, coverage {val['coverage']:.3f})"
        )
    for name, test in selective["test"].items():
        lines.append(
            f"  {name}: precision {format_number(test['precision'])} of {test['n_kept']} answers kept of {test['n_answers']}"
        )
    return "\n".join(lines)


def results_text(results: dict) -> str:
    """All tables of one run."""
    main = next(iter(all_models(results)))
    blocks = [headline_table(results), interval_table(results, main) if main in results else ""]
    if "deltas" in results:
        blocks.append(delta_table(results, "base"))
    if "selective" in results:
        blocks.append(selective_line(results["selective"]))
    blocks.append(slice_table(results["by_source"], "source", main))
    blocks += [
        slice_table(parts, dimension, main)
        for dimension, parts in results["slices"].items()
        if len(parts) > 1
    ]
    constant = [
        name
        for name, metrics in all_models(results).items()
        if name in MAIN_MODELS and metrics["confidence_is_constant"]
    ]
    if constant:
        blocks.append(f"constant confidence: {', '.join(constant)} (ECE, Brier score and AURC say little)")
    lowers = [key for key in HEADLINE if key in LOWER_IS_BETTER]
    blocks.append(f"lower is better: {', '.join(lowers)}; docs/metrics.md explains each figure")
    return "\n\n".join(block for block in blocks if block)
