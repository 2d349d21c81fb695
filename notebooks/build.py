"""Writes factuality_slice.ipynb from factuality_slice.py, the same cells as text that can be reviewed.

    python notebooks/build.py
    python notebooks/build.py --check

A line `# %%` starts a code cell, `# %% [markdown]` a cell of text, whose lines are comments; JSON behind the
mark is the cell's metadata. It knows nothing about what the cells do.
"""

import argparse
import json
import re
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parent
SOURCE = FOLDER / "factuality_slice.py"
NOTEBOOK = FOLDER / "factuality_slice.ipynb"
CELL_MARK = re.compile(r"^# %%(?P<markdown> \[markdown\])? ?(?P<metadata>\{.*\})?$", re.MULTILINE)


def to_cell(number: int, mark: re.Match, text: str) -> dict:
    """One cell of nbformat 4.5, without outputs."""
    text = text.strip("\n")
    metadata = json.loads(mark["metadata"] or "{}")
    if mark["markdown"]:
        text = re.sub("^# ?", "", text, flags=re.MULTILINE)
    # Ids by number, so that a rebuilt notebook differs only where its text does.
    cell = {"id": f"cell-{number:02d}", "metadata": metadata, "source": text.splitlines(keepends=True)}
    if mark["markdown"]:
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **cell}


def build() -> str:
    """The notebook's JSON text."""
    source = SOURCE.read_text(encoding="utf-8")
    marks = list(CELL_MARK.finditer(source))
    ends = [mark.start() for mark in marks[1:]] + [len(source)]
    cells = []
    for number, (mark, end) in enumerate(zip(marks, ends)):
        cells.append(to_cell(number, mark, source[mark.end() : end]))
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    notebook = {
        "cells": cells,
        "metadata": {"kernelspec": kernel, "language_info": {"name": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    }
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    check_help = "write nothing; fail if the notebook is out of date"
    parser.add_argument("--check", action="store_true", help=check_help)
    args = parser.parse_args()
    text = build()
    if not args.check:
        NOTEBOOK.write_text(text, encoding="utf-8")
        print(f"wrote {NOTEBOOK}")
    elif NOTEBOOK.read_text(encoding="utf-8") != text:
        sys.exit(f"{NOTEBOOK.name} is out of date; run `python notebooks/build.py`")


if __name__ == "__main__":
    main()
