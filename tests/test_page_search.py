"""The search of the wiki pages while they pass: what is found, what is kept, and in any order."""

import itertools
import json
import random
import zipfile

import pytest

from evidence.paraphrase import forms_of, stem
from sources import wiki_pages
from sources.fever import title_key
from sources.page_search import PageSearch
from sources.page_words import plain, title_words, words_of
from utils.text import tokenize

MOON = ("Apollo 17", "Apollo 17 was the last mission in which anyone walked on the moon .")
PAGES = [
    MOON,
    ("Sun", "The Sun is the star at the center of the Solar System ."),
    ("The Giving Tree", "It is a picture book by Shel Silverstein ."),
    ("The Giving Tree (film)", "It is a short film by Charlie Hayward ."),
    ("Beyoncé", "She is a singer from Houston ."),
    ("Super Bowl XLVI", "The Giants won the game in 2012 , 21 – 17 ."),
    ("Map", "A map of the Río de la Plata ."),
    ("Song", "A song is a piece of music to be sung ."),
]
FILLER = [(f"Page {i}", f"A town of {i} people in the north of the country .") for i in range(300)]


def search(questions, pages, n_best=10, **limits):
    found = PageSearch(questions, n_best)
    found.learn(text for _, text in pages)
    for title, text in pages:
        found.offer(title, title_key(title), f"{title} {text}", f"0\t{text}")
    return found.finish()


@pytest.mark.parametrize(
    ("question", "title"),
    [
        # By its words, no title named.
        ("when was anyone last on the moon", "Apollo 17"),
        # By the title alone: the text shares no word with the question.
        ("who is the author of giving tree", "The Giving Tree"),
        # Homonyms are told apart by a parenthesis, and a question has none.
        ("who is the author of giving tree", "The Giving Tree (film)"),
        # Neither capitals nor accents are typed.
        ("where does beyonce live", "Beyoncé"),
        # An accent in the text is found if it is typed.
        ("where is the río on the map", "Map"),
        # "win" and "won" are one stem.
        ("which giants win the super bowl", "Super Bowl XLVI"),
    ],
)
def test_a_page_is_found_by_title_or_words(question, title):
    titles, lines = search([question], PAGES + FILLER)
    assert title in titles[0]
    assert lines[title].startswith("0\t")


def test_the_pages_found_do_not_depend_on_their_order():
    questions = ["who won the super bowl", "when did anyone walk on the moon", "what is a town of 7 people"]
    pages = PAGES + FILLER
    expected = search(questions, pages, n_best=4)
    for seed in range(3):
        random.Random(seed).shuffle(pages)
        assert search(questions, pages, n_best=4) == expected


def test_a_question_keeps_its_best_pages_and_no_other_page_stays_in_memory():
    pages = [(f"Moon {i}", " ".join(["moon", *["rock"] * i])) for i in range(40)]
    titles, lines = search(["is there rock on the moon"], pages + FILLER, n_best=3)
    assert len(titles[0]) == 3
    assert set(lines) == set(titles[0])


def test_a_page_that_shares_little_of_a_question_is_not_kept():
    titles, _ = search(["which town did shel silverstein leave for houston"], PAGES + FILLER)
    assert not {title for title in titles[0] if title.startswith("Page")}


def test_a_title_that_passes_twice_is_kept_once():
    titles, _ = search(["who was on the moon"], [MOON, MOON, *FILLER, MOON])
    assert titles[0].count("Apollo 17") == 1


def test_questions_without_a_word_find_nothing():
    assert search(["", "who is it"], PAGES) == ([[], []], {})


def test_words_of_a_page_are_its_tokens():
    text = "The Beyoncé–Jay-Z tour “On the Run” ( 2014 ) cost $ 5 , and Ærø is an Island ."
    assert [word.decode() for word in words_of(text)] == tokenize(text.replace("–", " "))
    assert [word.decode() for word in title_words(text)] == tokenize(plain(text).replace("–", " "))


@pytest.mark.parametrize("word", ["moons", "written", "twelve", "movie", "giants", "won", "makers"])
def test_forms_of_a_stem_contain_the_word(word):
    forms = forms_of(stem(word))
    assert word in forms
    assert {stem(form) for form in forms} == {stem(word)}


def test_the_sample_of_a_zip_takes_pages_of_every_member(tmp_path, monkeypatch):
    monkeypatch.setattr(wiki_pages, "_N_SAMPLED", 6)
    path = tmp_path / "wiki.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for member in range(3):
            rows = []
            for i in range(10):
                rows.append(json.dumps({"id": f"{member}_{i}", "text": f"{member} {i}", "lines": "0\tx"}))
            archive.writestr(f"wiki-{member}.jsonl", "\n".join(rows))
    assert list(wiki_pages.sample_texts([path])) == [
        f"{m} {i}" for m, i in itertools.product(range(3), range(2))
    ]
