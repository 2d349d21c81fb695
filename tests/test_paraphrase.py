"""Chunks and samples that the conservative checks remove; each case was seen in the real records."""

import json
import random

import pytest

from evidence.chunks import PagePool
from evidence.negatives import ranked_negatives
from evidence.paraphrase import (
    agree,
    answer_parts,
    asked_stems,
    names_in,
    says_most,
    stem,
    stems,
    unstated,
)
from evidence.records import Passage
from evidence.samples import build_sample, build_twin
from evidence.support import find_support
from sources import hotpotqa, nq_open, popqa
from tests.test_build_data import record, stop


def test_a_stem_joins_the_forms_of_a_word_and_of_a_number():
    assert stem("drives") == stem("driving") == stem("drive")
    # "winn" is the stem of "winning": a doubled letter is not undone.
    assert stem("won") == stem("winning")[:3] == "win"
    assert [stem(word) for word in ("seven", "ii", "düsseldorf", "two")] == ["7", "2", "dusseldorf", "2"]


@pytest.mark.parametrize(
    ("answers", "text"),
    [
        (["1 October 2006"], "It became law in October 2006."),
        (["April 1917"], "The United States declared war on April 6, 1917."),
        (["Major General Clarence L. Tinker"], "General Tinker was killed over the sea."),
        (["Fascist Italy"], "Germany and Italy each declared war."),
        (["energy loss"], "A force dissipates energy."),
        (["eight"], "The series had 8 parts."),
    ],
)
def test_a_part_of_an_answer_in_another_form_is_seen(answers, text):
    assert answer_parts(answers, "who or what was it") & stems(text)


def test_what_the_question_says_itself_is_no_part_of_its_answer():
    assert answer_parts(["Philippians"], "who was the book of philippians written to") == frozenset()
    # A single digit counts, while a single letter is noise.
    assert answer_parts(["5 gold medals"], "how many gold medals did he win") == {"5"}


def test_a_chunk_that_says_most_of_the_question_may_hold_another_answer():
    asked = asked_stems("who drives the number 95 car in nascar")
    # The accepted answer is one driver; this chunk is about another one of the same car.
    assert says_most(asked, stems("He competes in NASCAR, driving the No. 95 car."))
    assert not says_most(asked, stems("The game was released for Windows 95 by NASCAR."))


def test_different_answers_do_not_agree_and_forms_of_one_do():
    assert agree(["2,579 steps", "2,579"])
    assert agree(["Carl Linnaeus", "Linnaeus", "Carl von Linnaeus"])
    assert agree(["eight", "8"])
    # Two readings of a question: where a river begins and ends, or a year and a day.
    assert not agree(["central Saskatchewan", "the Hudson Bay"])
    assert not agree(["1976", "June 16"])


def test_numbers_and_names_of_a_claim_that_its_evidence_lacks():
    said = stems("Colombiana. Colombiana is a 2011 film produced by Luc Besson.")
    assert unstated("Colombiana was produced by Luc Besson in 2001.", said) == ["2001"]
    assert unstated("Colombiana was produced by Luc Besson.", said) == []
    # A comma inside a number, and a year in its decade.
    assert unstated("It sold 1,470 copies.", stems("1,470 copies were sold")) == []
    assert unstated("He began his career in 1984.", stems("His career began in the 1980s.")) == []


def test_names_are_runs_of_capitals_without_an_article():
    assert names_in("The French Resistance fought in Paris and he lost.") == ("French Resistance", "Paris")
    assert names_in("It was red.") == ()


def negatives(support, pool):
    return ranked_negatives(support, pool, frozenset(), random.Random(0))


def test_pages_of_the_same_name_are_no_negatives():
    # Two films are called Ugly: a chunk about the other one answers the question as it is asked.
    pages = {
        "Ugly (film)": ["Ugly was written by Anurag Kashyap."],
        "The Ugly": ["It has a script by Scott Reynolds."],
        "Ugly Alert": ["An ugly drama."],
    }
    ask = record(
        question="Who was the screenwriter for Ugly?",
        answers=("Anurag Kashyap",),
        subject=("Ugly",),
        page_titles=("Ugly (film)",),
    )
    pool = PagePool(pages, 20)
    assert [chunk.title for chunk in negatives(find_support(ask, pool), pool)] == ["Ugly Alert"]


def test_the_canonical_answer_is_one_that_the_support_holds():
    pool = PagePool({"Beijing": ["Beijing is the capital of China."]}, 20)
    question = "What is Beijing the capital of?"
    beijing = record(
        question=question, answers=("Taiwan", "China"), subject=("Beijing",), page_titles=("Beijing",)
    )
    found = find_support(beijing, pool)
    assert found.aliases == ("China", "Taiwan")


