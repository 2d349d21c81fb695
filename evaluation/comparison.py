"""Two results files side by side: what differs in their settings, their figures, and paired differences where both runs can be rescored."""

from pathlib import Path

from evaluation.predictions import predictions_path, read_predictions
from evaluation.results import by_model, score_rows
from evaluation.tables import all_models, delta_rows, format_interval, format_number, format_table
from utils.config import input_path
from utils.errors import DataError
from utils.intervals import paired_deltas
from utils.jsonl import read_json
from utils.metrics import HEADLINE
from utils.runs import hash_inputs
from utils.schema import pick_samples, read_samples

# Settings that name outputs, not what was measured.
_NOT_SETTINGS = {"output", "report", "dry_run", "compare", "inputs"}


def read_results(path: Path) -> dict:
    results = read_json(path)
    if not isinstance(results, dict) or "run" not in results or "baselines" not in results:
        raise DataError(f"{path}: not a results file of evaluate_sft_fast_robust.py")
    return results


def _flat(value, prefix: str = "") -> dict[str, str]:
    if not isinstance(value, dict):
        return {prefix.rstrip("."): str(value)}
    return {
        name: text for key, inner in value.items() for name, text in _flat(inner, f"{prefix}{key}.").items()
    }


def differing_settings(first: dict, second: dict) -> list[list[str]]:
    """[setting, value of A, value of B] of what is not the same in two runs: settings, inputs, versions, commit."""
    found = []
    for run in (first, second):
        settings = {key: value for key, value in run["settings"].items() if key not in _NOT_SETTINGS}
        found.append(
            _flat(
                {
                    **settings,
                    "input hashes": run["inputs"],
                    "packages": run["packages"],
                    "git_commit": run["git_commit"],
                }
            )
        )
    names = sorted(found[0].keys() | found[1].keys())
    return [
        [name, *(side.get(name, "(not there)")[:60] for side in found)]
        for name in names
        if found[0].get(name) != found[1].get(name)
    ]


def _rescored(path: Path, results: dict, test_path: Path) -> tuple[list[dict], dict[str, list[dict]]]:
    """Samples of a run and the prediction rows of each model, from the file beside the results (or the one it was rescored from)."""
    settings = results["run"]["settings"]
    samples = pick_samples(read_samples(test_path), settings.get("limit"), results["run"]["seed"])
    source = input_path(settings["predictions"]) if settings.get("predictions") else predictions_path(path)
    return samples, by_model(read_predictions(source, samples))


def paired_between(paths: list[Path], runs: list[dict], test_data: str | None) -> tuple[dict, int] | str:
    """(differences B minus A of the SFT model on the samples both runs hold, their number), or why there are none."""
    if any("selective" in run for run in runs):
        return "no paired differences: a confidence threshold was set, and completions alone do not hold its effect"
    test_paths = [input_path(test_data or run["run"]["settings"]["test_data"]) for run in runs]
    known = [set(run["run"]["inputs"].values()) for run in runs]
    for test_path, hashes in zip(test_paths, known):
        if not test_path.is_file():
            return f"no paired differences: {test_path} is not there; name the test data with --test-data"
        if not set(hash_inputs([test_path]).values()) <= hashes:
            return f"no paired differences: {test_path} has changed since a run; name the test data with --test-data"
    try:
        (first, first_rows), (second, second_rows) = (_rescored(*job) for job in zip(paths, runs, test_paths))
    except DataError as error:
        return f"no paired differences: {error}"
    if "sft" not in first_rows or "sft" not in second_rows:
        return "no paired differences: a run holds no model named sft"
    shared = {sample["id"] for sample in first} & {sample["id"] for sample in second}
    both = [sample for sample in first if sample["id"] in shared]
    if not both:
        return "no paired differences: the runs share no sample"
    (before, _), (after, _) = score_rows(first_rows["sft"], both), score_rows(second_rows["sft"], both)
    return paired_deltas(after, before, [sample["group"] for sample in both], runs[0]["run"]["seed"]), len(
        both
    )


def _figures(runs: list[dict]) -> list[list[str]]:
    """[model, metric, A, interval of A, B, interval of B] of the models that both runs hold."""
    first, second = map(all_models, runs)
    rows = []
    for name in [name for name in first if name in second]:
        for key in HEADLINE:
            cells = [(side[name][key], side[name]["ci95"].get(key)) for side in (first, second)]
            if name in ("sft", "base") or cells[0] != cells[1]:
                rows.append(
                    [
                        f"{name} {key}",
                        *(
                            cell
                            for value, interval in cells
                            for cell in (format_number(value), format_interval(interval))
                        ),
                    ]
                )
    return rows


def compare_runs(first_path: Path, second_path: Path, test_data: str | None = None) -> str:
    """The text of --compare. DataError when a file holds no results."""
    paths = [first_path, second_path]
    runs = [read_results(path) for path in paths]
    blocks = [f"A = {first_path}\nB = {second_path}"]
    differing = differing_settings(runs[0]["run"], runs[1]["run"])
    blocks.append(
        format_table(["differs", "A", "B"], differing)
        if differing
        else "settings, inputs and versions are the same"
    )
    blocks.append(format_table(["", "A", "95% interval", "B", "95% interval"], _figures(runs)))
    paired = paired_between(paths, runs, test_data)
    if isinstance(paired, str):
        blocks.append(paired)
    else:
        deltas, n = paired
        blocks.append(
            format_table(
                [f"sft, B against A, {n} samples", "better by", "95% interval", ""], delta_rows(deltas)
            )
        )
    return "\n\n".join(blocks)
