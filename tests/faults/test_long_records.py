"""A record of a megabyte, or of tens of thousands of parts, takes time by its size in every reader.

Each took minutes to hours where a list was searched for each of its own items.
"""

import json
import time

import pytest

from evidence.annotation import annotated_sets
from evidence.chunks import Chunk
from evidence.contrast_dates import _birth_and_death
from evidence.paraphrase import bare_title
from evidence.records import Record
from sources import READERS, own
from sources.clapnq import shared_runs
from sources.fever import title_key
from tests.test_malformed import CLAIM, HOT, NQ
from utils.errors import DataError
from utils.jsonl import raise_bad

N = 20_000
# Processor time; the quadratic versions took from 20 seconds to days.
MAX_SECONDS = 6
MEGABYTE = 1 << 20


def clapnq(sentences: list[str], outputs: list[tuple[str, list[str]]]) -> dict:
    passage = {"title": "T", "text": " ".join(sentences), "sentences": sentences}
    annotated = [{"answer": answer, "selected_sentences": chosen} for answer, chosen in outputs]
    return {"id": "c", "input": "Who built it?", "passages": [passage], "output": annotated}


SENTENCES = [f"Sentence {i} names Falk." for i in range(N)]
# Name -> (reader, row)
LONG = {
    "fever, evidence sets": ("fever", {**CLAIM, "evidence": [[[1, 2, "Tower", i]] for i in range(N)]}),
    "fever, sentences of a set": ("fever", {**CLAIM, "evidence": [[[1, 2, f"T{i}", i] for i in range(N)]]}),
    "clapnq, selected sentences": ("clapnq", clapnq(SENTENCES, [("Falk did.", SENTENCES)])),
    "clapnq, annotators": ("clapnq", clapnq(SENTENCES, [("Falk did.", [one]) for one in SENTENCES])),
    "clapnq, a run of words": ("clapnq", clapnq(["Falk " * N], [("Falk " * N, ["Falk " * N])])),
    "clapnq, words in another order": (
        "clapnq",
        clapnq([" ".join(f"x w{i}" for i in range(N))], [(" ".join(f"x v{i}" for i in range(N)), [])]),
    ),
    "clapnq, a passage of a megabyte": ("clapnq", clapnq(["A b. " * (MEGABYTE // 5)], [("", [])])),
    "hotpotqa, paragraphs": (
        "hotpotqa",
        {
            **{**HOT, "context": [[f"Title {i}", ["Falk built it."]] for i in range(N)]},
            "supporting_facts": [[f"Title {i}", 0] for i in range(N)],
        },
    ),
    "hotpotqa, paragraphs of one title": (
        "hotpotqa",
        {
            **{**HOT, "context": [["Title", [f"Falk built {i}."]] for i in range(N)]},
            "supporting_facts": [["Title", i] for i in range(N)],
        },
    ),
    "nq_open, answers": ("nq_open", {**NQ, "answer": [f"Falk {i}" for i in range(N)]}),
    "fool_me_twice, sentences": (
        "fool_me_twice",
        {
            **{
                "id": "f",
                "label": "REFUTES",
                "text": "Falk built it.",
                "wikipedia_page": " " * MEGABYTE + "T",
            },
            "gold_evidence": [{"text": f"Ek built {i}."} for i in range(N)],
            "retrieved_evidence": [{"text": f"Ek built {i}."} for i in range(2 * N)],
        },
    ),
    "own, support sets": (
        "own",
        {
            **{"id": "o", "question": "Who?", "answer": "Falk", "answer_aliases": [], "answerable": True},
            "evidence_chunks": [{"title": "T", "text": f"Falk {i}"} for i in range(N)],
            "support_sets": [[i] for i in range(N)],
        },
    ),
    "own, contexts": (
        "own",
        {
            **{"question": "Who?", "answers": [f"Falk {i}" for i in range(N)]},
            "ctxs": [{"title": "(" * 50, "text": f"Falk {i}. " * 3} for i in range(N)],
        },
    ),
}
# The selected sentences of the row above are its only one.
_ROW = LONG["clapnq, words in another order"][1]
_ROW["output"][0]["selected_sentences"] = _ROW["passages"][0]["sentences"]


def seconds(work, *arguments) -> float:
    started = time.process_time()
    work(*arguments)
    return time.process_time() - started


def read(name: str, path) -> list:
    if name == "own":
        return list(own.read_records(path, "any", raise_bad, source="mine"))
    return list(READERS[name](path, "any", raise_bad))


@pytest.mark.parametrize("name", LONG)
def test_a_long_record_is_read_in_time_by_its_size(name, tmp_path):
    reader, row = LONG[name]
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(row) + "\n")
    assert seconds(lambda: len(read(reader, path)) == 1 or pytest.fail("no record")) < MAX_SECONDS


def test_an_answer_too_long_to_be_compared_makes_the_row_doubtful(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps(LONG["clapnq, a run of words"][1]) + "\n")
    (record,) = read("clapnq", path)
    assert record.doubt == "the written answers are too long to be compared with their sentences"
    assert record.answers == ()


def test_a_run_is_cut_to_the_length_of_an_answer_in_time_by_its_size():
    text = " ".join(f"w{i}" for i in range(3000))
    assert seconds(shared_runs, text, text) < 2
    (run,) = shared_runs(text, text)
    assert text.startswith(run + " w") and 100 < len(run) < 1000


def test_a_question_that_no_one_asks_is_refused(tmp_path):
    path = tmp_path / "rows.jsonl"
    for reader, row in (("nq_open", NQ), ("fever", CLAIM)):
        key = "claim" if reader == "fever" else "question"
        path.write_text(json.dumps({**row, key: "from 1984 " * 2000}) + "\n")
        with pytest.raises(DataError, match=f"rows.jsonl:1: .*{key} must be at most 10,000 characters"):
            read(reader, path)


@pytest.mark.parametrize(
    ("work", "text"),
    [
        (bare_title, "a" + " " * MEGABYTE + "b"),
        (title_key, "a" + " " * MEGABYTE + "b)"),
        (title_key, "(" * 100_000 + "b)"),
        (_birth_and_death, "(" + "1984-" * 30_000 + "x"),
        (_birth_and_death, "(1984 " * 30_000),
    ],
)
def test_a_pattern_takes_time_by_the_length_of_its_text(work, text):
    assert seconds(work, text) < 2


def test_patterns_match_what_they_matched():
    assert bare_title("Ugly  (film)") == "Ugly" and bare_title("Cambridge, Kansas") == "Cambridge"
    assert bare_title("  (x)") == "  (x)" and title_key("Ugly \t(film)") == "ugly"
    assert _birth_and_death("Falk (1 May 1901 - 2 June 1984) was")["died"]["year"] == "1984"


def test_thousands_of_annotated_sets_are_told_apart_in_time_by_their_number():
    chunks = [Chunk(f"T{i}", "x", (0,), page=f"T{i}") for i in range(N)]
    record = Record("a", "a", "q", ("x",), True, "any", gold_sets=tuple(((f"T{i}", 0),) for i in range(N)))
    assert seconds(annotated_sets, record, chunks) < MAX_SECONDS
    assert len(annotated_sets(record, chunks)) == N
