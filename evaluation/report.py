"""What people look at: terminal tables and curves."""

from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt

from utils.jsonl import atomic_write


def plot_curves(path: Path, panels: dict[str, dict[str, list[tuple[float, float]]]]) -> None:
    """One panel a title, one line a name; points are (step, value)."""
    figure, axes = plt.subplots(
        1, len(panels), figsize=(5 * len(panels), 3.6), squeeze=False, layout="constrained"
    )
    for axis, (title, lines) in zip(axes[0], panels.items()):
        for name, points in lines.items():
            if points:
                axis.plot(*zip(*points), marker="o" if len(points) < 30 else None, markersize=3, label=name)
        axis.set(title=title, xlabel="step")
        axis.grid(alpha=0.3)
        axis.spines[["top", "right"]].set_visible(False)
        axis.legend(frameon=False)
    with atomic_write(path, "wb") as handle:
        figure.savefig(handle, dpi=120, format="png")
    plt.close(figure)


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
