"""Support from pages that nobody marked: an answer near a question is a coincidence until more is said."""

import pytest

from evidence.chunks import PagePool
from evidence.records import Record
from evidence.support import find_support
from evidence.unmarked import best_statement

GIANTS = "when was the last time the giants won the super bowl"


def best(question, answers, title, *sentences):
    """The text that supports the answer, None without one. All stems are equally rare."""
    pool = PagePool({title: list(sentences)}, 80)
    found = best_statement(question, answers, pool.chunks, lambda stem: 1.0)
    return found and found.text


def test_a_year_on_another_page_supports_nothing():
    text = "Lee Sang-min is a pitcher who won a game for the Lotte Giants in 2012."
    assert best(GIANTS, ["2012"], "Lee Sang-min (baseball)", text) is None


def test_most_words_of_a_question_on_an_unrelated_page_support_nothing():
    text = "He was in the crowd when the Giants last won the Super Bowl in 2012."
    assert best(GIANTS, ["2012"], "Kim Jung-ho", text) is None
    assert best(GIANTS, ["2012"], "New York Giants", text) == text


def test_a_last_time_must_be_said_to_be_the_last():
    assert best(GIANTS, ["2008"], "Super Bowl", "The Giants won the Super Bowl in 2008.") is None
    text = "The Giants have not won the Super Bowl since 2012."
    assert best(GIANTS, ["2012"], "Super Bowl", text) == text


@pytest.mark.parametrize(
    ("question", "answer", "title", "text"),
    [
        # The number of the question is another one.
        (
            "who won game 4 of the nba finals",
            "Lakers",
            "NBA Finals",
            "The Lakers won game 2 of the NBA Finals.",
        ),
        ("who sang the first song of abba", "Agnetha", "Song", "Agnetha sang a song of ABBA."),
        # The right page, but nothing of what is asked beyond it.
        ("who plays the dad of anna in frozen", "Ian Smith", "Frozen", "It has songs that Ian Smith wrote."),
        # Of what is asked beyond the title, only "most" is said, and of another thing.
        (
            "who has the most trophies in la liga",
            "Real Madrid",
            "La Liga",
            "Most fans in La Liga are of Real Madrid.",
        ),
        # The answer is in the name of the page alone.
        (
            "what is the name of season 6 of lost",
            "Island",
            "Lost: Island",
            "Lost: Island is season 6 of a show.",
        ),
        # A title of one common word is no page that the question names.
        (
            "who sang the theme song of the tv show cops",
            "Inner Circle",
            "Song",
            "Inner Circle sang on a show.",
        ),
        # The sentence with the answer is about something else than the page.
        ("where is the citrus bowl held", "Orlando", "Football", "Orlando is a city. The bowl is round."),
    ],
)
def test_what_does_not_answer_the_question_is_no_support(question, answer, title, text):
    assert best(question, [answer], title, text) is None


@pytest.mark.parametrize(
    ("question", "answer", "title", "text"),
    [
        (
            "when was the movie cool hand luke made",
            "1967",
            "Cool Hand Luke",
            "Cool Hand Luke is a 1967 film.",
        ),
        ("who plays anna in frozen", "Bell", "Frozen (film)", "Frozen stars Bell as Anna."),
        ("where was the band abba formed", "Stockholm", "ABBA", "ABBA began in Stockholm."),
        (
            "what is episode 3 of lost called",
            "Cabin",
            "Lost (TV series)",
            "The third episode of Lost is Cabin.",
        ),
    ],
)
def test_a_relation_may_be_stated_in_other_words(question, answer, title, text):
    assert best(question, [answer], title, text) == text


def test_an_answer_of_another_kind_is_a_coincidence():
    text = "The band Chicago wrote the song 25 in 1970."
    assert best("who wrote the song by the band chicago", ["25"], "Chicago (band)", text) is None
    text = "The tower of Pisa has many steps."
    assert best("how many steps has the tower of pisa", ["many"], "Tower of Pisa", text) is None


def test_the_sentence_before_may_name_what_the_answer_is_about():
    sentences = ("The film stars Jim Carrey as Stanley.", "He was born in Newmarket.", "It is a town.")
    found = best("where was jim carrey of the mask born", ["Newmarket"], "The Mask (film)", *sentences)
    assert found == " ".join(sentences)


def test_of_two_pages_the_one_that_says_more_is_support():
    pages = {
        "Eagle": ["The eagle of the genus Haliaeetus is large."],
        "Bald eagle": ["The bald eagle belongs to the genus Haliaeetus."],
    }
    record = Record("x:1", "x", "what is the genus of the bald eagle", ("Haliaeetus",), True, "train")
    support = find_support(record, PagePool(pages, 80))
    assert support.sets[0][0].title == "Bald eagle"
    assert support.rule == "answer in a sentence that says what is asked"


def test_a_row_without_support_is_dropped_and_not_made_unanswerable():
    pages = {"Lee Sang-min": ["He won a super game for the Lotte Giants in 2012."]}
    record = Record("x:1", "x", GIANTS, ("2012",), True, "train")
    assert find_support(record, PagePool(pages, 80)) == "answer not verified in any chunk"
