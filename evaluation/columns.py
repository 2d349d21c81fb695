"""Numbers, intervals and aligned columns for a terminal. No table is wider than one.

It knows no results file; `tables.py` decides what is shown.
"""

from collections.abc import Iterable

from utils.metrics import HEADLINE

# A terminal's usual width. No table is wider: lines that the terminal breaks cannot be read as columns.
TERMINAL_COLUMNS = 80
_GAP = "  "
# Two columns of the longest cells fit beside each other.
_MAX_CELL = (TERMINAL_COLUMNS - len(_GAP)) // 2


def format_number(value: float | None) -> str:
    """Three decimals; `-` where there was no sample to count."""
    return "-" if value is None else f"{value:.3f}"


def format_interval(interval: list[float] | None, sign: bool = False) -> str:
    """`[0.123, 0.456]`, with + and - for differences; an empty string without an interval."""
    if interval is None:
        return ""
    number = "{:+.3f}" if sign else "{:.3f}"
    low, high = (number.format(value) for value in interval)
    return f"[{low}, {high}]"


def _shortened(cell: str) -> str:
    """A cell of at most _MAX_CELL characters, cut in its middle: both ends of a path tell it apart."""
    if len(cell) <= _MAX_CELL:
        return cell
    half = (_MAX_CELL - 3) // 2
    return f"{cell[:half]}...{cell[-half:]}"


def _column_blocks(widths: list[int]) -> list[list[int]]:
    """The columns of each block: the first column, then as many others as fit into the terminal."""
    blocks = [[0]]
    used = widths[0]
    for column, width in enumerate(widths[1:], 1):
        if used + len(_GAP) + width > TERMINAL_COLUMNS and len(blocks[-1]) > 1:
            blocks.append([0])
            used = widths[0]
        blocks[-1].append(column)
        used += len(_GAP) + width
    return blocks


def format_table(header: list[str], rows: list[list[str]]) -> str:
    """Columns as wide as their widest cell; the first is aligned left, the others right.

    A table wider than a terminal continues in blocks below, each with the first column.
    """
    table = []
    for row in [header, *rows]:
        table.append([_shortened(str(cell)) for cell in row])
    widths = [max(map(len, column)) for column in zip(*table)]
    table.insert(1, ["-" * width for width in widths])
    blocks = []
    for columns in _column_blocks(widths):
        lines = []
        for row in table:
            cells = [row[0].ljust(widths[0])]
            cells += [row[column].rjust(widths[column]) for column in columns[1:]]
            lines.append(_GAP.join(cells).rstrip())
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def metric_table(title: str, metrics_of: dict[str, dict], keys: Iterable[str] = HEADLINE) -> str:
    """One row per metric and one column per model (or part, or level); `metrics_of`: name -> metrics."""
    rows = []
    for key in keys:
        rows.append([key, *(format_number(metrics.get(key)) for metrics in metrics_of.values())])
    return format_table([title, *metrics_of], rows)
