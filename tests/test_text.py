"""Words, answers and sentences, each rule with the text that made it necessary."""

import pytest

from utils.text import (
    holds_answer,
    normalize_answer,
    pack_sentences,
    split_sentences,
    tokenize,
    usable_aliases,
)


@pytest.mark.parametrize(
    "text, answers, found",
    [
        # A substring is not an answer.
        ("She was born in 1912.", ["2"], False),
        ("It has 2 wings.", ["2"], True),
        ("The river is 1,047 km long.", ["1047 km"], True),
        ("He lived in New York City.", ["York New"], False),
        ("He lived in New York City.", ["new york"], True),
        ("Café Müller opened in 1978.", ["café müller"], True),
        ("Anything", [""], False),
    ],
)
def test_an_answer_is_found_as_a_token_sequence_only(text, answers, found):
    assert holds_answer(text, answers) is found


def test_squad_normalization():
    # The hyphen goes without leaving a space, as in the official script.
    assert normalize_answer("The  Eiffel-Tower, in a Day!") == "eiffeltower in day"


def test_thousands_separators_do_not_split_numbers():
    assert tokenize("1,234,567 and 12,34") == ["1234567", "and", "12", "34"]


def test_weak_aliases_are_left_out_unless_canonical():
    assert usable_aliases(["US", "us", "U.S.A.", "it", "the", "America"]) == ["US", "U.S.A.", "America"]
    assert usable_aliases(["No.", "no", "N"]) == ["No.", "no"]


def test_initials_and_abbreviations_end_no_sentence():
    text = "Dr. J. R. Smith met Mrs. Lee. They spoke at 5 p.m. in St. Ives. Nobody else came!"
    assert split_sentences(text) == [
        "Dr. J. R. Smith met Mrs. Lee.",
        "They spoke at 5 p.m. in St. Ives.",
        "Nobody else came!",
    ]


def test_chunks_are_bounded_by_sentences_and_words():
    assert pack_sentences(["a b c", "d e", "", "f g h i j k", "l"], 5) == [[0, 1], [3], [4]]
