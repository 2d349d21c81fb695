import copy
import json

import pytest

from utils.errors import DataError
from utils.rules import preference_problem, sample_problem
from utils.schema import pick_samples, read_samples


@pytest.mark.parametrize(
    "change, word",
    [
        ({"support_spans": [0, 7]}, "chunks 0-3"),
        ({"support_spans": [0]}, "union"),
        ({"hard_negatives": [1]}, "hard_negatives"),
        ({"answer_aliases": ["Paris"]}, "must start with"),
        ({"answerable": False}, "unanswerable"),
        ({"answerable": "yes"}, "must be bool"),
        ({"id": "nq:1"}, "source"),
        ({"evidence_chunks": []}, "empty"),
        ({"question": " "}, "question is empty"),
        ({"support_sets": [[]]}, "support_sets"),
    ],
)
def test_a_row_that_breaks_a_rule_is_named(sample, change, word):
    assert word in sample_problem({**sample, **change})


def test_whole_samples_have_no_problem(sample, unanswerable):
    assert sample_problem(sample) is None and sample_problem(unanswerable) is None


def test_the_reader_names_file_line_and_rule(sample, tmp_path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        json.dumps(sample) + "\n" + json.dumps({**sample, "id": "popqa:2", "support_spans": [9]}) + "\n"
    )
    with pytest.raises(DataError, match=r"train.jsonl:2: support_spans contains 9 but only chunks 0-3"):
        read_samples(path)


@pytest.mark.parametrize(
    "text, word",
    [("", "no rows"), ("{", "not a JSON object"), ("[1]", "expected a JSON object"), ('{"a": NaN}', "NaN")],
)
def test_damaged_files_are_refused(text, word, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text(text)
    with pytest.raises(DataError, match=word):
        read_samples(path)


def test_a_second_row_of_one_id_is_refused(sample, tmp_path):
    path = tmp_path / "x.jsonl"
    path.write_text((json.dumps(sample) + "\n") * 2)
    with pytest.raises(DataError, match="duplicate id .popqa:1., first seen on line 1"):
        read_samples(path)


def test_a_draw_keeps_twins_together(sample, unanswerable):
    rows = []
    for i in range(20):
        original = copy.deepcopy(sample) | {"id": f"popqa:{i}"}
        rows += [
            original,
            copy.deepcopy(unanswerable)
            | {"id": f"popqa:{i}:unanswerable", "metadata": {"twin_of": f"popqa:{i}"}},
        ]
    ids = {row["id"] for row in pick_samples(rows, 10, seed=1)}
    assert len(ids) == 10 and all(f"{i}:unanswerable" in ids for i in ids if not i.endswith("unanswerable"))


def test_a_pair_of_equal_texts_is_no_preference(sample):
    message = [{"role": "assistant", "content": "x"}]
    row = {
        "id": "a",
        "sample_id": "b",
        "source": "popqa",
        "group": "g",
        "question": "q",
        "answerable": True,
        "evidence_chunks": sample["evidence_chunks"],
        "prompt": message,
        "chosen": message,
        "rejected": message,
        "margin": 0.5,
        "score_chosen": 1,
        "score_rejected": 0.5,
        "chosen_model": "sft",
        "rejected_model": "base",
        "decided_by": "verifier",
        "judge": {},
    }
    assert "same text" in preference_problem(row)
    assert preference_problem({**row, "rejected": [{"role": "assistant", "content": "y"}]}) is None
