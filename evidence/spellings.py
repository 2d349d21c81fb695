"""Whether a text contains an accepted answer in any spelling: "eighteen" for "18", "DC" for "D.C.".

The spellings are those that count as one answer when completions are scored (`utils/answer_forms.py`). What
is verified to lack an answer must lack them all, or a model that reads it would rightly answer. Words alone
count: "8 pm" has a spelling of "the eighth", which costs a negative and nothing else.
"""

import functools
import itertools
import re
from collections.abc import Iterable

from utils.answer_forms import answer_form
from utils.text import holds_words, padded_words

# By the first letters of a word, or digits of a number, one sees whether a text may have it: "theatre" is a
# spelling of "theater", and "2016/17" has the number 2017. Shorter numbers may be written in too many ways.
_N_LETTERS = 4
_N_DIGITS = 3
# "1.5 million" is a spelling of "1,500,000".
_SCALES = ("hundred", "thousand", "million", "billion", "trillion", "dozen", "bn")
# Of letters that may lose an accent, and of a sign behind which "m" is a million, nothing can be told.
_UNSEEN = re.compile(r"[^\W\x00-\x7f]|[$€£¥]")

_ABBREVIATION = re.compile(r"[A-Z]{2}")

# Day, month and year: "July 4, 1776" and "4 July 1776".
_MAX_DATE_WORDS = 3


# Cached: one text is searched for the answers of many questions, and many questions find the same chunks.
_written_words = functools.lru_cache(1 << 14)(padded_words)


@functools.lru_cache(1 << 14)
def _spelled_words(text: str) -> str:
    """The words of a text in the normal form of answers, each with a space on both sides."""
    # Past the cache of `answer_form`, which is for short answers: whole chunks would fill memory.
    return f" {' '.join(answer_form.__wrapped__(text).words)} "


def spellings_of(aliases: Iterable[str]) -> list[str]:
    """The accepted answers in normal form, dates in any order, to look up with `holds_spelling`."""
    found: list[str] = []
    for alias in aliases:
        form = answer_form(alias)
        is_date = bool(form.months) and len(form.words) <= _MAX_DATE_WORDS
        orders = itertools.permutations(form.words) if is_date else [form.words]
        found += [f" {' '.join(words)} " for words in orders]
    return list(dict.fromkeys(found))


@functools.lru_cache(1 << 14)
def _beginnings(spelling: str) -> tuple[str, ...]:
    """Beginnings of words of which a text with the spelling has one; none if that cannot be told."""
    words = spelling.split()
    numbers = [word for word in words if not word.isalpha()]
    if numbers:
        long = [number[:_N_DIGITS] for number in numbers if number.isdecimal() and len(number) >= _N_DIGITS]
        return (*long, *_SCALES) if long else ()
    names = [word[:_N_LETTERS] for word in words if len(word) >= _N_LETTERS]
    return tuple(names or words)


def _may_hold(text: str, letters: str, spelling: str) -> bool:
    """False for a text that cannot contain the spelling, by its letters alone."""
    beginnings = _beginnings(spelling)
    return not beginnings or any(start in letters for start in beginnings) or bool(_UNSEEN.search(text))


def holds_spelling(text: str, spellings: list[str]) -> bool:
    """True when the text contains one of the spellings as a run of words. One without any word is nowhere."""
    # The normal form of a text takes forty times as long as its words, so its letters are looked at first.
    letters = _written_words(text).replace(" ", "")
    possible = [spelling for spelling in spellings if _may_hold(text, letters, spelling)]
    return bool(possible) and holds_words(_spelled_words(text), possible)


def abbreviations_in(answers: Iterable[str]) -> re.Pattern | None:
    """A pattern that finds accepted answers of two capitals ("US", "TV") as they are written, or None.

    They are too short for aliases (`usable_aliases`): in small letters many are words of their own.
    """
    short = sorted({answer for answer in answers if _ABBREVIATION.fullmatch(answer)})
    return re.compile(rf"\b(?:{'|'.join(short)})\b") if short else None


def says_answer(text: str, aliases: list[str]) -> bool:
    """True when the text contains an accepted answer, as it is written or in another spelling."""
    is_written = holds_words(_written_words(text), [padded_words(alias) for alias in aliases])
    return is_written or holds_spelling(text, spellings_of(aliases))
