"""What the README and the pages of docs/ promise: length, index, and the messages that troubleshooting names.

tests/test_docs.py checks that all they name exists.
"""

import ast
import re
import subprocess
from xml.etree import ElementTree

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


# --- the picture


def test_the_picture_marks_words_across_a_line_break():
    from docs.draw_example import COLUMNS, marked_lines

    text = "x" * (COLUMNS - 10) + " Jonas Hallberg <b>"
    start = text.index("Jonas")
    first, second = marked_lines(text, [[start, start + len("Jonas Hallberg")]])
    assert first.endswith('<tspan class="mark">Jonas</tspan>')
    assert second == '<tspan class="mark">Hallberg</tspan> &lt;b&gt;'


def test_the_picture_shows_an_answer_and_a_refusal():
    picture = ElementTree.parse(ROOT / "docs/example.svg")
    text = "".join(picture.getroot().itertext())
    assert "cited:" in text
    assert "The text does not say." in text


# --- the notebook


def test_the_notebook_is_built_from_its_source():
    from notebooks.build import NOTEBOOK, build

    assert NOTEBOOK.read_text(encoding="utf-8") == build(), "run `python notebooks/build.py`"


def source() -> str:
    return (ROOT / "notebooks/factuality_slice.py").read_text()


def cells_of_source() -> list[str]:
    return re.split(r"^# %%.*\n", source(), flags=re.MULTILINE)[1:]


def test_each_step_says_what_to_expect():
    steps = re.split(r"^# ## ", source(), flags=re.MULTILINE)[1:]
    silent = [step.splitlines()[0] for step in steps if "You should now see" not in step]
    assert silent == ["Next steps"]


def test_the_settings_and_sizes_are_form_fields():
    settings, sizes = cells_of_source()[1:3]
    assert re.search(r"^DEMO = True  #@param ", settings, re.MULTILINE)
    for cell in (settings, sizes):
        assignments = re.findall(r"^[A-Z_]+ = .*$", cell, re.MULTILINE)
        assert assignments
        assert all('#@param {type:"' in line for line in assignments)


@pytest.mark.parametrize(
    "variable, config", [("config_content", "sft_gemma2.yaml"), ("rm_config", "rm.yaml")]
)
def test_the_inline_configs_are_the_shipped_ones(variable, config):
    import yaml

    inline = re.search(rf'^{variable} = """(.*?)"""', source(), re.DOTALL | re.MULTILINE)
    assert inline is not None
    assert yaml.safe_load(inline[1]) == yaml.safe_load((ROOT / "configs" / config).read_text())


def test_the_output_folder_is_set_before_the_first_stage():
    cells = cells_of_source()
    sets_home = next(i for i, cell in enumerate(cells) if 'os.environ["FACTUALITY_HOME"] =' in cell)
    first_stage = next(i for i, cell in enumerate(cells) if 'run("python build_data.py' in cell)
    assert sets_home < first_stage
    # The hub's cache is chosen there too, which is before its library is imported.
    assert 'os.environ["HF_HOME"]' in cells[sets_home]


def run_helper():
    """The notebook's own `run`."""
    setup = next(cell for cell in cells_of_source() if "def run(" in cell)
    helper = re.search(r"^def run\(.*?(?=^\S)", setup, re.DOTALL | re.MULTILINE)
    assert helper is not None
    names: dict = {"subprocess": subprocess}
    exec(helper.group(), names)
    return names["run"]


def test_run_shows_the_output_and_stops_on_failure(capsys):
    run = run_helper()
    run("echo one; echo two >&2")
    assert capsys.readouterr().out.splitlines() == ["$ echo one; echo two >&2", "one", "two"]
    with pytest.raises(RuntimeError, match="exit code 3"):
        run("echo why; exit 3")
    assert "why" in capsys.readouterr().out
    # A failure before a pipe counts as well.
    with pytest.raises(RuntimeError):
        run("false | cat")
