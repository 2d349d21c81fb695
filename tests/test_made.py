"""Rows made of training samples: what every kind keeps, and that a build without them is as it was."""

import json

import pytest

from evidence import made
from evidence.balance import left_out
from evidence.check import file_faults
from evidence.made import make_rows, read_kinds
from evidence.made_row import Making, made_row
from evidence.queries import CLAIM_QUESTION
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, write_jsonl
from utils.schema import read_samples
from utils.text import LABEL_ALIASES, REFUSAL


def claim_sample(claim, verdict, text, number=1):
    """An answerable sample of a claim, its support in the second of two chunks."""
    aliases = LABEL_ALIASES[verdict]
    return {
        "id": f"fever:{number}",
        "source": "fever",
        "question": CLAIM_QUESTION.format(claim=claim),
        "evidence_chunks": [
            {"title": "Lise Meitner", "text": "She worked with Otto Hahn."},
            {"title": "Marie Curie", "text": text},
        ],
        "answer": aliases[0],
        "answer_aliases": list(aliases),
        "answerable": True,
        "support_sets": [[1]],
        "support_spans": [1],
        "hard_negatives": [0],
        "group": "fever:1",
        "metadata": {"claim": claim, "licence": "CC BY-SA 3.0", "difficulty": "easy", "type": "SUPPORTS"},
    }


def twin_of(sample):
    twin = {
        **sample,
        "id": f"{sample['id']}:unanswerable",
        "answer": REFUSAL,
        "answer_aliases": [],
        "answerable": False,
        "support_sets": [],
        "support_spans": [],
        "hard_negatives": [0, 1],
    }
    twin["metadata"] = {**sample["metadata"], "twin_of": sample["id"]}
    return twin


# --- the frame


@pytest.fixture
def splits(samples, data_home):
    return {
        name: read_samples(data_home / f"data/processed/{name}.jsonl") for name in ("train", "val", "test")
    }


def test_a_build_without_made_rows_has_no_trace_of_them(data_home):
    folder = data_home / "data/processed"
    assert not (folder / "train_made.jsonl").exists()
    assert "made" not in read_json(folder / "audit.json")
    assert "made" not in read_json(folder / "run.json")["settings"]


def test_made_rows_are_valid_samples_of_train_on_the_evidence_of_their_origin(splits, tmp_path):
    rows = make_rows(["contrast"], splits, seed=42).rows
    assert rows
    write_jsonl(tmp_path / "train_made.jsonl", rows)
    assert file_faults(tmp_path / "train_made.jsonl") == (len(rows), [])
    origins = {sample["id"]: sample for sample in splits["train"]}
    for row in rows:
        origin = origins[row["metadata"]["made_from"]]
        for field in ("source", "group", "evidence_chunks"):
            assert row[field] == origin[field]
        assert row["id"].startswith(f"{origin['id']}#contrast-")
        assert row["metadata"]["unit"] == (origin["metadata"].get("twin_of") or origin["id"])
        assert row["metadata"]["made"].startswith("contrast: ")
        assert row["question"] != origin["question"]


def test_a_row_shares_the_unit_of_its_originals_twin():
    sample = claim_sample("She was born in 1867.", "supported", "She was born in 1867.")
    row = made_row(twin_of(sample), "questions: cloze", {"question": "Where?"}, number=2)
    assert row["id"] == "fever:1:unanswerable#questions-cloze-2"
    assert row["metadata"]["unit"] == "fever:1"
    assert row["metadata"]["made_from"] == "fever:1:unanswerable"
    # What is said of the origin's question is not said of this one.
    assert not row["metadata"].keys() & {"difficulty", "twin_of", "gold_aliases", "type"}


def test_what_another_sample_asks_is_left_out_and_counted(monkeypatch):
    train = [claim_sample("She was born in 1867.", "supported", "She was born in 1867.")]
    test = [claim_sample("She was born in 1868.", "refuted", "She was born in 1867.", number=2)]
    questions = [test[0]["question"].upper(), train[0]["question"], "Where was she born?"]

    def maker(samples, seed):
        rows = []
        for number, question in enumerate(questions, 1):
            rows.append(made_row(samples[0], "contrast: test", {"question": question}, number))
        return Making(rows)

    monkeypatch.setitem(made.MAKERS, "contrast", maker)
    found = make_rows(["contrast"], {"train": train, "test": test}, seed=1)
    # An original and its twin ask the same; so may a row of their unit.
    assert [row["question"] for row in found.rows] == questions[1:]
    assert found.figures == {"rows": {"contrast: test": 2}, "contrast": {"asked elsewhere": 1}}
    assert found.summary() == [
        "made 2 rows (contrast: test 2)",
        "contrast: dropped 1: asked elsewhere 1",
    ]


