"""Data kept for testing: what may not become training data or preferences, and what a model has seen already.

A figure on data that the model was trained on says how well it remembers. Test data is known by its file, by
its build, and by samples of a test split, which keep their ids under any file name.
"""

import contextlib
from collections.abc import Iterable
from pathlib import Path

from utils.config import home_path, input_path
from utils.errors import UsageError
from utils.jsonl import read_jsonl, sha256_value
from utils.own_files import RUN
from utils.shapes import manifest_in

TEST_FILE = "test.jsonl"
_TEST_NAMES = (TEST_FILE, "test.jsonl.gz")
_DEFAULT_TEST = "data/processed/test.jsonl"


# --- test data among samples


def is_evaluation_build(folder: Path) -> bool:
    """Whether build_data.py filled a folder from an `evaluation_only` sources config."""
    config = manifest_in(folder, RUN).get("settings", {}).get("config")
    return isinstance(config, dict) and bool(config.get("evaluation_only"))


def training_path(checkpoint: str | Path) -> str | None:
    """`data.train_path` of the run that a checkpoint belongs to; None if its manifest does not tell."""
    run = manifest_in(input_path(checkpoint).parent, RUN)
    return run.get("settings", {}).get("data", {}).get("train_path")


def _training_data(checkpoint: str | None) -> Path | None:
    path = training_path(checkpoint) if checkpoint else None
    return input_path(path) if path else None


def _test_files(near: Iterable[Path | None]) -> list[Path]:
    """The test splits beside these files, and that of the default build; each file once."""
    paths = [path.with_name(TEST_FILE) for path in near if path] + [home_path(_DEFAULT_TEST)]
    files = {path.resolve(): path for path in paths if path.is_file()}
    return list(files.values())


def _titles(row: dict) -> set[str]:
    """What a row's evidence is about: its titles, and the text of a chunk without one."""
    return {chunk.get("title") or chunk.get("text", "") for chunk in row.get("evidence_chunks", [])}


def _of_test(rows: list[dict], test_path: Path) -> list[str]:
    """The ids of the rows that are in a test split, or in the leakage group of a sample in it."""
    questions: dict[str, str] = {}
    titles: dict[str, set[str]] = {}
    # Bad rows are the business of whoever evaluates on the file.
    for _, row in read_jsonl(test_path, on_bad=lambda problem: None):
        with contextlib.suppress(KeyError, TypeError, AttributeError):
            questions[row["id"]] = row["question"]
            titles.setdefault(row["group"], set()).update(_titles(row))
    found = []
    for row in rows:
        # Two data sets of one's own may count from the same id: the question, or a title, must agree too.
        is_sample = questions.get(row["id"]) == row["question"]
        if is_sample or titles.get(row["group"], set()) & _titles(row):
            found.append(row["id"])
    return found


def _problem(path: Path, rows: list[dict], near: Iterable[Path | None]) -> str | None:
    """Why a file is test data; None if it is not."""
    if is_evaluation_build(path.parent):
        return "it is of an evaluation-only build"
    if path.name in _TEST_NAMES:
        return "it is a test split"
    reserved = [row["id"] for row in rows if row.get("metadata", {}).get("evaluation_only")]
    if reserved:
        return f"{len(reserved)} of its {len(rows)} samples are for evaluation only, e.g. {reserved[0]}"
    for test_path in _test_files([path, *near]):
        found = _of_test(rows, test_path)
        if found:
            where = f"the test split {test_path}, e.g. {found[0]}"
            return f"{len(found)} of its {len(rows)} samples are of {where}"
    return None


def refuse_test_data(
    path: Path, rows: list[dict], allow_test: bool, checkpoint: str | None = None, near: Path | None = None
) -> str | None:
    """UsageError if a file of samples is test data; with `allow_test`, a warning is returned instead.

    Samples are compared with the test splits of the default build and of those that the file, `near` and the
    training data of a checkpoint are in. None if the file is no test data.
    """
    problem = _problem(path, rows, [near, _training_data(checkpoint)])
    if problem is None:
        return None
    if allow_test:
        return f"warning: {path}: {problem}; figures on that test set mean nothing from here on"
    raise UsageError(f"{path}: {problem}; name other data, or add --allow-test if it is never used to test")


