"""Edits of a claim's numbers, written in digits or words; dates are in contrast_dates.py."""

import random
import re

from evidence.contrast_case import Case, Edit, alternatives, in_title, replaced
from evidence.contrast_dates import DATE, LIMIT, YEAR
from evidence.paraphrase import stem
from utils.numerals import CARDINALS

_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth".split()
_COUNTS = [word for word, value in CARDINALS.items() if 2 <= value <= 12]
_NUMBER = re.compile(
    rf"(?<![\w.,$€£-])(?:\d{{1,3}}(?:,\d{{3}})+|\d+|{alternatives(_ORDINALS + _COUNTS)})"
    rf"(?![\w%-]|[.,:]\d| million| billion)"
)


def _series_of(number: str) -> list[str]:
    """The words of a number's kind; [] for digits."""
    return next((words for words in (_ORDINALS, _COUNTS) if number.lower() in words), [])


def _numbers(case: Case) -> list[re.Match]:
    found = []
    for match in _NUMBER.finditer(case.claim):
        is_year = YEAR.fullmatch(match[0])
        before = case.claim[: match.start()]
        # "Billboard 200", "the movie 42": part of a name.
        is_named = re.search(r"(?:[A-Z]\w*|movie|film|song|album) $", before)
        is_name = is_named is not None and match[0][0].isdigit()
        # "first flew": when, not which.
        is_when = match[0] in _ORDINALS and not re.search(
            r"(?:\bthe|\b[Hh]is|\b[Hh]er|\b[Ii]ts|'s) $", before
        )
        is_other = is_year or is_name or is_when or in_title(case, match.span())
        if not is_other and not DATE.search(case.claim):
            found.append(match)
    return found


def wrong_number(case: Case, rng: random.Random) -> list[Edit]:
    """A supported claim with another number of the same kind, of the evidence where it has one."""
    numbers = _numbers(case)
    if len(numbers) != 1 or LIMIT.search(case.claim[: numbers[0].start()]):
        return []
    number = numbers[0][0]
    if stem(number.lower().replace(",", "")) not in case.said:
        return []
    series = _series_of(number)
    if series:
        others = [word for word in series[:6] if word != number and not case.says(word)]
    else:
        value = int(number.replace(",", ""))
        others = [f"{value + shift:,}" for shift in (-3, -2, 2, 3, 5, 7) if value + shift > 1]
        if value >= 1000:
            others = [f"{round(value * factor, -2):,}" for factor in (0.4, 0.6, 1.3, 1.8)]
        others = [other for other in others if not case.says(other)]
    if not others:
        return []
    return [Edit("number", replaced(case.claim, numbers[0].span(), rng.choice(others)), "refuted")]


def right_number(case: Case) -> list[Edit]:
    """A refuted claim with the number that the evidence has before or after the same word."""
    numbers = _numbers(case)
    if len(numbers) != 1 or LIMIT.search(case.claim[: numbers[0].start()]):
        return []
    match = numbers[0]
    if case.unsaid(without=match[0]):
        return []
    following = re.match(r"\W+(\w+)", case.claim[match.end() :])
    if following is None:
        return []
    right = set()
    for other in _NUMBER.finditer(case.text):
        after = re.match(r"(?: and final)?\W+(\w+)", case.text[other.end() :])
        same_kind = _series_of(other[0]) == _series_of(match[0])
        if after and same_kind and stem(after[1].lower()) == stem(following[1].lower()):
            right.add(other[0])
    if len(right) != 1 or match[0] in right:
        return []
    return [Edit("number", replaced(case.claim, match.span(), right.pop()), "supported")]