def test_a_made_row_that_breaks_a_rule_stops_the_build(monkeypatch):
    train = [claim_sample("She was born in 1867.", "supported", "She was born in 1867.")]
    bad = made_row(train[0], "contrast: test", {"answer": "maybe", "question": "Was she?"})
    monkeypatch.setitem(made.MAKERS, "contrast", lambda samples, seed: Making([bad]))
    with pytest.raises(DataError, match="fever:1#contrast-test: answer_aliases must start"):
        make_rows(["contrast"], {"train": train}, seed=1)


def test_easy_claims_are_what_the_train_split_left_out_with_their_twins(tmp_path):
    kept, easy, alone = (
        claim_sample(f"She was born in {year}.", "supported", f"She was born in {year}.", number=year)
        for year in (1867, 1868, 1869)
    )
    pairs = [(kept, twin_of(kept)), (easy, twin_of(easy)), (alone, None)]
    surplus = left_out(pairs, [kept])
    assert [sample["id"] for sample in surplus] == [
        "fever:1867:unanswerable",
        "fever:1868",
        "fever:1868:unanswerable",
        "fever:1869",
    ]
    found = make_rows(["easy_claims"], {"train": [kept]}, seed=1, left_out=surplus)
    # The twin of a claim that was kept is not one of an easy claim.
    assert [row["id"] for row in found.rows] == ["fever:1868", "fever:1868:unanswerable", "fever:1869"]
    assert [row["metadata"]["unit"] for row in found.rows] == ["fever:1868", "fever:1868", "fever:1869"]
    assert found.figures == {
        "rows": {"easy claim": 2, "easy claim: twin": 1},
        "easy_claims": {"surplus unanswerable rows": 1},
    }
    # A run on any part of the train split keeps them: none is made of one of its samples.
    assert not any("made_from" in row["metadata"] for row in found.rows)
    write_jsonl(tmp_path / "train_made.jsonl", found.rows)
    assert file_faults(tmp_path / "train_made.jsonl") == (3, [])


def test_easy_claims_of_a_doubtful_annotation_are_left_out_and_counted():
    # Refuted, although every word is said.
    doubtful = claim_sample("She was born in 1868.", "refuted", "She was born in 1868.")
    kept = claim_sample("She was born in 1869.", "supported", "She was born in 1869.", number=3)
    left = [doubtful, twin_of(doubtful)]
    found = make_rows(["easy_claims"], {"train": [kept]}, seed=1, left_out=left)
    assert found.rows == [] and found.figures["easy_claims"] == {"doubtful annotation": 2}


def test_easy_claims_that_a_test_split_asks_are_left_out():
    easy = claim_sample("She was born in 1867.", "supported", "She was born in 1867.")
    asked = claim_sample("She was born in 1867.", "supported", "She was born in 1867.", number=2)
    kept = claim_sample("She was born in 1869.", "supported", "She was born in 1869.", number=3)
    found = make_rows(["easy_claims"], {"train": [kept], "test": [asked]}, seed=1, left_out=[easy])
    assert not found.rows


def test_unknown_kinds_and_builds_without_train_are_named():
    with pytest.raises(UsageError, match="unknown kind 'contrasts'; known: contrast"):
        read_kinds("contrasts")
    with pytest.raises(DataError, match="no samples in the train split"):
        make_rows(["contrast"], {"test": []}, seed=1)


def test_the_flag_adds_a_file_and_changes_no_sample(stage, data_home, splits, tmp_path):
    # The flags of the fixture `data_home`, and another order of sets and dicts.
    flags = "--sample --data-dir data --limit 30 --max-chunks 3 --max-chunk-words 20 --split 0.6,0.2,0.2"
    command = ["build_data.py", *flags.split(), "--made", "contrast"]
    done = stage(*command, home=tmp_path, env={"PYTHONHASHSEED": "7"})
    assert done.returncode == 0, done.stderr
    assert "made " in done.stdout
    folder = tmp_path / "data/processed"
    for name in ("train.jsonl", "val.jsonl", "test.jsonl"):
        assert (folder / name).read_bytes() == (data_home / "data/processed" / name).read_bytes()
    rows = [json.loads(line) for line in (folder / "train_made.jsonl").open()]
    expected = make_rows(["contrast"], splits, seed=42)
    assert rows == expected.rows
    assert read_json(folder / "audit.json")["made"] == expected.figures
