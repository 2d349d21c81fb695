"""JSON that a stage wrote with a field missing or of another type: a fallback, or one line with the file.

A few damages per file and reader; in more readers with FACTUALITY_FAULTS=full. FACTUALITY_DAMAGES=10000 asks
for each field and value, which takes hours.
"""

import json
import os
import shutil

import pytest

from reporting.pipeline import refresh_report
from tests.faults.form import count
from tests.faults.own_files import (
    READERS,
    REPORTED,
    add_other_homes,
    end_of,
    found_in,
    some_damages,
)
from tests.faults.stage_world import STAGES, prepare
from utils.jsonl import read_json

pytestmark = [pytest.mark.slow] if count(0, 1) else []

PER_FILE = count(3, int(os.environ.get("FACTUALITY_DAMAGES", "6")))
N_READERS = count(list(READERS).index("summary"), len(READERS))
NEEDED = ("build", "prompts", "sft", "evaluate", "generate", "judge", "rm", "score")
STAGES_RUN = tuple(STAGES)[: count(0, len(STAGES))] or NEEDED


@pytest.fixture(scope="module")
def starts(server, tiny_gemma_dir, tmp_path_factory):
    """Name -> a home: "done", "unfinished", and the one that a stage starts in."""
    found = prepare(tmp_path_factory.mktemp("world"), tiny_gemma_dir, server, STAGES_RUN)
    add_other_homes(found)
    return found


@pytest.mark.parametrize("name", list(READERS)[:N_READERS])
def test_a_field_that_is_missing_or_of_another_type_is_named(name, server, starts, tmp_path):
    start, _, patterns = READERS[name]
    paths = found_in(starts[start], patterns)
    assert len(paths) >= len(patterns)
    problems = []
    n_tried = 0
    for path in paths:
        for what, value in some_damages(read_json(path), PER_FILE, f"{name} {path.name}"):
            n_tried += 1
            if problem := end_of(server, starts[start], tmp_path / "home", name, (path, value)):
                problems.append(f"{path.relative_to(starts[start])}, {what}: {problem}")
    print(f"{name}: {n_tried} damages, {len(problems)} of them not as promised")
    assert not problems, "\n\n".join(problems)


def test_the_report_shows_the_rest_and_says_what_it_leaves_out(starts, tmp_path, monkeypatch, capsys):
    home = tmp_path / "home"
    shutil.copytree(starts["done"], home)
    # A copy of the evaluation, which would be shown in its place.
    (home / "eval_results.json").unlink()
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    problems = []
    n_tried = 0
    for path in found_in(home, REPORTED):
        text = path.read_text()
        for what, value in some_damages(json.loads(text), PER_FILE, path.name):
            n_tried += 1
            path.write_text(json.dumps(value))
            page = refresh_report(home)
            said = capsys.readouterr().err
            # Only a model that names itself wrongly leaves no chain of runs to show.
            if page is None and f"DataError: {path}" not in said:
                problems.append(f"{path}, {what}: {said}")
        path.write_text(text)
    with capsys.disabled():
        print(f"report: {n_tried} damages, {len(problems)} of them not as promised")
    assert not problems, "\n".join(problems)
