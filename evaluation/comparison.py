"""`--compare`: two results files side by side.

Shows paired differences on the samples that both runs share, where both can be scored again from their
prediction files, then the metrics of both, and which settings differ. It reads files only and needs no model.
"""

from pathlib import Path

from evaluation.columns import (
    TERMINAL_COLUMNS,
    format_interval,
    format_number,
    format_table,
    metric_table,
)
from evaluation.differing import differing_settings, file_contents
from evaluation.file_shapes import RESULTS
from evaluation.output_files import predictions_path
from evaluation.predictions import read_predictions
from evaluation.results import MAIN_MODELS, by_model, score_rows
from evaluation.tables import all_models, titled_deltas
from utils.config import input_path
from utils.errors import DataError
from utils.intervals import paired_deltas
from utils.metrics import HEADLINE
from utils.recognition import check_kind
from utils.runs import hash_inputs
from utils.schema import pick_samples, read_samples
from utils.shapes import read_shaped


def read_results(path: Path) -> dict:
    """The content of a results file. DataError when it is something else."""
    check_kind(path, "results")
    return read_shaped(path, RESULTS, "not what evaluate_sft_fast_robust.py writes; evaluate again")


# --- paired differences


def rescored(
    results: dict, test_path: Path, predictions_file: Path
) -> tuple[list[dict], dict[str, list[dict]]]:
    """(samples of a run, prediction rows by model), from the file that the run scored or wrote."""
    settings = results["run"]["settings"]
    samples = pick_samples(read_samples(test_path), settings.get("limit"), results["run"]["seed"])
    return samples, by_model(read_predictions(predictions_file, samples))


def _predictions_file(path: Path, results: dict) -> Path:
    named = results["run"]["settings"].get("predictions")
    return input_path(named) if named else predictions_path(path)


def test_data_problem(test_path: Path, run: dict) -> str | None:
    """Why a run cannot be scored again with this test file; None if it can."""
    remedy = "name the test data with --test-data"
    if not test_path.is_file():
        return f"{test_path} does not exist; {remedy}"
    # Compared by content: the file may have moved since.
    if not set(hash_inputs([test_path]).values()) <= set(run["inputs"].values()):
        return f"{test_path} has changed since a run; {remedy}"
    return None


def paired_between(paths: list[Path], runs: list[dict], test_data: str | None) -> tuple[dict, int] | str:
    """(differences B minus A of the SFT model, number of shared samples), or why there are none."""
    if any("selective" in run for run in runs):
        return "a run used a confidence threshold, which the completions alone do not show"
    test_paths = [input_path(test_data or run["run"]["settings"]["test_data"]) for run in runs]
    for test_path, run in zip(test_paths, runs):
        if problem := test_data_problem(test_path, run["run"]):
            return problem
    try:
        first, first_rows = rescored(runs[0], test_paths[0], _predictions_file(paths[0], runs[0]))
        second, second_rows = rescored(runs[1], test_paths[1], _predictions_file(paths[1], runs[1]))
    except DataError as error:
        return str(error)
    if "sft" not in first_rows or "sft" not in second_rows:
        return "a run has no model named sft"

    # Another --limit or --seed means other samples; a paired difference needs those that both runs share.
    shared = {sample["id"] for sample in first} & {sample["id"] for sample in second}
    both = [sample for sample in first if sample["id"] in shared]
    if not both:
        return "the runs have no sample in common"
    before, _ = score_rows(first_rows["sft"], both)
    after, _ = score_rows(second_rows["sft"], both)
    groups = [sample["group"] for sample in both]
    return paired_deltas(after, before, groups, runs[0]["run"]["seed"]), len(both)


# --- the text


def _sample_warning(runs: list[dict], n_shared: int | None) -> str:
    """What to know before reading the tables of two runs that are not of the same samples; else empty."""
    counts = {next(iter(all_models(run).values()))["n"] for run in runs}
    if len(counts) == 2 or n_shared not in (None, *counts):
        return "the tables below are of different samples: do not compare A with B in them"
    # Without pairs the samples are unknown, but the draw may tell.
    draws = [[run["run"]["seed"], file_contents(run["run"], "test_data")] for run in runs]
    if n_shared is None and draws[0] != draws[1]:
        return "the tables below may be of different samples: see what differs at the end"
    return ""


def _settings_text(differing: list[list[str]]) -> str:
    """Each differing setting on a line, with its two values on the lines below: paths are long."""
    lines = []
    for name, *values in differing:
        lines.append(f"differs: {name}")
        for side, value in zip("AB", values):
            lines.append(f"  {side}  {value}"[:TERMINAL_COLUMNS])
    return "\n".join(lines)


def _metric_tables(runs: list[dict]) -> list[str]:
    """A table per model that is in both runs: metric, A, interval of A, B, interval of B, each with its n."""
    first, second = (all_models(run) for run in runs)
    tables = []
    for name in first:
        if name not in second:
            continue
        rows = []
        for key in HEADLINE:
            sides = [(side[name][key], side[name]["ci95"].get(key)) for side in (first, second)]
            # A baseline without a model is the same in most pairs of runs: shown where it differs.
            if name not in MAIN_MODELS and sides[0] == sides[1]:
                continue
            cells = []
            for value, interval in sides:
                cells += [format_number(value), format_interval(interval)]
            rows.append([key, *cells])
        if rows:
            counts = [f"{side} (n={of[name]['n']})" for side, of in zip("AB", (first, second))]
            tables.append(format_table([name, counts[0], "95% interval", counts[1], "95% interval"], rows))
    return tables


def _macro_table(runs: list[dict]) -> str:
    """The means over sources of both runs; empty for files of before they were written."""
    columns: dict[str, dict] = {}
    for name in MAIN_MODELS:
        for side, run in zip("AB", runs):
            metrics = all_models(run).get(name, {})
            if metrics.get("macro"):
                columns[f"{name} {side} (n={metrics['n']})"] = metrics["macro"]
    return metric_table("mean over sources", columns) if columns else ""


def compare_runs(paths: list[Path], test_data: str | None = None) -> str:
    """The text of --compare for two results files, A and B. DataError when one is something else."""
    runs = [read_results(path) for path in paths]
    blocks = [f"A = {paths[0]}\nB = {paths[1]}"]

    paired = paired_between(paths, runs, test_data)
    if isinstance(paired, str):
        blocks.append(f"no paired differences: {paired}")
        n_shared = None
    else:
        deltas, n_shared = paired
        blocks.append(titled_deltas(f"sft, B against A, {n_shared} shared samples", deltas))

    blocks.append(_sample_warning(runs, n_shared))
    blocks += _metric_tables(runs)
    blocks.append(_macro_table(runs))

    differing = differing_settings(runs[0]["run"], runs[1]["run"])
    blocks.append(_settings_text(differing) or "settings, inputs and versions are the same")
    return "\n\n".join(block for block in blocks if block)
