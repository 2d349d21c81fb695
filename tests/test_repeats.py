"""What is there twice: pages of one id, questions in several files. Nothing is replaced silently."""

import itertools

import pytest

from evidence.drops import DroppedRows
from evidence.records import Passage
from evidence.support import find_support
from sources.draw import draw_records
from sources.pages import TWO_TEXTS, read_page_pool
from tests.test_build_data import PAGES, record
from tests.test_identity import build, dpr_row, write_rows
from utils.jsonl import raise_bad
from utils.text import plain_question, shingles

# --- pages


def page(title, sentences):
    lines = "\n".join(f"{i}\t{sentence}" for i, sentence in enumerate(sentences))
    return {"id": title.replace(" ", "_"), "text": "", "lines": lines}


CURIE = page("Marie Curie", PAGES["Marie Curie"])
OTHER = page("Marie Curie", ["A ship.", "It was built in Leeds.", "It is red."])
EMPTY = {"id": "Marie_Curie", "text": "", "lines": ""}
GOLD = record(gold_sets=((("Marie Curie", 1),),), subject=())


def support_from(tmp_path, *files, of=GOLD):
    """The support of the record in pages files of these rows, and the pool."""
    paths = []
    for i, rows in enumerate(files):
        paths.append((write_rows(tmp_path / f"{i}.jsonl", [*rows, page("Warsaw", PAGES["Warsaw"])]), {}))
    sources = {"popqa": {"records": [], "contexts": [], "pages": paths}}
    records, pool = read_page_pool(sources, [of], 10, 80, raise_bad)
    return find_support(records[0], pool), pool


@pytest.mark.parametrize("files", [([CURIE, OTHER],), ([CURIE], [OTHER]), ([OTHER, CURIE, OTHER],)])
def test_a_page_with_two_texts_drops_the_rows_with_gold_on_it_and_says_so(files, tmp_path, capsys):
    support, pool = support_from(tmp_path, *files)
    assert support == TWO_TEXTS
    assert "pages that are there twice with different text: 1 ('Marie Curie')" in capsys.readouterr().err
    # The first text stays.
    assert pool.by_title["Marie Curie"][0].text.startswith(files[0][0]["lines"][2:8])
    # Gold that is found by the words of the answer is not in doubt.
    if files[0][0] is CURIE:
        support, _ = support_from(tmp_path, *files, of=record())
        assert "Warsaw" in support.sets[0][0].text


@pytest.mark.parametrize(
    "files", [([CURIE, CURIE],), ([CURIE], [CURIE]), ([CURIE, EMPTY],), ([EMPTY], [CURIE])]
)
def test_a_page_that_is_there_twice_with_one_text_is_one_page(files, tmp_path, capsys):
    support, _ = support_from(tmp_path, *files)
    assert "born in Warsaw" in support.sets[0][0].text
    assert "twice" not in capsys.readouterr().err


def test_gold_on_a_passage_of_the_row_is_no_gold_on_the_page(tmp_path):
    passage = Passage("Marie Curie", tuple(PAGES["Marie Curie"]))
    own = record(gold_sets=GOLD.gold_sets, subject=(), page_titles=(), passages=(passage,))
    other = record(id="popqa:2")
    sources = {
        "popqa": {"records": [], "contexts": [], "pages": [(write_rows(tmp_path / "p", [CURIE, OTHER]), {})]}
    }
    records, pool = read_page_pool(sources, [own, other], 10, 80, raise_bad)
    assert "born in Warsaw" in find_support(records[0], pool).sets[0][0].text


# --- questions


def drawn_from(tmp_path, files):
    """The records that are used of (rows, split) per file, and the counts of the others."""
    paths = []
    for i, (rows, split) in enumerate(files):
        paths.append((write_rows(tmp_path / f"q{i}.jsonl", rows), {"split": split}))
    drops = DroppedRows()
    return draw_records("mine", paths, 0, 42, raise_bad, drops), drops


SAME = [dpr_row(1, "A"), dpr_row(2, "B")]


@pytest.mark.parametrize("splits", itertools.permutations(["any", "train", "dev", "test"]))
def test_the_row_of_the_strictest_split_is_used_whatever_the_order_of_the_files(splits, tmp_path):
    records, drops = drawn_from(tmp_path, [(SAME, split) for split in splits])
    assert [record.official_split for record in records] == ["test", "test"]
    assert drops == {"duplicate question": 6}


@pytest.mark.parametrize(("first", "second"), itertools.combinations(["test", "dev", "train", "any"], 2))
def test_of_two_splits_the_stricter_one_has_the_row(first, second, tmp_path):
    for files in ([(SAME, first), (SAME[:1], second)], [(SAME[:1], second), (SAME, first)]):
        records, drops = drawn_from(tmp_path, files)
        assert [record.official_split for record in records] == [first, first]
        assert drops == {"duplicate question": 1}


def test_a_row_that_contradicts_the_stricter_one_drops_both(tmp_path):
    other = {**SAME[0], "answers": ["Atlantis"]}
    records, drops = drawn_from(tmp_path, [(SAME, "train"), (SAME, "test"), ([other], "train")])
    assert [record.official_split for record in records] == ["test"]
    assert drops == {"duplicate question": 2, "contradictory question": 2}


def test_a_build_keeps_official_test_rows_out_of_train(tmp_path, monkeypatch):
    rows = [dpr_row(i, f"Page {i}") for i in range(40)]
    files = {
        write_rows(tmp_path / "a.jsonl", rows): "train",
        write_rows(tmp_path / "b.jsonl", rows[:10]): "test",
    }
    splits, audit = build(tmp_path, monkeypatch, files)
    assert audit["dropped"]["handbook"]["duplicate question"] == 10
    for name, samples in splits.items():
        officials = {sample["metadata"]["official_split"] for sample in samples}
        assert name == "test" or officials == {"train"}


def test_yes_and_true_are_one_answer_to_one_question(tmp_path):
    rows = [{**SAME[0], "answers": ["Yes"]}, {**SAME[0], "answers": ["true"]}]
    records, drops = drawn_from(tmp_path, [(rows, "any")])
    assert len(records) == 1
    assert drops == {"duplicate question": 1}
    _, drops = drawn_from(tmp_path, [([*rows, {**SAME[0], "answers": ["No"]}], "any")])
    assert drops == {"duplicate question": 1, "contradictory question": 2}


def test_questions_that_are_equal_have_equal_words():
    assert plain_question("Who  BUILT it?") == plain_question("who built it?")
    # By `casefold` they would be one question with two sets of words, and could be in two splits.
    straße, strasse = "Where is the Straße?", "Where is the STRASSE?"
    assert plain_question(straße) != plain_question(strasse)
    assert shingles(straße) != shingles(strasse)
