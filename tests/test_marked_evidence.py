"""What a row marks as evidence is no negative of it, under any title, in any window and in other rows."""

import json

import pytest

import build_data
from evidence.assembly import AssemblySettings, assemble
from evidence.drops import DroppedRows
from evidence.external import external_samples
from evidence.groups import group_supports
from evidence.records import told_apart
from evidence.support import find_support
from sources import own, popqa
from sources.pages import read_page_pool
from utils.errors import DataError, UsageError
from utils.jsonl import read_jsonl

NO_FILES = {"own": {"records": [], "pages": [], "contexts": []}}
NAMES = ("Brann", "Tolv", "Kesk", "Odran", "Pelt", "Vorn")
STONES = [
    {"title": "Quartz", "text": "Quartz is a hard mineral of silica."},
    {"title": "Basalt", "text": "Basalt is a volcanic rock that cools quickly."},
    {"title": "Granite", "text": "Granite is coarse and grey."},
    {"title": "Marble", "text": "Marble takes a polish and is sold in slabs."},
]


def supports_of(rows: list[dict]):
    """(supports, pool) of rows of the user's own, all of which are verified."""
    records = [own._to_record(row, "any", "own") for row in rows]
    records, pool = read_page_pool(NO_FILES, records, 0, 40, lambda *_: None)
    supports = [find_support(record, pool) for record in records]
    assert not any(isinstance(support, str) for support in supports), supports
    return supports, pool


def shown_negatives(rows: list[dict]) -> dict[str, str]:
    """Row id -> the texts of all negatives of its sample and of its twin."""
    supports, pool = supports_of(rows)
    groups = [support.record.id for support in supports]
    split_of = dict.fromkeys(groups, "train")
    found = {}
    for sample, twin in assemble(supports, groups, split_of, pool, AssemblySettings(1, 4)):
        assert not isinstance(sample, str), sample
        texts = []
        for each in (sample, twin):
            if each:
                texts += [each["evidence_chunks"][i]["text"] for i in each["hard_negatives"]]
        found[sample["id"].removeprefix("own:")] = " ".join(texts)
    return found


def test_a_window_with_a_sentence_of_the_support_is_no_negative():
    rows = []
    for name in NAMES:
        title = f"{name} Mill"
        ale = f"Ale was made within the walls of {name} until 1850."
        brewery = {"question": f"Has {title} ever been a brewery?", "answers": ["yes"], "id": f"q{name}"}
        positive = {"title": title, "text": f"{title} stands by the river. {ale}"}
        rows.append({**brewery, "positive_ctxs": [positive], "hard_negative_ctxs": STONES})
        window = {"title": title, "text": f"{ale} Today it has a museum of nets and sails."}
        asked = {"id": f"r{name}", "question": f"What does {name} have a museum of?", "answers": ["nets"]}
        rows.append({**asked, "positive_ctxs": [window], "hard_negative_ctxs": STONES})
    negatives = shown_negatives(rows)
    for name in NAMES:
        assert f"walls of {name}" not in negatives[f"q{name}"]


MARKED = "The poet {name} came into the world in the French capital."


def marked_row(name: str, layout: str) -> dict:
    """A question whose source marks two passages, of which one lacks the accepted answer."""
    both = [
        {"title": f"{name} Alvik", "text": f"{name} Alvik was born in Paris to a family of bakers."},
        {"title": f"Salon {name}", "text": MARKED.format(name=name)},
    ]
    asked = {"id": name, "question": f"Where was the poet {name} Alvik born?"}
    if layout == "DPR":
        return {**asked, "answers": ["Paris"], "positive_ctxs": both, "hard_negative_ctxs": STONES}
    return {
        **asked,
        **{"evidence_chunks": [*both, *STONES], "answer": "Paris", "answer_aliases": ["Paris"]},
        **{"answerable": True, "support_sets": [[0], [1]]},
    }


@pytest.mark.parametrize("layout", ["DPR", "sample"])
def test_a_marked_passage_without_the_accepted_answer_is_no_negative(layout):
    negatives = shown_negatives([marked_row(name, layout) for name in NAMES])
    for name in NAMES:
        assert MARKED.format(name=name) not in negatives[name]


def test_what_answers_the_question_of_another_row_is_no_negative():
    rows = []
    for i, name in enumerate(NAMES):
        asked = {"id": f"d{name}", "question": "When was the company founded?", "answers": [str(1801 + i)]}
        founded = {"title": f"{name} Ltd", "text": f"{name} Ltd was founded in {1801 + i}. It sells nets."}
        rows.append({**asked, "positive_ctxs": [founded], "hard_negative_ctxs": STONES})
        unanswered = {"id": f"u{name}", "question": "When was the company  founded?", "answers": []}
        bakery = {"title": f"{name} Bakery", "text": f"{name} Bakery sells bread and cakes."}
        rows.append({**unanswered, "positive_ctxs": [bakery], "hard_negative_ctxs": STONES})
    assert not any("was founded in" in texts for texts in shown_negatives(rows).values())


