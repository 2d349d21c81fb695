"""`report.html` of a home, which every stage refreshes at its end, and the page of `evaluate --report`.

Both are the same page of the same code. It is made of files alone: no model is loaded and nothing is
generated.
"""

from pathlib import Path

from reporting.chain import find_outputs
from reporting.evaluations import Evaluation, read_evaluation
from reporting.outputs import REPORT_NAME, Outputs
from reporting.page import render
from utils.config import home_path
from utils.jsonl import write_text
from utils.locks import drop_temporaries
from utils.runs import note

# Some 20,000 samples, which take 5 seconds. A stage does not wait longer for its report.
_MAX_SAMPLE_BYTES = 100 << 20


def _outputs(home: Path) -> Outputs:
    """`find_outputs`, with a note for each file that is left out."""
    outputs = find_outputs(home)
    for problem in outputs.problems:
        note(f"report: left out: {problem}")
    return outputs


def _chosen_evaluation(outputs: Outputs) -> Evaluation | None:
    run = outputs.chosen("evaluation")
    return read_evaluation(run.path, outputs.home, _MAX_SAMPLE_BYTES) if run else None


def refresh_report(home: Path | None = None) -> Path | None:
    """Write report.html of a home (default: FACTUALITY_HOME) from its files. Returns its path.

    It never fails its stage, whose work is done: any problem is one note, and the result is None.
    """
    home = home or home_path(".")
    path = home / REPORT_NAME
    try:
        outputs = _outputs(home)
        page, _ = render(outputs, _chosen_evaluation(outputs))
        write_text(path, page)
        drop_temporaries(path)
        note(f"report: {path}")
    # A bug or an odd file here must not make a finished training look failed.
    except Exception as error:
        note(f"{path} was not refreshed ({type(error).__name__}: {error})"[:500])
        return None
    return path


def write_report(path: Path, results_path: Path) -> str:
    """The same page about one evaluation, for `--report`. Returns its size and what was cut, in words."""
    home = home_path(".")
    outputs = _outputs(home)
    page, cut = render(outputs, read_evaluation(results_path, home))
    write_text(path, page)
    return f"{len(page.encode()) / 1e6:.1f} MB, {cut or 'all samples'}"
