"""What the README and the pages of docs/ promise: length, index, and the messages that troubleshooting names.

tests/test_docs.py checks that all they name exists.
"""

import ast
import re

import pytest

from tests.documents import ROOT, tracked_files

MAX_README_WORDS = 900
PAGES = [name for name in tracked_files() if name.startswith("docs/") and name.endswith(".md")]


def test_the_readme_stays_short():
    assert len((ROOT / "README.md").read_text().split()) <= MAX_README_WORDS


@pytest.mark.parametrize("page", PAGES)
def test_the_readme_leads_to_every_page(page):
    assert f"`{page}`" in (ROOT / "README.md").read_text()


# --- troubleshooting


def messages() -> str:
    """Every string of the scripts and packages, one per line; a formatted value is an ellipsis."""
    found = []
    for name in tracked_files():
        if not name.endswith(".py") or name.startswith("tests/"):
            continue
        for node in ast.walk(ast.parse((ROOT / name).read_text())):
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return "\n".join(found)


def symptoms() -> list[str]:
    """The messages in the first column of the tables of docs/troubleshooting.md."""
    text = (ROOT / "docs/troubleshooting.md").read_text()
    first_cells = re.findall(r"^\| (.*?) \|", text, re.MULTILINE)
    return [message for cell in first_cells for message in re.findall(r"`([^`]+)`", cell)]


def test_there_are_symptoms():
    assert len(symptoms()) > 20


@pytest.fixture(scope="module")
def all_messages():
    return messages()


@pytest.mark.parametrize("symptom", symptoms())
def test_the_code_says_what_troubleshooting_names(symptom, all_messages):
    # `...` is a value here; in the code it may be one too, or part of the text around it.
    pattern = ".*".join(re.escape(part) for part in symptom.split("..."))
    assert re.search(pattern, all_messages), symptom


# --- the notebook


def test_the_notebook_is_built_from_its_source():
    from notebooks.build import NOTEBOOK, build

    assert NOTEBOOK.read_text(encoding="utf-8") == build(), "run `python notebooks/build.py`"
