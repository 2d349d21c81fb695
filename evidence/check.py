"""The faults of one sample file, each with its line: what `build_data.py --check` lists.

It sees one file. Leaks between splits need all of them at once; the build looks for those (audit.py).
"""

from pathlib import Path

from evidence.soundness import text_faults
from utils.errors import DataError
from utils.jsonl import read_jsonl
from utils.recognition import check_kind
from utils.rules import sample_problem

# Faults that `check_file` prints one by one; the rest is counted.
_MAX_SHOWN = 20


def file_faults(path: str | Path) -> tuple[int, list[str]]:
    """(number of rows, faults) of a sample file; each fault is `file:line: rule and value found`.

    Faults of the format come first, in file order, then those that the texts show. A row with a fault of
    the format is not searched for them: its chunk ids may point nowhere. DataError if the file is missing or
    a damaged gzip.
    """
    faults: list[str] = []
    line_of: dict[str, int] = {}
    sound: list[tuple[int, dict]] = []
    n_rows = 0

    def on_bad(problem: str) -> None:
        """A line that is no JSON object is a fault like the others, and counts as a row."""
        nonlocal n_rows
        n_rows += 1
        faults.append(problem)

    for number, row in read_jsonl(path, on_bad):
        n_rows += 1
        problem = sample_problem(row)
        if problem:
            faults.append(f"{path}:{number}: {problem}")
        else:
            sound.append((number, row))

        row_id = row.get("id")
        if not isinstance(row_id, str):
            continue
        if row_id in line_of:
            faults.append(f"{path}:{number}: duplicate id {row_id!r}, first seen on line {line_of[row_id]}")
        line_of.setdefault(row_id, number)

    for number, row in sound:
        faults += [f"{path}:{number}: {fault}" for fault in text_faults(row)]
    return n_rows, faults


def check_file(path: Path) -> None:
    """`--check`: list every fault of one sample file; DataError if there is one."""
    check_kind(path, "samples")
    n_rows, faults = file_faults(path)
    if not n_rows:
        raise DataError(f"{path}: the file contains no samples")
    if not faults:
        print(f"{path}: all {n_rows} samples are valid")
        return
    print("\n".join(faults[:_MAX_SHOWN]))
    if len(faults) > _MAX_SHOWN:
        print(f"... and {len(faults) - _MAX_SHOWN} more")
    raise DataError(f"{path}: {len(faults)} fault(s) in {n_rows} row(s); the first: {faults[0]}")
