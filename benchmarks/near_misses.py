"""Answers that are wrong by construction and share most of their words with the accepted one.

Each edit maps an accepted answer to such an answer, or to None where it does not apply. The games of
`benchmarks/games.py` emit them with gold citations, so only the answer can be wrong.
"""

import re

from utils.answer_forms import MONTHS, answer_form
from utils.numerals import is_number

# Any name serves, as long as it is not the accepted one.
_NAMES = ("Hussein", "Gertrude")
_PLACES = ("London", "Nairobi")
_YEAR = re.compile(r"\b(1\d|20)\d\d\b(?!s)")
_DENIAL = re.compile(r"\b(no|not|never|none|without)\b", re.IGNORECASE)


def _other(words: tuple[str, ...], answer: str) -> str:
    return next(word for word in words if word.lower() not in answer.lower())


def _is_name(answer: str) -> bool:
    """True for two or more capitalized words without a number."""
    words = answer.split()
    return len(words) > 1 and all(word[0].isalpha() and word[0].isupper() for word in words)


def name_with_another_word(answer: str) -> str | None:
    words = answer.split()
    # A title alone is no part of a name, so the last word goes.
    return " ".join([*words[:-1], _other(_NAMES, answer)]) if _is_name(answer) else None


def first_word_of_a_long_name(answer: str) -> str | None:
    words = answer.split()
    return words[0] if _is_name(answer) and len(answer_form(answer).words) > 2 else None


def year_off_by_ten(answer: str) -> str | None:
    if not _YEAR.search(answer):
        return None
    return _YEAR.sub(lambda match: str(int(match[0]) + 10), answer)


def three_years_for_one(answer: str) -> str | None:
    match = _YEAR.search(answer)
    if match is None:
        return None
    year = int(match[0])
    return _YEAR.sub(f"{year - 1}, {year}, {year + 1}", answer, count=1)


def another_month(answer: str) -> str | None:
    found = [month for month in MONTHS if month in answer_form(answer).months]
    # Abbreviations are left alone: the written month has to be found to be replaced.
    if not found or found[0] not in answer.lower():
        return None
    other = "June" if found[0] != "june" else "May"
    return re.sub(found[0], other, answer, flags=re.IGNORECASE)


def another_number(answer: str) -> str | None:
    """The first number doubled and one added, so that it never equals the accepted one."""
    match = re.search(r"\b\d+\b", answer)
    if match is None or _YEAR.search(answer):
        return None
    return answer[: match.start()] + str(2 * int(match[0]) + 1) + answer[match.end() :]


def another_unit(answer: str) -> str | None:
    """A number of something else; applies to a number and two or more further words ("5 million people")."""
    form = answer_form(answer)
    words = answer.split()
    if len(words) < 3 or not is_number(form.words[0]) or form.months or is_number(form.words[-1]):
        return None
    return " ".join([*words[:-1], "parsecs"])


def denied(answer: str) -> str | None:
    return None if _DENIAL.search(answer) else f"not {answer}"


def either_of_two(answer: str) -> str:
    return f"{answer} or {_other(_PLACES, answer)}"


def hedged(answer: str) -> str:
    return f"{answer}, or maybe {_other(_PLACES, answer)}"


def both_of_two(answer: str) -> str:
    return f"{answer} and {_other(_PLACES, answer)}"


def split_by_a_slash(answer: str) -> str:
    return f"{answer} / {_other(_PLACES, answer)}"


def answered_and_refused(answer: str) -> str:
    return f"{answer} [INSUFFICIENT_EVIDENCE]"
