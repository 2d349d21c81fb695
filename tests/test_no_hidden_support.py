"""No negative and no twin shows what answers the question, on other routes than its words."""

import json
import random

import pytest

import build_data
from evidence.assembly import AssemblySettings
from evidence.chunks import PagePool
from evidence.drops import DroppedRows
from evidence.external import external_samples
from evidence.negatives import ranked_negatives
from evidence.records import Record
from evidence.samples import build_sample, build_twin
from evidence.support import find_support
from sources import clapnq, own
from sources.pages import read_page_pool
from utils.errors import UsageError

NO_FILES = {"own": {"records": [], "pages": [], "contexts": []}}
MILL = (
    "The mill of Skarvik stands at the narrows. It has two wheels and a long flume of larch. Oak beams carry "
    "the roof. Visitors reach the building by a steep path along the shore. "
    "On Sundays the doors are open and nobody pays to enter."
)


def pool_of(rows: list[dict], max_words: int = 20):
    """(records, pool) of rows of the user's own."""
    records = [own._to_record(row, "any", "own") for row in rows]
    return read_page_pool(NO_FILES, records, 0, max_words, lambda *_: None)


def negatives_of(record: Record, pool: PagePool):
    support = find_support(record, pool)
    assert not isinstance(support, str), support
    return support, ranked_negatives(support, pool, frozenset(), random.Random(0))


def test_the_rest_of_a_marked_passage_is_no_negative_of_a_yes_or_no():
    museum = {"title": "Museum", "text": "The museum opens in May. It has a stone of French quartz."}
    asked = {"id": "1", "question": "Is entry to the mill of Skarvik free on Mondays?", "answers": ["no"]}
    # Marked in this row, and part of the pool, too; the second passage has the title of the first.
    second = {
        "title": "Mill",
        "text": "The ferry to it stops in winter. A bell calls it from the other shore.",
    }
    row = {
        **asked,
        "positive_ctxs": [{"title": "Mill", "text": MILL}, second],
        "hard_negative_ctxs": [museum],
    }
    stone = {"id": "2", "question": "What is the museum stone made of?", "answers": ["French quartz"]}
    records, pool = pool_of([row, {**stone, "positive_ctxs": [museum]}])
    _, ranked = negatives_of(records[0], pool)
    assert ranked and {chunk.title for chunk in ranked} == {"Museum"}


def test_an_unanswerable_claim_of_an_earlier_build_shows_its_own_chunks_alone():
    claim = "Is this claim supported or refuted by the evidence? Elizabeth of York married in 1811."
    shown = [
        {"title": "York", "text": "York is an old city on two rivers."},
        {"title": "Lancaster", "text": "The house of Lancaster had a red rose."},
        {"title": "Windsor", "text": "A castle stands at Windsor on the river."},
    ]
    support = {"title": "Elizabeth of York", "text": "Elizabeth of York (1466 - 1503) married Henry in 1486."}
    right = {
        "id": "1",
        "question": claim,
        "evidence_chunks": [support, *shown[:2]],
        "answer": "refuted",
        "answer_aliases": ["refuted"],
        "answerable": True,
        "support_sets": [[0]],
    }
    twin = {
        **right,
        "id": "1:unanswerable",
        "evidence_chunks": shown,
        "answer": "[INSUFFICIENT_EVIDENCE]",
        "answer_aliases": [],
        "answerable": False,
        "support_sets": [],
        "metadata": {"gold_aliases": ["refuted"]},
    }
    records, pool = pool_of([right, twin])
    _, ranked = negatives_of(records[1], pool)
    assert len(ranked) == 3 and "Elizabeth of York" not in {chunk.title for chunk in ranked}


def claim_of_two_sets(sets) -> tuple[Record, PagePool]:
    """A supported claim with these gold sets: its page, whose second chunk alone says all of the claim."""
    pages = {
        "Arum": ["Arum is a tall plant.", "It grows on the hills of Bison."],
        "Bison": ["Bison is an old land of hills."],
    }
    pages |= {f"Vale {i}": [f"Vale {i} has an old plant."] for i in range(6)}
    claim = "Arum is a plant on the hills of Bison."
    record = Record(
        *("fever:1", "fever", f"Is it so? {claim}", ("supported",), True, "any", sets),
        page_titles=("Arum", "Bison"),
        names=("Arum",),
        metadata={"claim": claim},
    )
    return record, PagePool(pages, 8)


