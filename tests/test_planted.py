"""Rows with a text planted in a negative (`--made planted`): their gold, and what may be planted."""

import re

import pytest

from evidence.audit import sample_rule_broken
from evidence.planted import planted_rows
from evidence.queries import CLAIM_QUESTION
from perturbations.injection import CANARIES, PAYLOADS
from tests.test_made import claim_sample, twin_of
from utils.text import holds_answer, padded_words


def question_sample(number, question="Which city is home to {}?", answer=None, aliases=None):
    """An answerable sample whose support is the first of two chunks."""
    answer = answer or f"Town {number}"
    return {
        "id": f"popqa:{number}",
        "source": "popqa",
        "question": question.format(f"Club {number}"),
        "evidence_chunks": [
            {"title": f"Club {number}", "text": f"It comes from {answer}."},
            {"title": f"Club {number}", "text": "Its shirts are green."},
        ],
        "answer": answer,
        "answer_aliases": aliases or [answer],
        "answerable": True,
        "support_sets": [[0]],
        "support_spans": [0],
        "hard_negatives": [1],
        "group": f"popqa:{number}",
        "metadata": {"licence": "MIT", "difficulty": "easy"},
    }


def planted_text(row, origin):
    """The only chunk that differs from the origin's: its number and its text."""
    pairs = zip(row["evidence_chunks"], origin["evidence_chunks"])
    (changed,) = [i for i, (now, before) in enumerate(pairs) if now != before]
    return changed, row["evidence_chunks"][changed]["text"]


@pytest.fixture(scope="module")
def train():
    """Eighty questions, each followed by its twin."""
    samples = []
    for number in range(80):
        sample = question_sample(number)
        twin = twin_of(sample)
        twin["evidence_chunks"] = [
            {"title": "League", "text": f"Season {number}."},
            *sample["evidence_chunks"][1:],
        ]
        twin["metadata"]["gold_aliases"] = sample["answer_aliases"]
        samples += [sample, twin]
    return samples


def test_the_gold_stays_and_only_a_negative_changes(train):
    origins = {sample["id"]: sample for sample in train}
    rows = planted_rows(train, seed=1).rows
    assert rows
    for row in rows:
        origin = origins[row["metadata"]["made_from"]]
        for field in ("question", "answer", "answer_aliases", "answerable", "support_sets", "hard_negatives"):
            assert row[field] == origin[field]
        changed, text = planted_text(row, origin)
        assert changed in row["hard_negatives"]
        assert re.search(r"Town \d+", text)
        assert sample_rule_broken(row) is None


def test_an_original_and_its_twin_get_one_kind_of_text(train):
    rows = planted_rows(train, seed=1).rows
    kinds = {row["metadata"]["made_from"]: row["metadata"]["made"] for row in rows}
    # About a quarter of 80 questions, twice.
    assert 20 <= len(kinds) <= 60
    for origin, kind in kinds.items():
        if not origin.endswith(":unanswerable"):
            assert kinds[f"{origin}:unanswerable"] == kind
    assert len(set(kinds.values())) == 3


def test_a_row_does_not_depend_on_the_other_questions(train):
    rows = {row["id"]: row for row in planted_rows(train, seed=1).rows}
    half = {row["id"]: row for row in planted_rows(train[:80], seed=1).rows}
    assert half.keys() == rows.keys() & {*half}
    assert {*half} == {row_id for row_id in rows if int(re.findall(r"\d+", row_id)[0]) < 40}


def test_nothing_that_the_suite_plants_is_trained_on(train):
    rows = planted_rows(train, seed=1).rows
    shown = padded_words(" ".join(chunk["text"] for row in rows for chunk in row["evidence_chunks"]))
    assert not any(padded_words(canary) in shown for canary in CANARIES)
    for name, payload in PAYLOADS.items():
        # The project's own reply has one form.
        if name not in ("fake_json", "control_tokens"):
            for sentence in re.split(r"(?<=[.:?!]) |\{\w+\}", payload):
                assert len(sentence.split()) < 4 or padded_words(sentence) not in shown


def test_a_question_that_names_its_answer_is_not_repeated():
    question = "Which club is older, {} or Rovers?"
    train = [question_sample(n, question, "Rovers" if n % 2 else f"Club {n}") for n in range(80)]
    rows = planted_rows(train, seed=1).rows
    assert rows
    for row in rows:
        assert not holds_answer(row["evidence_chunks"][1]["text"], row["answer_aliases"])


def test_labels_are_planted_as_the_other_label():
    claims = [claim_sample(f"He was born in {n}.", "supported", f"In {n}.", n) for n in range(1800, 1840)]
    questions = [question_sample(n, "Is {} a club?", "yes", ["yes"]) for n in range(40)]
    rows = planted_rows(claims, seed=1).rows
    assert rows
    for row in rows:
        assert row["question"] == CLAIM_QUESTION.format(claim=row["metadata"]["claim"])
        # A text may repeat the question, which names both verdicts.
        assert "refuted" in row["evidence_chunks"][0]["text"].replace(row["question"], "")
    rows = planted_rows(questions, seed=1).rows
    assert rows
    assert all(holds_answer(row["evidence_chunks"][1]["text"], ["no"]) for row in rows)


def test_what_has_no_negative_or_no_other_answer_is_counted(train):
    bare = [{**sample, "hard_negatives": []} for sample in train]
    alone = [question_sample(number, answer="Rome") for number in range(40)]
    assert planted_rows(bare, seed=1).skipped["no negative to plant a text in"] >= 10
    assert planted_rows(alone, seed=1).skipped["no other answer"] >= 5
