"""A copy of the repository in which the notebook has run at tiny sizes, as after `make demo`.

The notebook's test and the tests of printed commands share it, because making it takes a minute or two. It
knows nothing about what they check.
"""

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.documents import ROOT, tracked_files
from utils.completions import gold_completion
from utils.jsonl import read_jsonl, write_jsonl
from utils.schema import read_samples

# Training of two steps gives no usable candidates: before the judge runs, gold ones replace the SFT model's.
GOLD_CELL = """from tests.finished_demo import add_gold_candidates
add_gold_candidates(Path(HOME))"""
TEST_ROWS = 4
SIZES_CELL = f"TRAIN_ROWS, TEST_ROWS, PREF_ROWS = 12, {TEST_ROWS}, 16"

# What makes a cell small enough for a test.
SMALLER = {
    "--max-new-tokens 48": "--max-new-tokens 12",
    "--n-generations 2": "--n-generations 1",
    "--limit {TRAIN_ROWS}": (
        "--limit {TRAIN_ROWS} --set data.max_val_samples=4 --set data.max_calibration_samples=4"
    ),
}


@dataclass(frozen=True)
class FinishedDemo:
    """`checkout`: the copy, with demo/ and .venv in it; `output`: what the notebook printed."""

    checkout: Path
    output: str

    @property
    def home(self) -> Path:
        return self.checkout / "demo"


def add_gold_candidates(home: Path) -> None:
    """Put gold candidates in place of one model's: those of a random model give nothing to learn from."""
    by_id = {}
    for split in ("train", "val"):
        by_id |= {sample["id"]: sample for sample in read_samples(home / f"data/processed/{split}.jsonl")}
    path = next((home / "prefs/cache").glob("*/gens_sft.jsonl"))
    rows = []
    for _, row in read_jsonl(path):
        rows.append({**row, "completion": gold_completion(by_id[row["id"]], row["shown"])})
    write_jsonl(path, rows)


def copy_checkout(target: Path) -> None:
    """The tracked files, and the environment of the tests as .venv."""
    for name in tracked_files():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, target / name)
    (target / ".venv").symlink_to(sys.prefix)


def small_notebook(checkout: Path):
    """The notebook with small sizes, and a cell before the judge that adds gold candidates."""
    import nbformat

    notebook = nbformat.read(checkout / "notebooks/factuality_slice.ipynb", as_version=4)
    for cell in notebook.cells:
        if "sizes" in cell.metadata.get("tags", []):
            cell.source = SIZES_CELL
        for text, smaller in SMALLER.items():
            cell.source = cell.source.replace(text, smaller)
    judge = next(i for i, cell in enumerate(notebook.cells) if "--phase judge" in cell.source)
    notebook.cells.insert(judge, nbformat.v4.new_code_cell(GOLD_CELL))
    return notebook


def text_of(output: dict) -> str:
    """What a reader sees of one output of a cell; of a page, its HTML."""
    data = output.get("data", {})
    return str(output.get("text", "")) + "".join(data.get("text/html", ""))


def finish_demo(checkout: Path, embedded: Path) -> FinishedDemo:
    """Copy the repository to `checkout` and run the notebook in it, from top to bottom.

    Raises nbclient's CellExecutionError, with the output of the cell, if a cell fails.
    """
    import nbclient

    copy_checkout(checkout)
    # The conversion of the embedded model takes a minute, and one is there already.
    (checkout / "demo/checkpoints").mkdir(parents=True)
    (checkout / "demo/checkpoints/embedded").symlink_to(embedded)
    notebook = small_notebook(checkout)
    # Nothing of the tester's own settings; the notebook sets FACTUALITY_HOME itself.
    before = dict(os.environ)
    os.environ.pop("FACTUALITY_HOME", None)
    os.environ["IPYTHONDIR"] = str(checkout / ".ipython")
    try:
        resources = {"metadata": {"path": str(checkout / "notebooks")}}
        nbclient.NotebookClient(notebook, timeout=900, kernel_name="python3", resources=resources).execute()
    finally:
        os.environ.clear()
        os.environ.update(before)
    printed = []
    for cell in notebook.cells:
        printed += [text_of(output) for output in cell.get("outputs", [])]
    return FinishedDemo(checkout, "\n".join(printed))