# --- samples that were trained on


def ids_text(rows: list[dict]) -> str:
    """The content of the train_ids.txt of a run that trains on these rows."""
    return "".join(row["id"] + "\n" for row in rows)


def ids_hash(text: str) -> str:
    """What a checkpoint records of the text of its train_ids.txt, whatever the line ends of the system."""
    return sha256_value(text.replace("\r\n", "\n").replace("\r", "\n"))


def _read_ids(checkpoint: str) -> str | None:
    """The text of a checkpoint's train_ids.txt; None without that file."""
    directory = input_path(checkpoint)
    # Beside the checkpoints of a run, and in a merged model.
    for folder in (directory, directory.parent):
        path = folder / "train_ids.txt"
        if path.is_file():
            return path.read_text(encoding="utf-8", errors="replace")
    return None


def train_ids(checkpoint: str) -> set[str]:
    """The ids in a checkpoint's train_ids.txt; empty without one."""
    text = _read_ids(checkpoint)
    return set(text.split("\n")) if text else set()


def ids_problem(checkpoint: str) -> str | None:
    """Why a checkpoint's train_ids.txt does not tell what it was trained on; None if it does.

    None too for a model without a manifest of ours: that never had one.
    """
    facts = manifest_in(input_path(checkpoint), RUN)
    if not facts:
        return None
    text = _read_ids(checkpoint)
    if text is None:
        return "train_ids.txt is missing"
    # Policies, and checkpoints of earlier versions, do not record what the file was.
    recorded = facts.get("train_ids")
    is_whole = text.endswith("\n") and "\x00" not in text and "\ufffd" not in text
    if recorded:
        is_whole = recorded == ids_hash(text)
    if not is_whole:
        return "train_ids.txt is not as it was written"
    return None


def count_unseen(checkpoint: str, path: Path) -> int:
    """How many samples of a file are not in a checkpoint's train_ids.txt; 0 without one of the two."""
    seen = train_ids(checkpoint)
    if not seen or not path.is_file():
        return 0
    return sum(row.get("id") not in seen for _, row in read_jsonl(path, on_bad=lambda problem: None))


def trained_on_warning(checkpoint: str | None, samples: list[dict]) -> str | None:
    """The warning for an evaluation on samples that the checkpoint was trained on; None if there are none.

    Where nothing tells whether there are any, the warning says that.
    """
    if not checkpoint:
        return None
    if problem := ids_problem(checkpoint):
        return (
            f"warning: {checkpoint}: {problem}, so nothing tells how many of the {len(samples)} samples it "
            "was trained on; copy the file from where the run is whole"
        )
    seen = train_ids(checkpoint)
    n_seen = sum(sample["id"] in seen for sample in samples)
    if not n_seen:
        return None
    return (
        f"warning: {n_seen} of {len(samples)} samples are in the training data of {checkpoint} "
        "(train_ids.txt); the figures show what it remembers"
    )


def data_warnings(paths: dict[str, Path], samples: dict[str, list[dict]], allow_test: bool) -> list[str]:
    """Warnings on the train and val samples of a run, and their files.

    UsageError for training on test data, unless `allow_test`.
    """
    train_warning = refuse_test_data(paths["train"], samples["train"], allow_test)
    # Nothing is learned from val, but checkpoints are chosen by it.
    val_warning = refuse_test_data(paths["val"], samples["val"], allow_test=True)
    shared = shared_val_warning(samples["train"], samples["val"])
    return [warning for warning in (train_warning, val_warning, shared) if warning]


def shared_val_warning(train: list[dict], val: list[dict]) -> str | None:
    """The warning for val samples that are training samples too; None if there are none."""
    ids = {sample["id"] for sample in train}
    n_shared = sum(sample["id"] in ids for sample in val)
    if not n_shared:
        return None
    return (
        f"warning: {n_shared} of {len(val)} val samples are training samples too; val metrics, "
        "checkpoint-best and the calibration show what the model remembers"
    )
