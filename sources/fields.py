"""Checks of the fields of a raw row: each returns the value, or raises ValueError with rule and value found.

Raw rows come from other people's scripts: a list became a text, a number a float, a missing value null. The
reader adds file and line. Nothing here knows a layout.
"""

import re
from numbers import Real

from utils.text import plain_title, tokenize

# Questions of the known data sets have some hundred.
_MAX_QUESTION_CHARS = 10_000


def bad(name: str, wanted: str, value) -> ValueError:
    """The error for a field that is not what it must be."""
    return ValueError(f"{name} must be {wanted}, found {value!r:.60}")


def field(row: dict, name: str, place: str = ""):
    """The value of a field that must be there. `place`: where in the row the object is, if anywhere."""
    if name not in row:
        raise ValueError(f"field {name!r}{place and f' of {place}'} is missing")
    return row[name]


def text(value, name: str) -> str:
    """A text that may be empty, as it is."""
    if not isinstance(value, str):
        raise bad(name, "text", value)
    return value


def title_text(value, name: str) -> str:
    """A page title, which may be empty, in the spelling in which titles are compared (`plain_title`)."""
    return plain_title(text(value, name))


def full_text(value, name: str) -> str:
    """A text with more than white space, without the space around it."""
    if not text(value, name).strip():
        raise bad(name, "text that is not empty", value)
    return value.strip()


def question_text(row: dict, name: str) -> str:
    """The question or claim of a row. One of a page's length would keep the patterns that read it busy."""
    question = full_text(field(row, name), name)
    # Emoji and punctuation alone are found in no text, and all such questions would be one.
    if not tokenize(question):
        raise bad(name, "text with a word", question)
    if len(question) > _MAX_QUESTION_CHARS:
        raise bad(name, f"at most {_MAX_QUESTION_CHARS:,} characters", question)
    return question


def optional_text(row: dict, name: str) -> str | None:
    """The text of a field that a row may lack; null counts as absent."""
    value = row.get(name)
    return None if value is None else text(value, name)


def items(value, name: str) -> list:
    """A list. A text would be read letter by letter, an object key by key."""
    if not isinstance(value, list):
        raise bad(name, "a list", value)
    return value


def whole_number(value, name: str) -> int:
    """An integer from 0 on; also as text or with `.0`, as tables write it."""
    found = str(value)
    # Not `isdigit`, which accepts "²". A boolean's text has no digits.
    if not isinstance(value, (int, float, str)) or not re.fullmatch(r"[0-9]{1,9}(\.0)?", found):
        raise bad(name, "a whole number from 0 on", value)
    return int(found.removesuffix(".0"))


def identifier(value, name: str) -> str:
    """An id as text: a text that is not empty, or an integer."""
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return full_text(value, name)


def answers(value, name: str) -> list[str]:
    """Accepted answers as texts, empty ones left out; one text or number stands for a list of one."""
    listed = value if isinstance(value, list) else [value]
    accepted = []
    for answer in listed:
        is_number = isinstance(answer, Real) and not isinstance(answer, bool)
        # A table of years with a gap in it has all of them as floats.
        if isinstance(answer, float) and answer.is_integer():
            answer = int(answer)
        accepted.append(str(answer) if is_number else text(answer, f"each of {name}").strip())
    return [answer for answer in accepted if answer]
