"""An evaluation as a report needs it: the results, and each sample with its answers, from files alone."""

import os
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.comparison import read_results, rescored, test_data_problem
from evaluation.output_files import predictions_path
from evaluation.results import WITHOUT_MODEL, score_rows, selection_for
from evaluation.selective import Selection
from reporting.answered import Answered, answered_samples
from utils.config import input_path
from utils.decisions import read_calibration
from utils.errors import DataError


@dataclass(frozen=True)
class Evaluation:
    """A results file with its samples; `problem` says why there are none."""

    path: Path
    results: dict
    answered: list[Answered] = field(default_factory=list)
    problem: str = ""


def find_input(home: Path, path: str) -> Path:
    """A path of a run's settings: below the home that the run wrote to, or else as the stages find it."""
    at_home = home / os.path.expanduser(path)
    return at_home if at_home.exists() else input_path(path)


def _selection(home: Path, results: dict) -> Selection | None:
    """The confidence threshold that the evaluation used, which the completions alone do not show."""
    selective = results.get("selective")
    if not selective:
        return None
    isotonic = None
    if selective["kind"] == "calibrated":
        settings = results["run"]["settings"]
        checkpoint = find_input(home, settings["model_path"])
        isotonic = read_calibration(str(checkpoint), settings.get("decisions")).get("isotonic")
        if not isotonic:
            raise DataError(f"{checkpoint}: the fit of confidences by which the evaluation refused is gone")
    return Selection(selective["threshold"], selective["kind"], isotonic)


def _check_size(paths: list[Path], max_bytes: int) -> None:
    n_bytes = sum(path.stat().st_size for path in paths if path.is_file())
    if n_bytes > max_bytes:
        raise DataError(f"test data and predictions have {n_bytes >> 20} MB, which only --report reads")


def _read_samples(path: Path, home: Path, results: dict, max_bytes: int | None) -> list[Answered]:
    """The samples of an evaluation. DataError if a file is gone or is not the one that was evaluated."""
    settings = results["run"]["settings"]
    test_path = find_input(home, settings["test_data"])
    if problem := test_data_problem(test_path, results["run"]):
        raise DataError(problem.split(";")[0])
    named = settings.get("predictions")
    source = find_input(home, named) if named else predictions_path(path)
    if max_bytes is not None:
        _check_size([test_path, source], max_bytes)
    samples, rows_by_model = rescored(results, test_path, source)
    selection = _selection(home, results)
    parsed = {}
    predictions: list[dict] = []
    for name, rows in rows_by_model.items():
        if name not in WITHOUT_MODEL:
            parsed[name] = score_rows(rows, samples, selection_for(name, selection))[1]
            predictions += rows
    return answered_samples(samples, parsed, predictions)


def read_evaluation(path: Path, home: Path, max_bytes: int | None = None) -> Evaluation:
    """A results file with its samples, if these have at most `max_bytes`. DataError for another file."""
    results = read_results(path)
    try:
        return Evaluation(path, results, _read_samples(path, home, results, max_bytes))
    except DataError as error:
        return Evaluation(path, results, problem=str(error))
