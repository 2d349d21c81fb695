"""One page, one title: files spell it with HTML entities, in decomposed Unicode, or with other spaces."""

import random

import pytest

from evidence.chunks import PagePool
from evidence.groups import group_supports
from evidence.records import Record
from evidence.support import find_support
from sources import clapnq, contexts, fever, fool_me_twice, hotpotqa, own, popqa
from utils.jsonl import raise_bad, write_json, write_jsonl
from utils.text import plain_title

# "André Nemec" with the accent as a sign of its own, as dumps of passages have it.
DECOMPOSED = "Andre\u0301 Nemec"
COMPOSED = "Andr\u00e9 Nemec"


@pytest.mark.parametrize(
    "written, title",
    [
        ("Simon &amp; Simon", "Simon & Simon"),
        ("Simon &amp;amp; Simon", "Simon & Simon"),
        ("Eddie &amp;quot;The Eagle&amp;quot; Edwards", 'Eddie "The Eagle" Edwards'),
        ("Ocean&#39;s&nbsp;Eleven", "Ocean's Eleven"),
        (DECOMPOSED, COMPOSED),
        ("  The \t Tower\n", "The Tower"),
        # No entities: nothing ends them, or no sign has the name.
        ("Marks & Spencer", "Marks & Spencer"),
        ("Q&notes", "Q&notes"),
        ("A &amp B; C", "A &amp B; C"),
        ("Rise &shine;", "Rise &shine;"),
        ("", ""),
        # Characters without a width: nobody sees them, and one of them is no title.
        ("\u200b", ""),
        ("The\u200b Tower\ufeff", "The Tower"),
    ],
)
def test_a_title_has_one_spelling(written, title):
    assert plain_title(written) == title
    assert plain_title(title) == title


def hotpotqa_row(title: str) -> dict:
    row = {"_id": "h", "question": "Who starred?", "answer": "Falk"}
    return {**row, "supporting_facts": [[title, 0]], "context": [[title, ["Falk starred."]]]}


def popqa_file(path, subject: str, title: str, alias: str):
    columns = "id subj prop obj s_aliases s_wiki_title s_pop question possible_answers".split()
    cells = ["1", subject, "place of birth", "Denver", f'["{alias}"]', title, "9", "Where?", '["Denver"]']
    # Quotes in a cell are doubled.
    quoted = ['"' + cell.replace('"', '""') + '"' for cell in cells]
    path.write_text("\t".join(columns) + "\n" + "\t".join(quoted) + "\n", encoding="utf-8")
    return path


WRITTEN = "Lilo &amp;amp; Stitch (Andre\u0301)"
TITLE = "Lilo & Stitch (Andr\u00e9)"


def test_every_reader_reads_a_title_in_this_spelling(tmp_path):
    path = tmp_path / "rows.json"
    chunk = {"title": WRITTEN, "text": "Falk starred."}

    write_json(path, [hotpotqa_row(WRITTEN)])
    (row,) = hotpotqa.read_records(path, "any", raise_bad)
    assert row.passages[0].title == TITLE and row.gold_sets == (((TITLE, 0),),) and row.answerable
    # A fact and its paragraph may differ.
    write_json(path, [{**hotpotqa_row(TITLE), "context": [[WRITTEN, ["Falk starred."]]]}])
    (row,) = hotpotqa.read_records(path, "any", raise_bad)
    assert row.answerable

    write_jsonl(path, [{"question": "who starred", "answers": ["Falk"], "ctxs": [chunk]}])
    (passages,) = contexts.read_contexts(path, {"who starred"}, raise_bad).values()
    assert passages[0].title == TITLE
    (row,) = own.read_records(path, "any", raise_bad, source="mine")
    assert row.passages[0].title == TITLE
    sample = {"question": "Who?", "evidence_chunks": [chunk], "answer": "Falk", "answer_aliases": []}
    write_jsonl(path, [{**sample, "answerable": True, "support_sets": [[0]]}])
    (row,) = own.read_records(path, "any", raise_bad, source="mine")
    assert row.passages[0].title == TITLE and row.gold_sets == (((TITLE, 0),),)

    (row,) = popqa.read_records(popqa_file(tmp_path / "p.tsv", WRITTEN, WRITTEN, WRITTEN), "any", raise_bad)
    assert row.page_titles == (TITLE,) and set(row.subject) == {TITLE}
    assert fever.page_title("Lilo_&amp;_Stitch_-LRB-Andre\u0301-RRB-") == TITLE

    claim = {"id": 1, "label": "SUPPORTS", "text": "Falk starred.", "wikipedia_page": WRITTEN}
    write_jsonl(path, [{**claim, "gold_evidence": [{"text": "Falk."}], "retrieved_evidence": []}])
    (row,) = fool_me_twice.read_records(path, "test", raise_bad)
    assert row.page_titles == (TITLE,) and row.passages[0].title == TITLE
    passage = {"title": WRITTEN, "text": "Falk.", "sentences": ["Falk."]}
    write_jsonl(path, [{"id": 1, "input": "who", "passages": [passage], "output": []}])
    (row,) = clapnq.read_records(path, "test", raise_bad)
    assert row.passages[0].title == TITLE


def found_in_passage(tmp_path, title: str):
    """What is found for a PopQA row about `COMPOSED` in a passage whose title may be spelled otherwise."""
    path = tmp_path / "contexts.jsonl"
    text = f"{title} is an American writer who was born in Denver."
    write_jsonl(path, [{"question": "Where?", "ctxs": [{"title": title, "text": text}]}])
    (passages,) = contexts.read_contexts(path, {contexts.question_key("Where?")}, raise_bad).values()
    (row,) = popqa.read_records(popqa_file(tmp_path / "p.tsv", COMPOSED, COMPOSED, ""), "any", raise_bad)
    return find_support(Record(**{**vars(row), "passages": tuple(passages)}), PagePool({}, 80, passages))


@pytest.mark.parametrize("title", [COMPOSED, DECOMPOSED])
def test_a_subject_is_found_on_its_page_in_any_spelling(title, tmp_path):
    support = found_in_passage(tmp_path, title)
    assert support != "answer not verified in any chunk"
    assert support.rule == "answer and subject in one chunk"


def test_rows_of_one_page_are_in_one_group_however_their_files_spell_it(tmp_path):
    write_json(tmp_path / "h.json", [{**hotpotqa_row("Andr\u00e9 &amp;amp; Co"), "question": "alpha beta?"}])
    (first,) = hotpotqa.read_records(tmp_path / "h.json", "any", raise_bad)
    marked = {"title": "Andre\u0301  & Co", "text": "Falk wrote the play."}
    row = {"question": "who wrote?", "answers": ["Falk"], "positive_ctxs": [marked]}
    write_jsonl(tmp_path / "o.jsonl", [row])
    (second,) = own.read_records(tmp_path / "o.jsonl", "any", raise_bad, source="mine")
    supports = [find_support(row, PagePool({}, 80)) for row in (first, second)]
    assert len(set(group_supports(supports, 0.8, False, random.Random(0)))) == 1
