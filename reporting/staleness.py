"""Outputs that are older than what they are about: each function says so in a list of one text, or of none.

Times are those of the manifests, which a copy keeps. Where a file is small, its content decides.
"""

from reporting.chain import holds, pairs_path
from reporting.outputs import Outputs, Run
from utils.jsonl import sha256_file


def _is_older(run: Run, other: Run | None) -> bool:
    """True if the other run ended after this one."""
    return bool(other and run.when and other.when > run.when)


def changed_data(outputs: Outputs, run: Run) -> list[str]:
    """Says that the training data has been built anew with other content."""
    path = outputs.home / str(run.settings["data"]["train_path"])
    if not path.is_file() or sha256_file(path) in run.manifest["inputs"].values():
        return []
    return [f"{run.settings['data']['train_path']} has changed since this training"]


def older_than_checkpoint(outputs: Outputs, run: Run, model_path: str | None) -> list[str]:
    """Says that the checkpoint that a run used has been trained again since."""
    if not model_path:
        return []
    for trained in [*outputs.runs.get("sft", []), *outputs.runs.get("policy", [])]:
        if holds(outputs.home, trained, model_path) and _is_older(run, trained):
            return [f"{model_path} is newer than this: it was trained again, so run this stage again"]
    return []


def other_preferences(outputs: Outputs, run: Run) -> list[str]:
    """Says that the shown preferences are not those of the training."""
    shown = outputs.chosen("preferences")
    if shown is None:
        return []
    path = pairs_path(shown)
    if not path.is_file() or sha256_file(path) in run.manifest["inputs"].values():
        return []
    return [f"trained on other preferences than {path.name}"]
