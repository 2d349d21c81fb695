"""The lead of the SFT model over every other, over all samples and by source: a mean may hide one source.

Nothing is computed here: the paired differences and their intervals are in the results file.
"""

from evaluation.columns import format_interval, format_table

# The metric that decides: it counts right answers, refusals and wrong answers at once, so that neither
# refusing everything nor answering everything wins.
DECIDES = "net_score"


def leads_by_part(results: dict) -> dict[str, dict]:
    """Part -> other model -> paired differences: all samples, and each source if there are several."""
    # Files of earlier versions have none by source.
    by_source = results.get("deltas_by_source", {})
    parts = {"all": results.get("deltas_to", {})}
    return parts | by_source if len(by_source) > 1 else parts


def is_above(deltas: dict, key: str = DECIDES) -> bool:
    """Whether the paired interval is above 0; without an interval nothing is known."""
    interval = deltas["ci95"][key]
    return interval is not None and interval[0] > 0


def n_above(parts: dict[str, dict], other: str) -> int:
    """The number of parts in which the SFT model leads another one."""
    return sum(is_above(deltas_to[other]) for deltas_to in parts.values())


def lead_cell(deltas: dict, key: str = DECIDES) -> tuple[str, str]:
    """(difference, interval) as text; `-` where there are no such samples."""
    value = deltas[key]
    if value is None:
        return "-", ""
    return f"{value:+.3f}", format_interval(deltas["ci95"][key], sign=True)


def lead_rows(results: dict) -> tuple[list[str], list[tuple[str, list[tuple[str, str]]]]]:
    """(header, rows (other model, cells)): where its lead is above 0, then the lead in each part.

    No rows without an SFT model, or with one source alone.
    """
    parts = leads_by_part(results)
    if len(parts) < 2:
        return [], []
    rows = []
    for other in parts["all"]:
        count = (f"{n_above(parts, other)} of {len(parts)}", "")
        rows.append((other, [count, *(lead_cell(deltas_to[other]) for deltas_to in parts.values())]))
    return ["above 0 in", *parts], rows


def lead_table(results: dict) -> str:
    """The leads in net score as text; empty with one source."""
    header, rows = lead_rows(results)
    if not rows:
        return ""
    cells = [[other, *(" ".join(cell).strip() for cell in found)] for other, found in rows]
    table = format_table([f"{DECIDES} lead over", *header], cells)
    return f"{table}\nabove 0 in: parts with a paired 95% interval above 0 (none under 20 groups)"
