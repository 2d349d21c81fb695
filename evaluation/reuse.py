"""A results file: the same run again has nothing to do, another one is refused, and how one is closed.

It compares manifests and reads no samples. Which settings decide a result is the script's to say.
"""

import argparse
import glob
from collections.abc import Iterable
from pathlib import Path

from evaluation.file_shapes import FINISHED, SHOWN
from evaluation.output_files import predictions_path
from models.choices import UNNAMED_SETTINGS
from models.distributed import drop_partials
from models.revisions import hub_revisions
from utils.config import input_path
from utils.decisions import calibration_path
from utils.errors import DataError, UsageError
from utils.finished import check_outputs, describe_outputs
from utils.jsonl import read_json_object, sha256_value, write_json
from utils.run_changes import changed_settings, refuse_changed
from utils.runs import describe_run, hash_inputs
from utils.shapes import check_shape, shape_problem

# Of a checkpoint: what its prompts and completions depend on, beside the flags.
CHECKPOINT_SETTINGS = (
    *("template", "template_hash", "max_prompt_tokens", "max_new_tokens"),
    *("model_key", "base_key", "precision", "decisions", "biases", "reward_key"),
)


def describe_results_run(args: argparse.Namespace, settings: dict) -> dict:
    """The manifest within a results file: the flags, the checkpoint's settings and the input hashes."""
    files = [input_path(args.test_data)]
    if getattr(args, "predictions", None):
        files.append(input_path(args.predictions))
    # The fit that `read_calibration` finds. A hub model has none, and a missing file no hash.
    if args.model_path:
        files.append(calibration_path(args.model_path))
    shown = {name: value for name, value in settings.items() if name != "template_text"}
    if "template_text" in settings:
        shown["template_hash"] = sha256_value(settings["template_text"])
    return describe_run({**vars(args), **shown}, hash_inputs(files), args.seed)


def _deciding(run: dict, names: Iterable[str]) -> dict:
    given = {name: value for name, value in run["settings"].items() if value is not None}
    settings = {name: given.get(name, UNNAMED_SETTINGS.get(name)) for name in names}
    return {"settings": settings, "inputs": run["inputs"]}


def _read_finished(path: Path, block: str) -> dict:
    """The results in a file, which have a `block`. UsageError for any other file."""
    try:
        results = read_json_object(path)
    except DataError:
        results = {}
    if block not in results or shape_problem(results, FINISHED):
        raise UsageError(
            f"{path}: exists and holds other data than these results; choose another --output, "
            "or add --overwrite to replace it"
        )
    return results


def finished_results(path: Path, block: str, run: dict, names: Iterable[str], overwrite: bool) -> dict | None:
    """The results in `path` if a run with the same settings wrote them; None if they are to be made.

    `run`: manifest of the run that starts; `names`: the settings in it that decide its results. `block`: a
    key that these results have and others have not. UsageError if the file is of a run with other settings,
    or none of this script, unless `overwrite`.
    """
    if overwrite or not path.exists():
        return None
    results = _read_finished(path, block)
    # Results of earlier versions do not say what the rules beside the models were fitted on.
    names = [name for name in names if name != "fitted_on" or name in results["run"]["settings"]]
    refuse_changed(path, changed_settings(_deciding(results["run"], names), _deciding(run, names)))
    check_shape(path, results, SHOWN.get(block, {}), "add --overwrite to make these results again")
    check_outputs(path.parent, results["run"], path.name)
    # A kill right behind the last file leaves them.
    drop_partials(predictions_path(path))
    return results


def close_results(path: Path, results: dict, args: argparse.Namespace, has_predictions: bool = True) -> None:
    """Write a results file, the last file of its run: a rerun has nothing to do once it is there.

    The manifest in it gets the commits of the models that `args` names. `has_predictions`: whether the
    predictions beside it are of this run, whose log is deleted.
    """
    predictions = predictions_path(path)
    outputs = describe_outputs(path.parent, glob.escape(predictions.name)) if has_predictions else {}
    revisions = hub_revisions(args.model_path, args.base_model)
    results["run"] |= {**outputs, "revisions": revisions, "status": "complete"}
    write_json(path, results)
    drop_partials(predictions)
