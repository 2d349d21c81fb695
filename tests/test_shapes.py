"""What is said of a JSON value that has another shape than its reader needs."""

import json

import pytest

from utils.errors import DataError
from utils.shapes import Every, Maybe, manifest_in, read_shaped, shape_problem

SHAPE = {
    "status": str,
    "settings": {"seed": int, "rate?": float},
    "inputs?": Every(str),
    "best?": Maybe(float),
    "answers?": [{"right": bool}],
}
GOOD = {"status": "complete", "settings": {"seed": 1}}


@pytest.mark.parametrize(
    "more",
    [{}, {"inputs": {}, "best": None, "answers": []}, {"best": 3, "other": [1]}, {"inputs": {"a": "b"}}],
)
def test_a_value_of_the_shape_has_no_problem(more):
    assert shape_problem(GOOD | more, SHAPE) is None


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ([], "expected an object, found []"),
        (None, "expected an object, found null"),
        ({"status": "complete"}, "field 'settings' is missing"),
        ({"settings": {"seed": 1}, "status": None}, "field 'status': expected text, found null"),
        (GOOD | {"settings": {}}, "field 'settings.seed' is missing"),
        (GOOD | {"settings": {"seed": True}}, "field 'settings.seed': expected an integer, found true"),
        (GOOD | {"settings": {"seed": 1.5}}, "field 'settings.seed': expected an integer, found 1.5"),
        (
            GOOD | {"settings": {"seed": 1, "rate": "x"}},
            "field 'settings.rate': expected a number, found \"x\"",
        ),
        (GOOD | {"inputs": None}, "field 'inputs': expected an object, found null"),
        (GOOD | {"inputs": {"a": 7}}, "field 'inputs.a': expected text, found 7"),
        (GOOD | {"best": []}, "field 'best': expected a number, found []"),
        (GOOD | {"answers": [{"right": True}, {}]}, "field 'answers[1].right' is missing"),
        (GOOD | {"answers": {}}, "field 'answers': expected a list, found {}"),
    ],
)
def test_the_field_and_what_was_found_are_named(value, problem):
    assert shape_problem(value, SHAPE) == problem


def test_a_file_of_another_shape_is_named_with_what_to_do(tmp_path):
    path = tmp_path / "run.json"
    path.write_text(json.dumps(GOOD))
    assert read_shaped(path, SHAPE) == GOOD
    path.write_text(json.dumps(GOOD | {"status": {"x": "y" * 100}}))
    with pytest.raises(DataError) as refused:
        read_shaped(path, SHAPE)
    told = str(refused.value)
    assert told.startswith(f'{path}: field \'status\': expected text, found {{"x": "yyy')
    assert told.endswith("; delete it and rerun the stage that writes it")
    assert len(told) < len(str(path)) + 180


@pytest.mark.parametrize("value", [["a.txt"], {"inputs": ["a.txt"]}, {"status": "FINISHED", "inputs": 3}])
def test_a_manifest_of_another_program_is_none(value, tmp_path):
    assert manifest_in(tmp_path, SHAPE) == {}
    (tmp_path / "run.json").write_text(json.dumps(value))
    assert manifest_in(tmp_path, {"inputs?": Every(str)}) == {}


def test_a_manifest_of_ours_is_read_or_its_damage_named(tmp_path):
    (tmp_path / "run.json").write_text(json.dumps(GOOD))
    assert manifest_in(tmp_path, SHAPE) == GOOD
    (tmp_path / "run.json").write_text(json.dumps(GOOD | {"inputs": [1]}))
    with pytest.raises(DataError, match="run.json: field 'inputs': expected an object, found .1.; delete it"):
        manifest_in(tmp_path, SHAPE)
