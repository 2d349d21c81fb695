"""Support states a number with sign and decimal point; a negative is refused without looking at them."""

import random

import pytest

from evidence.chunks import PagePool
from evidence.negatives import ranked_negatives
from evidence.stated import states_answer
from evidence.support import find_support
from tests.test_build_data import record


@pytest.mark.parametrize(
    ("text", "answer", "stated"),
    [
        ("It was -125 degrees.", "-125", True),
        ("It was −125 degrees.", "-125", True),
        ("It was minus 125 degrees.", "-125", True),
        ("It was 125 degrees.", "-125", False),
        ("It was -125 degrees.", "125", False),
        ("The war of 1914-1918.", "1918", True),
        ("The war of 1914 -1918.", "1918", True),
        ("It flew an F-16.", "16", True),
        ("It was 3.5 metres deep.", "3.5 metres", True),
        ("It was 3 5 metres deep.", "3.5 metres", False),
        ("It was 3.5 metres deep.", "5 metres", False),
        ("It was 5 metres deep.", "3.5 metres", False),
        ("It has 1,250.5 tons.", "1250.5 tons", True),
        # Dates, versions, and the stop of a sentence are no decimals.
        ("He died on 12.5.1990.", "1990", True),
        ("It ended in 1990.", "1990", True),
        ("Version 1.2.3 came in May.", "1.2.3", True),
        ("Marie-Curie street", "Marie Curie", True),
    ],
)
def test_a_number_is_stated_as_it_is(text, answer, stated):
    assert states_answer(text, [answer]) is stated


def test_support_needs_the_sign_and_no_negative_lacks_it_alone():
    pages = {"Cape Foul": ["At Cape Foul it was 125 degrees.", "It was -125 degrees at Cape Foul in winter."]}
    pages |= {"Ness": ["Ness is a town by the sea."], "Vell": ["Vell is a lake in the hills."]}
    fields = {"question": "How cold was it at Cape Foul?", "answers": ("-125",), "subject": ("Cape Foul",)}
    measured = record(**fields, page_titles=("Cape Foul",))
    pool = PagePool(pages, max_words=8)
    support = find_support(measured, pool)
    assert [chunk.text for chunk in support.sets[0]] == [pages["Cape Foul"][1]]
    shown = ranked_negatives(support, pool, frozenset(), random.Random(0))
    assert not any("125" in chunk.text for chunk in shown)
    only_positive = PagePool({"Cape Foul": pages["Cape Foul"][:1]}, max_words=8)
    assert find_support(measured, only_positive) == "answer not verified in any chunk"