def test_an_accepted_abbreviation_is_in_no_negative_and_the_word_may_be():
    rows = []
    for name in NAMES:
        asked = {"id": name, "question": f"To which country did the poet {name} Alvik move?"}
        moved = {"title": f"{name} Alvik", "text": f"{name} Alvik moved to the United States in old age."}
        settled = {"title": f"Salon {name}", "text": f"Alvik {name} settled in the US with two sons."}
        told = {"title": f"Ode {name}", "text": f"The ode told us of the sea and of {name}."}
        rows.append(
            {
                **asked,
                "answers": ["United States", "US"],
                "positive_ctxs": [moved],
                "hard_negative_ctxs": [settled, told, *STONES],
            }
        )
    negatives = shown_negatives(rows)
    assert not any("the US" in texts for texts in negatives.values())
    assert any("told us" in texts for texts in negatives.values())


@pytest.mark.parametrize("titles", [("Brann_Mill", "Brann mill"), ("", "Brann Mill")])
def test_rows_of_one_page_are_one_group_whatever_its_title(titles):
    text = "Brann Mill was built by the engineer Kesk in 1880."
    rows = []
    for i, title in enumerate(titles):
        asked = [("Who built Brann Mill?", "Kesk"), ("In which year was Brann Mill built?", "1880")][i]
        context = {"title": title, "text": text}
        rows.append({"id": str(i), "question": asked[0], "answers": [asked[1]], "positive_ctxs": [context]})
    supports, _ = supports_of(rows)
    first, second = group_supports(supports, 0.8, False, None)
    assert first == second


def test_passages_that_differ_in_spaces_are_one():
    texts = ["Kesk Alvik was born in 1880.", "Kesk Alvik  was\u00a0born in 1880."]
    passages = [own.Passage("Kesk", (text,), is_gold=i == 1) for i, text in enumerate(texts)]
    (passage,) = told_apart(passages)
    assert passage.sentences == (texts[0],) and passage.is_gold


# --- evaluation-only builds


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))


def write_config(folder, rows: list[dict], is_evaluation: bool) -> list[str]:
    """Flags that build these rows."""
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    mode = "evaluation_only: true\n" if is_evaluation else ""
    path = folder / "sources.yaml"
    path.write_text(f"{mode}sources:\n  own:\n    records: [{{path: {folder / 'rows.jsonl'}}}]\n")
    return ["--sources-config", str(path), "--accept-new-hash", "--data-dir", str(folder / "built")]


def test_rows_of_an_evaluation_only_build_are_not_built_again_for_training(home, tmp_path):
    rows = [marked_row(name, "sample") | {"metadata": {"evaluation_only": True}} for name in NAMES]
    with pytest.raises(DataError, match="6 of 6 rows are of an evaluation-only build, e.g. own:"):
        build_data.main(write_config(tmp_path, rows, is_evaluation=False))
    build_data.main(write_config(tmp_path, rows, is_evaluation=True))
    samples = [row for _, row in read_jsonl(tmp_path / "built/processed/test.jsonl")]
    assert len(samples) == len(NAMES) and all(row["metadata"]["evaluation_only"] for row in samples)


def test_marked_passages_are_the_annotation_of_an_evaluation_only_build():
    rows = [marked_row(name, "DPR") for name in NAMES]
    yes = {"id": "yes", "question": "Does Brann stand by the sea?", "answers": ["yes"]}
    rows.append(
        {**yes, "positive_ctxs": [{"title": "Brann", "text": "Brann stands by the sea and its ferry."}]}
    )
    records = [own._to_record(row, "test", "own") for row in rows]
    records, pool = read_page_pool(NO_FILES, records, 0, 40, lambda *_: None)
    drops = {"own": DroppedRows()}
    samples = external_samples(records, pool, AssemblySettings(1, 4), drops)
    assert len(samples) == len(rows) and not dict(drops["own"])
    for sample, row in zip(samples, rows):
        (support,) = [sample["evidence_chunks"][i]["text"] for i in sample["support_spans"]]
        assert support == row["positive_ctxs"][0]["text"]


# --- flags and fields


@pytest.mark.parametrize("flag", [["--split", "0.5,0.3,0.2"], ["--unanswerable-fraction", "0.5"]])
def test_flags_that_an_evaluation_only_build_would_ignore_are_refused(flag, home, tmp_path):
    with pytest.raises(UsageError, match=f"{flag[0]}: a build with evaluation_only"):
        build_data.main([*write_config(tmp_path, [], is_evaluation=True), *flag])


def test_flags_that_a_check_would_ignore_are_refused(home):
    with pytest.raises(UsageError, match="--sources: --check reads one file and builds nothing"):
        build_data.main(["--check", "rows.jsonl", "--sources", "own"])


def test_flags_that_say_the_same_name_one_build(home, tmp_path, capsys):
    flags = write_config(tmp_path, [marked_row(name, "sample") for name in NAMES * 2], is_evaluation=False)
    build_data.main([*flags, "--limit", "12", "--sources", "own"])
    build_data.main([*flags, "--max-per-source", "12", "--sources", " own"])
    assert "complete with these settings" in capsys.readouterr().out


@pytest.mark.parametrize("question", ["???", "why " * 4000])
def test_a_popqa_question_keeps_the_rules_of_all_readers(question):
    row = dict.fromkeys(("subj", "prop", "obj", "s_wiki_title"), "x")
    row |= {"id": " 7 ", "possible_answers": '["y"]', "s_aliases": "[]", "s_pop": "1"}
    with pytest.raises(ValueError, match="question must be"):
        popqa._to_record(row | {"question": question}, "any")
    assert popqa._to_record(row | {"question": "What is x?"}, "any").id == "popqa:7"