def test_support_must_say_the_relation_and_stand_on_the_page_of_subject_or_answer():
    passages = (
        Passage("Films", ("Che was directed by Hatamikia.",)),
        Passage("Che", ("Che pays homage to Hatamikia.",)),
    )
    ask = record(
        question="Who directed Che?",
        answers=("Hatamikia",),
        subject=("Che",),
        passages=passages,
        page_titles=(),
        cues=frozenset({"direct"}),
    )
    # The first passage is about neither, the second does not state the relation.
    assert find_support(ask, PagePool({}, 20)) == "answer not verified in any chunk"
    passages += (Passage("Hatamikia", ("Hatamikia directed Che.",)),)
    found = find_support(record(**{**vars(ask), "passages": passages}), PagePool({}, 20))
    assert [chunk.title for chunk in found.sets[0]] == ["Hatamikia"]


def test_questions_that_hold_their_answer_and_rows_in_doubt_are_dropped(tmp_path):
    pool = PagePool({"Lakh": ["A lakh is a unit."]}, 20)
    spelling = record(question="how is lakh spelled", answers=("lakh",), subject=(), page_titles=("Lakh",))
    assert find_support(spelling, pool) == "answer appears in the question"

    # The question was true of another year for each annotator.
    path = tmp_path / "nq.jsonl"
    path.write_text('{"question": "where will the next olympics be", "answer": ["Beijing", "Tokyo"]}\n')
    olympics = next(nq_open.read_records(path, "dev", stop))
    assert find_support(olympics, pool) == "accepted answers are not variants of one answer"

    # The page of B is missing, but A is no plant: the answer is known without it.
    row = {
        "_id": "1",
        "question": "Are A and B both plants?",
        "answer": "no",
        "supporting_facts": [["A", 0], ["B", 0]],
        "context": [["A", ["A is a fish."]]],
    }
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps([row]))
    plants = next(hotpotqa.read_records(path, "dev", stop))
    assert find_support(plants, pool) == "answer no may be provable without the missing page"


def test_a_twin_of_a_no_keeps_no_hop():
    pages = {"Arum": ["Arum is a plant."], "Bison": ["Bison is an animal."]}
    pages |= {f"Plant {i}": [f"Plant {i} is both old and green."] for i in range(4)}
    both = (("Arum", 0), ("Bison", 0))
    ask = record(
        question="Are Arum and Bison both plants?",
        answers=("no",),
        subject=(),
        gold_sets=(both,),
        page_titles=("Arum", "Bison"),
    )
    pool = PagePool(pages, 20)
    support = find_support(ask, pool)
    # Other twins keep a hop.
    for seed in range(8):
        ranked = negatives(support, pool)
        sample = build_sample(support, ranked, 4, "g", random.Random(seed))
        twin = build_twin(support, sample, ranked, random.Random(seed))
        assert not {"Arum", "Bison"} & {chunk["title"] for chunk in twin["evidence_chunks"]}


@pytest.mark.parametrize("verdict, keeps_hop", [("supported", True), ("refuted", False)])
def test_a_twin_of_a_refuted_claim_keeps_no_hop(verdict, keeps_hop):
    pages = {"Arum": ["Arum is a plant of the hills."], "Bison": ["Bison is an animal of the plains."]}
    pages |= {f"Vale {i}": [f"Vale {i} has old and green plants."] for i in range(6)}
    claim = "Arum and Bison are plants."
    ask = record(
        question=f"Is it so? {claim}",
        answers=(verdict,),
        subject=(),
        gold_sets=((("Arum", 0), ("Bison", 0)),),
        page_titles=("Arum", "Bison"),
        names=("Arum", "Bison"),
        metadata={"claim": claim},
    )
    pool = PagePool(pages, 20)
    support = find_support(ask, pool)
    ranked = negatives(support, pool)
    sample = build_sample(support, ranked, 4, "g", random.Random(0))
    twin = build_twin(support, sample, ranked, random.Random(0))
    # That Bison is an animal refutes the claim without a word about Arum.
    assert bool({"Arum", "Bison"} & {chunk["title"] for chunk in twin["evidence_chunks"]}) is keeps_hop


def test_popqa_relations_have_cues_or_names(tmp_path):
    columns = "possible_answers id subj prop obj s_aliases s_wiki_title s_pop question".split()
    ann = ['"[""Oslo""]"', "1", "Ann", "place of birth", "Oslo", "[]", "Ann", "9", "Where was Ann born?"]
    disorder = ['"[""punk""]"', "2", "Disorder", "genre", "punk", "[]", "Disorder (band)", "9", "What genre?"]
    path = tmp_path / "p.tsv"
    path.write_text("".join("\t".join(cells) + "\n" for cells in (columns, ann, disorder)))
    born, genre = popqa.read_records(path, "any", stop)

    # A birthplace is stated with "born"; a genre is given away by any sentence about the band.
    assert born.cues == {"birth"}
    assert born.names == ()
    assert genre.names == genre.subject
    assert genre.cues == frozenset()
