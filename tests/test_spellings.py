"""An accepted answer in another spelling is an answer: no negative, twin, distractor or swap may have one."""

import random

import pytest

from evidence.chunks import PagePool
from evidence.negatives import ranked_negatives
from evidence.planted import planted_rows
from evidence.records import Passage, Record
from evidence.samples import build_sample, build_twin
from evidence.soundness import leaked_answer
from evidence.spellings import says_answer
from evidence.support import find_support
from perturbations.distractors import DistractorPool
from perturbations.edits import counterfactual, drop_order
from tests.test_planted import question_sample
from utils.correctness import is_correct
from utils.text import holds_answer

# Gold, the same in another spelling, a text that has it so.
SPELLINGS = [
    ("April 1st", "April 1", "It is kept on April 1 with jokes."),
    ("July 4, 1776", "4 July 1776", "Signed on 4 July 1776 in the hall."),
    ("Washington, D.C.", "Washington, DC", "A school in Washington, DC."),
    ("18", "eighteen", "Voters must be eighteen or over."),
    ("eighteen", "18", "Voters must be 18 or over."),
    ("second", "2nd", "She came 2nd in the race."),
    ("1.5 million", "1,500,000", "The town has 1,500,000 people."),
    ("200", "two hundred", "It has two hundred rooms."),
    ("50%", "fifty percent", "It is fifty percent water."),
    ("Beyonc\u00e9", "Beyonce", "A song by Beyonce."),
    ("Strom", "Str\u00f8m", "A song by Str\u00f8m."),
    ("Spiderman", "Spider-Man", "He played Spider-Man there."),
    ("J. K. Rowling", "JK Rowling", "A book by JK Rowling."),
    ("theater", "theatre", "She worked in theatre."),
]


@pytest.mark.parametrize("gold, other, text", SPELLINGS)
def test_a_spelling_that_scores_as_the_answer_is_found_in_a_text(gold, other, text):
    assert is_correct(other, [gold])
    assert says_answer(text, [gold])
    assert not says_answer("Other words, of 23 things.", [gold])


def test_numbers_are_found_in_short_forms():
    assert says_answer("It cost $1.5m.", ["1,500,000"])
    assert says_answer("It had 3 dozen rooms.", ["36"])
    assert says_answer("In the season 2016/17 they won.", ["2017"])


def test_words_in_another_order_and_parts_of_words_are_no_spelling():
    assert not says_answer("He lived in New York City.", ["York New"])
    assert not says_answer("Born in 1912.", ["12", "nineteen"])
    assert not says_answer("Anything", ["", "?"])


PAGES = {
    "Voting": ["Voters in Aland must be 18 or over."],
    "Suffrage": ["Suffrage in Aland begins for most people at eighteen."],
    "Aland": ["Aland is an island with a flag."],
    "Ballots": ["Ballots are given to voters on paper."],
    "Elections": ["Elections in Aland fall on a day in autumn."],
}


def voting_age():
    passages = (Passage("Voting", tuple(PAGES["Voting"]), is_gold=True),)
    question = "how old must voters in aland be"
    return Record("nq_open:1", "nq_open", question, ("18",), True, "any", passages=passages)


def test_no_negative_and_no_twin_has_the_answer_in_another_spelling():
    pool = PagePool(PAGES, 20)
    support = find_support(voting_age(), pool)
    ranked = ranked_negatives(support, pool, frozenset(), random.Random(0))
    assert ranked and "Suffrage" not in {chunk.title for chunk in ranked}
    sample = build_sample(support, ranked, 3, "g", random.Random(0))
    twin = build_twin(support, sample, ranked, random.Random(0))
    assert "Suffrage" not in {chunk["title"] for chunk in twin["evidence_chunks"]}


def test_the_hop_that_a_twin_keeps_has_no_spelling_of_the_answer():
    pages = {
        "Arum": ["Arum is grown by eighteen farms."],
        "Bison": ["The 18 farms have a bison, says the owner."],
    }
    pages |= {f"Farm {i}x": [f"The farms of Farm {i}x have a barn and a well."] for i in range(6)}
    facts = (("Arum", 0), ("Bison", 0))
    question = "How many farms grow the plant that the owner of a bison likes?"
    record = Record(
        "hotpotqa:1", "hotpotqa", question, ("18",), True, "any", (facts,), page_titles=("Arum", "Bison")
    )
    pool = PagePool(pages, 20)
    support = find_support(record, pool)
    ranked = ranked_negatives(support, pool, frozenset(), random.Random(0))
    for seed in range(8):
        sample = build_sample(support, ranked, 4, "g", random.Random(seed))
        twin = build_twin(support, sample, ranked, random.Random(seed))
        assert not {"Arum", "Bison"} & {chunk["title"] for chunk in twin["evidence_chunks"]}


@pytest.fixture
def voting_sample(sample):
    """Support with "18", and a negative."""
    chunks = [{"title": "Voting", "text": "One votes at 18."}, {"title": "Flags", "text": "Flags are blue."}]
    gold = {"answer": "18", "answer_aliases": ["18"], "support_sets": [[0]], "support_spans": [0]}
    question = {"question": "how old must one be to vote", "hard_negatives": [1]}
    return {**sample, **gold, **question, "evidence_chunks": chunks}


def test_a_check_names_a_negative_with_a_spelling_of_the_answer(voting_sample):
    assert leaked_answer(voting_sample) is None
    voting_sample["evidence_chunks"][1]["text"] = "Flags are given at eighteen."
    assert "chunk 1 is a negative but contains an accepted answer" in leaked_answer(voting_sample)


def test_no_distractor_has_the_answer_in_another_spelling(voting_sample):
    others = [{"title": "Age", "text": "Eighteen years."}, {"title": "Lyon", "text": "A city."}]
    other = {**voting_sample, "id": "popqa:2", "group": "g2", "evidence_chunks": others}
    pool = DistractorPool([voting_sample, other])
    assert pool.draw(voting_sample, 1, random.Random(0)) == [others[1]]
    assert pool.draw(voting_sample, 2, random.Random(0)) is None


def test_a_swap_leaves_no_spelling_of_the_old_answer_and_brings_none_in(voting_sample):
    def donor(answer):
        return {**voting_sample, "id": "popqa:3", "answer": answer, "answer_aliases": [answer]}

    assert counterfactual(voting_sample, [donor("21")], random.Random(0))["answer"] == "21"
    assert (
        counterfactual(voting_sample, [donor("eighteen")], random.Random(0)) == "no similar answer to swap in"
    )
    voting_sample["evidence_chunks"][1]["text"] = "Flags are given at eighteen."
    found = counterfactual(voting_sample, [donor("21")], random.Random(0))
    assert found == "old answer left in the evidence"


def test_two_hops_that_hold_the_answer_in_two_spellings_are_dropped_together(voting_sample):
    voting_sample["evidence_chunks"][1]["text"] = "Flags are given at eighteen."
    row = {**voting_sample, "support_sets": [[0, 1]], "support_spans": [0, 1], "hard_negatives": []}
    for seed in range(8):
        assert len(set(drop_order(row, random.Random(seed)).values())) == 1


def test_no_planted_answer_is_the_right_one_in_another_spelling():
    question = "How many members has {}?"
    train = []
    for number in range(80):
        train.append(question_sample(number, question, "18" if number % 2 else "eighteen"))
    assert all(holds_answer(row["evidence_chunks"][0]["text"], row["answer_aliases"]) for row in train)
    assert not planted_rows(train, seed=1).rows