def test_a_hop_that_annotators_found_enough_is_support_and_stays_in_no_twin():
    both = (("Arum", 0), ("Arum", 1))
    record, pool = claim_of_two_sets((both, (("Arum", 1),)))
    support, ranked = negatives_of(record, pool)
    assert [len(chunks) for chunks in support.sets] == [2, 1]
    for seed in range(6):
        sample = build_sample(support, ranked, 4, "g", random.Random(seed))
        (alone,) = (ids for ids in sample["support_sets"] if len(ids) == 1)
        assert "grows on the hills" in sample["evidence_chunks"][alone[0]]["text"]
        twin = build_twin(support, sample, ranked, random.Random(seed))
        assert not any("grows on the hills" in chunk["text"] for chunk in twin["evidence_chunks"])


def test_a_kept_hop_names_no_nationality_of_the_answer():
    pages = {
        "Pantanal": ["The Pantanal is a car by a Brazilian maker."],
        "Troller": ["Troller made cars in Brazil until 2021."],
    }
    pages |= {f"Car {i}x": [f"The Car {i}x is a small car by an old maker."] for i in range(6)}
    facts = (("Pantanal", 0), ("Troller", 0))
    record = Record(
        *("hotpotqa:1", "hotpotqa", "In which country did the maker of the Pantanal make cars?"),
        *(("Brazil",), True, "any", (facts,)),
        page_titles=("Pantanal", "Troller"),
    )
    pool = PagePool(pages, 20)
    support, ranked = negatives_of(record, pool)
    for seed in range(6):
        sample = build_sample(support, ranked, 4, "g", random.Random(seed))
        twin = build_twin(support, sample, ranked, random.Random(seed))
        assert twin and "Pantanal" not in {chunk["title"] for chunk in twin["evidence_chunks"]}


def test_a_sentence_that_an_annotator_chose_is_no_negative():
    sentences = [
        "Lake Vell was dammed in 1931 by the engineer Marn .",
        "The dam was raised after the great flood .",
        "It freezes in winter .",
        "Fish are rare there .",
    ]
    outputs = [
        {"answer": "The engineer Marn dammed it in 1931 .", "selected_sentences": sentences[:1]},
        {
            "answer": "Following a huge inundation, builders made it higher .",
            "selected_sentences": sentences[1:2],
        },
    ]
    passage = {"title": "Lake Vell", "text": " ".join(sentences), "sentences": sentences}
    row = {"id": "1", "input": "who dammed lake vell", "passages": [passage], "output": outputs}
    records, pool = read_page_pool(NO_FILES, [clapnq._to_record(row, "test")], 0, 80, lambda *_: None)
    (sample,) = external_samples(records, pool, AssemblySettings(1, 6), {"clapnq": DroppedRows()})
    shown = [sample["evidence_chunks"][i]["text"] for i in sample["hard_negatives"]]
    assert shown and not any("great flood" in text for text in shown)


# --- flags of a build


def test_flags_that_would_change_nothing_are_refused(home, tmp_path):
    with pytest.raises(UsageError, match="--sample builds the bundled sample alone"):
        build_data.main(["--sample", "--sources-config", "x.yaml"])
    path = tmp_path / "external.yaml"
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "who?", "answers": ["a"], "ctxs": []}) + "\n")
    path.write_text(f"evaluation_only: true\nsources:\n  own:\n    records: [{{path: {rows}}}]\n")
    flags = ["--sources-config", str(path), "--accept-new-hash", "--made", "contrast"]
    with pytest.raises(UsageError, match="--made"):
        build_data.main(flags)
    with pytest.raises(UsageError, match="source"):
        build_data.main(["--sample", "--sources", "", "--dry-run"])
