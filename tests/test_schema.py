"""The readers name file, line and rule; a draw is reproducible and keeps twins together."""

import copy
import json

import pytest

from utils.errors import DataError
from utils.schema import is_label_answer, pick_samples, read_samples, verdict_class


def test_the_reader_names_file_line_and_rule(sample, tmp_path):
    path = tmp_path / "train.jsonl"
    broken = {**sample, "id": "popqa:2", "support_spans": [9]}
    path.write_text(json.dumps(sample) + "\n" + json.dumps(broken) + "\n")
    with pytest.raises(DataError, match=r"train.jsonl:2: support_spans contains 9 but only chunks 0-3"):
        read_samples(path)


@pytest.mark.parametrize(
    "text, word",
    # Python's json module would accept NaN, which no other reader of the file does.
    [("", "no rows"), ("{", "not a JSON object"), ("[1]", "expected a JSON object"), ('{"a": NaN}', "NaN")],
)
def test_damaged_files_are_refused(text, word, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=word):
        read_samples(path)


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("Yes.", "supported"),
        ("yes!", "supported"),
        ("TRUE", "supported"),
        ("No. ", "refuted"),
        ("no .", "refuted"),
    ],
)
def test_yes_and_no_are_verdicts_also_with_an_end_mark(answer, verdict):
    assert verdict_class(answer) == verdict


@pytest.mark.parametrize("answer", ["Ja", "Yes, it was", "No. 5", "Yes?", ".", "!", "", "Nobody."])
def test_other_words_are_no_verdicts(answer):
    assert not is_label_answer(answer)


def test_a_second_row_of_one_id_is_refused(sample, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text((json.dumps(sample) + "\n") * 2)
    with pytest.raises(DataError, match="duplicate id .popqa:1., first seen on line 1"):
        read_samples(path)


def test_a_draw_keeps_twins_together(sample, unanswerable):
    rows = []
    for i in range(20):
        original = copy.deepcopy(sample) | {"id": f"popqa:{i}"}
        twin = copy.deepcopy(unanswerable)
        twin |= {"id": f"popqa:{i}:unanswerable", "metadata": {"twin_of": f"popqa:{i}"}}
        rows += [original, twin]
    # An even number, so that no pair is cut.
    ids = {row["id"] for row in pick_samples(rows, 10, seed=1)}
    assert len(ids) == 10 and all(f"{i}:unanswerable" in ids for i in ids if not i.endswith("unanswerable"))
