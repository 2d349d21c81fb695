"""The files that an evaluation or a robustness run writes: their names, and whether they may be written.

It looks at files and reads none of them whole.
"""

import argparse
import os
from collections.abc import Iterable
from pathlib import Path

from utils.config import home_path, input_path
from utils.errors import UsageError
from utils.outputs import check_file_output

# Flags that name files which a run reads.
_INPUTS = ("test_data", "predictions")


def predictions_path(output: Path) -> Path:
    """The predictions file that belongs to a results file, in the same directory."""
    return output.with_name(f"{output.stem}_predictions.jsonl")


def plot_path(output: Path) -> Path:
    """The calibration plot that belongs to a results file."""
    return output.with_name(f"{output.stem}_calibration.png")


def results_name(output: Path) -> Path:
    """What the names of a results file and of the files beside it start with: the place of their lock."""
    return output.with_name(output.stem)


def check_output_files(args: argparse.Namespace) -> None:
    """UsageError where an output cannot be written, or would replace an input or what no run wrote."""
    output = home_path(args.output)
    report = getattr(args, "report", None)
    check_file_output(output, *([home_path(report)] if report else []))
    read = [input_path(getattr(args, name)) for name in _INPUTS if getattr(args, name, None)]
    _refuse_same("--output", output, read)
    if report:
        written = (output, predictions_path(output), plot_path(output))
        _refuse_same("--report", home_path(report), [*read, *written])
        _refuse_other_than_page(home_path(report))
    if not (getattr(args, "predictions", None) or args.overwrite):
        _refuse_foreign_predictions(output)


def _refuse_same(flag: str, path: Path, others: Iterable[Path]) -> None:
    for other in others:
        if os.path.realpath(path) == os.path.realpath(other):
            raise UsageError(
                f"{flag} {path}: is {other}, which this run reads or writes; choose another name"
            )


def _refuse_other_than_page(path: Path) -> None:
    if not path.is_file():
        return
    with path.open("rb") as handle:
        start = handle.read(64).lstrip()
    if start and not start.startswith(b"<"):
        raise UsageError(f"--report {path}: exists and is no HTML page; choose another name, or delete it")


def _refuse_foreign_predictions(output: Path) -> None:
    """UsageError for completions beside `output` of which neither results nor a log tell."""
    path = predictions_path(output)
    # The first process of a run that was stopped has one, until its results are there.
    has_log = path.with_name(f".{path.stem}.partial-0.jsonl").exists()
    if path.exists() and not output.exists() and not has_log:
        raise UsageError(
            f"{path}: would be replaced, and no {output.name} says that this script wrote it; "
            "choose another --output, or add --overwrite to replace it"
        )
