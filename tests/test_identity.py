"""A passage is its title and its text: doubled, missing and shared titles, in every reader and in a build."""

import dataclasses
import json
import random

import pytest

import build_data
from evidence.chunks import PagePool
from evidence.drops import DroppedRows
from evidence.groups import group_supports
from evidence.leaks import shared_between_splits
from evidence.negatives import ranked_negatives
from evidence.records import Passage, Record, told_apart
from evidence.support import find_support
from sources import hotpotqa, own
from sources.draw import draw_records
from tests.squad_like import squad_rows
from tests.test_build_data import record
from utils.errors import DataError
from utils.jsonl import read_json
from utils.schema import read_samples

TOWNS = ("Bergen", "Turin", "Porto", "Lille", "Gdansk", "Sofia", "Leeds", "Ghent", "Varna", "Split", "Cork")


def stop(problem):
    raise DataError(problem)


def write_rows(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def build(tmp_path, monkeypatch, files, *flags, source="handbook"):
    """Build the files (path -> split) as one source, and return (samples by split, audit)."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    records = [{"path": str(path), "split": split} for path, split in files.items()]
    config = tmp_path / "s.yaml"
    config.write_text(json.dumps({"sources": {source: {"licence": "ours", "records": records}}}))
    build_data.main(["--sources-config", str(config), "--accept-new-hash", *flags])
    processed = tmp_path / "data/processed"
    splits = {name: read_samples(processed / f"{name}.jsonl") for name in ("train", "val", "test")}
    return splits, read_json(processed / "audit.json")


def dpr_row(i, title="", answer=None, question=None):
    """A row in DPR layout about person `i`, with a marked passage and six others, all of one title."""
    town = TOWNS[i % len(TOWNS)]
    text = f"Person {i} was born in {town} as the youngest child. The family moved often."
    others = [f"Ship {i}x{k} was launched in spring and carried coal along the coast." for k in range(6)]
    return {
        "question": question or f"Where was Person {i} born as the youngest child?",
        "answers": [town] if answer is None else answer,
        "positive_ctxs": [{"title": title, "text": text}],
        "hard_negative_ctxs": [{"title": title, "text": other} for other in others],
    }


def test_passages_of_a_row_are_told_apart_by_title_and_text():
    first = Passage("A", ("One.",))
    rows = told_apart(
        [first, Passage("A", ("Two.",)), Passage("A", ("One.",), True), Passage("", ("Three.",))]
    )
    assert [(p.title, p.sentences, p.is_gold) for p in rows] == [
        ("A", ("One.",), True),
        ("A", ("Two.",), False),
        ("", ("Three.",), False),
    ]
    assert rows[0].page == "A"
    assert len({p.page for p in rows}) == 3


def hotpot_record(tmp_path, facts, context, answer="Ingrid Falk"):
    row = {"_id": "q", "question": "Who designed it?", "answer": answer}
    row |= {"supporting_facts": facts, "context": context}
    path = tmp_path / "h.json"
    path.write_text(json.dumps([row]))
    return next(hotpotqa.read_records(path, "dev", stop))


ANSWERING = ["The tower", ["It is high.", "Ingrid Falk designed it.", "It is red."]]
OTHER = ["The tower", ["A stair leads up.", "It was painted green.", "Bats sleep there."]]
SHORT = ["The tower", ["A stair leads up."]]
HARBOR = ["The harbor", ["Herring is salted there."]]
PAIRS = [[ANSWERING, OTHER], [OTHER, ANSWERING], [ANSWERING, SHORT], [SHORT, ANSWERING]]


@pytest.mark.parametrize(
    "context", [[ANSWERING, OTHER], [OTHER, ANSWERING], [ANSWERING, SHORT], [SHORT, ANSWERING]]
)
def test_of_two_paragraphs_of_one_title_the_one_that_is_meant_is_support(context, tmp_path):
    record = hotpot_record(tmp_path, [["The tower", 1], ["The harbor", 0]], [*context, HARBOR])
    assert record.doubt == ""
    (chunks,) = find_support(record, PagePool({}, 80)).sets
    assert [chunk.text for chunk in chunks] == [" ".join(ANSWERING[1]), HARBOR[1][0]]


@pytest.mark.parametrize(
    ("facts", "context", "answer"),
    [
        # Neither sentence has the answer, both have it, both facts may mean either, and a yes/no answer.
        ([["The tower", 0], ["The harbor", 0]], [ANSWERING, OTHER], "Herring"),
        ([["The tower", 1]], [ANSWERING, ["The tower", ["No.", "So Ingrid Falk says."]]], "Ingrid Falk"),
        ([["The tower", 0], ["The tower", 1]], [ANSWERING, OTHER], "Ingrid Falk"),
        ([["The tower", 1]], [ANSWERING, OTHER], "yes"),
    ],
)
def test_a_fact_that_may_mean_two_paragraphs_drops_the_row(facts, context, answer, tmp_path):
    record = hotpot_record(tmp_path, facts, [*context, HARBOR], answer)
    reason = "supporting fact may mean two paragraphs of one title"
    assert find_support(record, PagePool({}, 80)) == reason


@pytest.mark.parametrize("title", ["the tower (Ek)", "The_Tower_(Ek)", "THE TOWER (EK)"])
def test_a_fact_finds_its_title_in_another_case_or_with_underscores(title, tmp_path):
    context = [["The Tower (Ek)", ["Falk built it."]], ["The Tower", ["It is red."]]]
    found = hotpot_record(tmp_path, [[title, 0]], context)
    assert found.answerable
    assert found.gold_sets == ((("The Tower (Ek)", 0),),)
    # A title that is written so comes first, and of two that are alike the one that has the answer is meant.
    context.append([title, ["Ek paid for it."]])
    assert hotpot_record(tmp_path, [[title, 0]], context).gold_sets == (((title, 0),),)
    context = [["The tower (ek)", ["Falk built it."]], ["The TOWER (ek)", ["Falk painted it."]]]
    unclear = hotpot_record(tmp_path, [[title, 0]], context)
    assert unclear.doubt == "supporting fact may mean two paragraphs of one title"


def test_the_same_paragraph_twice_is_one_passage(tmp_path):
    record = hotpot_record(tmp_path, [["The tower", 1]], [ANSWERING, ANSWERING, HARBOR])
    assert record.doubt == ""
    assert len(record.passages) == 2


def test_a_gold_sentence_of_a_page_is_never_looked_up_in_a_passage_of_its_title():
    # The page is missing; another source has a passage of it, whose first sentence is another one.
    pool = PagePool({"B": ["Text."]}, 80, [Passage("A", ("Not line 0 of the page.",))])
    claim = Record("fever:1", "fever", "Q?", ("supported",), True, "dev", ((("A", 0),),), page_titles=("A",))
    assert find_support(claim, pool) == "gold evidence not among the pages"


def untitled_record(i, text):
    passages = told_apart([Passage("", (text,), True)])
    question = f"What did person {i} do in year {i} at place {i}?"
    return Record(f"own:{i}", "own", question, ("yes",), True, "any", passages=passages)


def test_untitled_passages_are_one_page_only_where_their_text_is_equal():
    pool = PagePool({}, 80)
    records = [untitled_record(i, text) for i, text in enumerate(("One.", "Two.", "One."))]
    supports = [find_support(record, pool) for record in records]
    groups = group_supports(supports, 0.8, True, None)
    assert groups[0] == groups[2] != groups[1]


def test_the_audit_counts_an_untitled_passage_in_two_splits_by_its_text(sample):
    def cited(text, name):
        chunks = [{"title": "", "text": text}, *sample["evidence_chunks"][1:]]
        spans = {"support_sets": [[0]], "support_spans": [0]}
        return {**sample, **spans, "evidence_chunks": chunks, "question": name, "group": name}

    apart = {"train": [cited("One.", "alpha")], "test": [cited("Two.", "beta")]}
    assert shared_between_splits(apart)["support_pages"] == 0
    together = {"train": [cited("One.", "alpha")], "test": [cited("One.", "beta")]}
    assert shared_between_splits(together)["support_pages"] == 1


def test_untitled_rows_fill_all_splits(tmp_path, monkeypatch):
    path = write_rows(tmp_path / "mine.jsonl", [dpr_row(i) for i in range(40)])
    splits, figures = build(tmp_path, monkeypatch, {path: "any"})
    assert all(splits.values())
    assert figures["rules_broken"] == []


@pytest.mark.parametrize("words", [("yes", "no"), ("Yes.", "No!")])
def test_a_marked_passage_supports_a_yes_no_answer_and_negatives_may_have_its_title(
    words, tmp_path, monkeypatch
):
    rows = []
    for i in range(30):
        question = f"Was Person {i} the youngest child of a family?"
        rows.append(dpr_row(i, f"Handbook {i}", answer=[words[i % 2]], question=question))
    path = write_rows(tmp_path / "mine.jsonl", rows)
    splits, _ = build(tmp_path, monkeypatch, {path: "any"})
    samples = [sample for split in splits.values() for sample in split]
    assert sum(sample["answerable"] for sample in samples) == 30
    for sample in samples:
        shown = [sample["evidence_chunks"][i]["text"] for i in sample["support_spans"]]
        assert all("youngest child" in text for text in shown)


def test_passages_of_one_title_serve_as_negatives_of_one_another():
    # A handbook: one title for everything, and no negatives in the rows.
    rows = [Passage("Handbook", (f"Rule {i} is about the matter {i}.",)) for i in range(20)]
    pool = PagePool({}, 80, rows)
    assert len(pool.by_title["Handbook"]) == 20
    assert len({chunk.page for chunk in pool.chunks}) == 20


SAMPLE_ROW = {
    "id": "handbook:1",
    "question": "Where was Person 1 born?",
    "evidence_chunks": [
        {"title": "Handbook", "text": "Person 1 was born in Turin."},
        {"title": "Handbook", "text": "Ships carry coal."},
        {"title": "Handbook", "text": "Trains carry ore."},
    ],
    "answer": "Turin",
    "answer_aliases": ["Turin"],
    "answerable": True,
    "support_sets": [[0]],
    "metadata": {},
}


def own_record(tmp_path, **change):
    path = write_rows(tmp_path / "own.jsonl", [SAMPLE_ROW | change])
    return next(own.read_records(path, "any", stop, source="handbook"))


def test_chunks_of_a_row_in_sample_layout_stay_apart_and_its_support_is_checked(tmp_path):
    pool = PagePool({}, 80)
    (chunks,) = find_support(own_record(tmp_path), pool).sets
    assert [chunk.text for chunk in chunks] == ["Person 1 was born in Turin."]
    wrong = own_record(tmp_path, support_sets=[[1]])
    assert find_support(wrong, pool) == "gold evidence does not contain the answer"
    # Of two sets, the one with the answer stays.
    assert len(find_support(own_record(tmp_path, support_sets=[[1], [0]]), pool).sets) == 1
    no_gold = own_record(tmp_path, answer="yes", answer_aliases=["yes"], support_sets=[])
    assert find_support(no_gold, pool) == "yes/no answer without gold evidence"


@pytest.mark.parametrize(
    "change",
    [
        {"support_sets": [[3]]},
        {"support_sets": [[-1]]},
        {"support_sets": [["0"]]},
        {"answerable": False},
        {"answerable": "false"},
    ],
)
def test_a_row_in_sample_layout_that_contradicts_itself_is_named(change, tmp_path):
    with pytest.raises(DataError, match="own.jsonl:1: "):
        own_record(tmp_path, **change)


def test_a_dpr_row_without_answers_is_unanswerable(tmp_path):
    path = write_rows(tmp_path / "own.jsonl", [dpr_row(0, answer=[]), dpr_row(1, answer=[""]), dpr_row(2)])
    records = list(own.read_records(path, "any", stop, source="handbook"))
    assert [record.answerable for record in records] == [False, False, True]


# --- ids


def ids_of(paths, drops):
    files = [(path, {"split": "any"}) for path in paths]
    return [record.id for record in draw_records("own", files, 0, 42, stop, drops)]


def test_ids_that_start_again_in_each_file_are_told_apart_by_file(tmp_path):
    rows = [dpr_row(i) | {"id": str(i % 3)} for i in range(9)]
    first = write_rows(tmp_path / "train.jsonl", rows[:3])
    second = write_rows(tmp_path / "dev.jsonl", rows[3:6])
    # The third file has a row of the second one, and one id twice.
    third = write_rows(tmp_path / "test.v1.jsonl", [rows[3], rows[6], rows[7], rows[8] | {"id": "1"}])
    drops = DroppedRows()
    assert ids_of([first, second, third], drops) == [
        *("own:0", "own:1", "own:2"),
        *("own:0@dev", "own:1@dev", "own:2@dev"),
        *("own:0@test", "own:1@test", "own:1@test#2"),
    ]
    assert drops == {"duplicate question": 1}


@pytest.mark.parametrize("ids", [["a", "a:unanswerable"], ["a:unanswerable", "a"]])
def test_no_row_has_the_id_of_another_rows_twin(ids, tmp_path, monkeypatch):
    rows = [dpr_row(i, f"Person {i}") | {"id": ids[i] if i < 2 else i} for i in range(40)]
    path = write_rows(tmp_path / "own.jsonl", rows)
    # Reading the samples checks that no id repeats in a file.
    splits, _ = build(tmp_path, monkeypatch, {path: "any"}, "--unanswerable-fraction", "0.5")
    found = [sample["id"] for samples in splits.values() for sample in samples]
    assert len(set(found)) == len(found)
    assert f"handbook:{ids[1]}@own" in found


def test_an_answer_that_no_completion_may_give_never_becomes_the_answer(tmp_path):
    long = "Bergen as the youngest child " + "of a large family " * 8
    row = dpr_row(0, "Person 0", answer=["Bergenhus", long])
    row["positive_ctxs"][0]["text"] = f"Person 0 was born in {long}."
    (record,) = own.read_records(write_rows(tmp_path / "own.jsonl", [row]), "any", stop, source="mine")
    assert find_support(record, PagePool({}, 80)) == "answer longer than 120 characters"
    both = dataclasses.replace(record, answers=("Bergenhus", long, "Bergen"))
    assert find_support(both, PagePool({}, 80)).aliases[0] == "Bergen"


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (["..."], "no usable answer"),
        (["?", "!"], "no usable answer"),
        (["yes", "no"], "accepted answers contradict each other"),
        (["True", "refuted"], "accepted answers contradict each other"),
    ],
)
def test_answers_that_say_nothing_or_both_drop_the_row(answer, reason, tmp_path):
    path = write_rows(tmp_path / "own.jsonl", [dpr_row(0, "Person 0", answer)])
    (record,) = own.read_records(path, "any", stop, source="mine")
    assert find_support(record, PagePool({}, 80)) == reason


def test_files_of_one_name_in_two_folders_are_told_apart(tmp_path):
    paths = []
    for i, folder in enumerate(("a", "b", "c")):
        (tmp_path / folder).mkdir()
        paths.append(write_rows(tmp_path / folder / "data.jsonl", [dpr_row(i) | {"id": 7}]))
    assert ids_of(paths, DroppedRows()) == ["own:7", "own:7@data", "own:7@data#2"]


def test_a_question_with_other_answers_is_dropped_unless_its_passages_are_others(tmp_path):
    row = dpr_row(0)
    elsewhere = dpr_row(1, question=row["question"])
    path = write_rows(tmp_path / "own.jsonl", [row, row | {"answers": ["Atlantis"]}, row, elsewhere])
    drops = DroppedRows()
    # Which of the answers is right cannot be told, so none of these rows is used.
    assert len(ids_of([path], drops)) == 1
    assert drops == {"contradictory question": 3}


# --- SQuAD 2.0 in DPR layout


def test_a_squad_file_has_its_shares_and_unanswerable_questions_keep_their_topic(tmp_path, monkeypatch):
    rows = squad_rows(n_articles=20, n_paragraphs=12)
    splits, figures = build(tmp_path, monkeypatch, {write_rows(tmp_path / "own.jsonl", rows): "any"})
    assert figures["rules_broken"] == []
    n_samples = sum(len(split) for split in splits.values())
    assert 0.7 <= len(splits["train"]) / n_samples <= 0.88
    assert min(len(splits["val"]), len(splits["test"])) >= 0.05 * n_samples
    assert figures["dropped"]["handbook"].get("connects two splits", 0) <= 0.05 * len(rows)
    text_of = {f"handbook:{row['id']}": row["positive_ctxs"][0]["text"] for row in rows}
    n_own = 0
    for sample in [sample for split in splits.values() for sample in split]:
        if sample["metadata"]["support_rule"] == "unanswerable in the source":
            n_own += 1
            shown = [chunk["text"] for chunk in sample["evidence_chunks"]]
            assert any(text in text_of[sample["id"]] for text in shown), sample["id"]
    assert n_own > 100


def test_the_topic_of_an_unanswerable_question_is_shown_though_it_says_most_of_it():
    # Its words alone would reject it: another text that says so much might answer.
    topic = Passage("Mill", ("The old mill by the river in Oak was built of stone.",), is_gold=True)
    pages = {f"Barn {i}": [f"Barn {i} has a red roof."] for i in range(4)}
    pool = PagePool(pages, 20)
    ask = record(
        question="When was the old mill by the river in Oak built?",
        answers=(),
        answerable=False,
        subject=(),
        page_titles=(),
        passages=(topic,),
    )
    ranked = ranked_negatives(find_support(ask, pool), pool, frozenset(), random.Random(0))
    assert "Mill" in {chunk.title for chunk in ranked}
