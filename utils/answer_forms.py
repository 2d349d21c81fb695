"""The normal form of a short answer: what remains when spelling is put aside and meaning is kept.

`twenty-one`, `21st` and `XXI` become one number, `Beyoncé` and `Beyonce` one word, `J. K.` and `JK` one too.
It knows nothing about gold answers (`utils/answer_faults.py` compares two forms).
"""

import functools
import itertools
import re
from dataclasses import dataclass

from utils.answer_spelling import HALF_REFUSAL, MONTHS, plain_spelling
from utils.numerals import NUMBER_WORDS, as_number, is_number, is_roman, is_version, roman_value, with_numbers
from utils.text import STOP_WORDS

MONTH_OF = {month[:3]: month for month in MONTHS} | {month: month for month in MONTHS} | {"sept": "september"}

# Words that change what a number says: "over 100" is not 100, and 44 BC is not 44.
_BOUNDS = {
    **dict.fromkeys(("over", "above", "more", "exceeding"), "over"),
    **dict.fromkeys(("under", "below", "less", "fewer"), "under"),
    **{"before": "before", "until": "until", "after": "after", "since": "since", "bc": "bc"},
    **{"pre": "before", "prior": "before", "post": "after", "following": "after"},
    **{"atleast": "atleast", "atmost": "atmost"},
}
_NEGATIONS = frozenset(
    "no not never none neither nor without non wrong incorrect false untrue hardly barely unlikely "
    "except".split()
)
_DENIALS = dict.fromkeys(_NEGATIONS, "not") | {HALF_REFUSAL: HALF_REFUSAL}
_SAME_WORD = {
    **{"saint": "st", "doctor": "dr", "mister": "mr", "junior": "jr", "senior": "sr", "mount": "mt"},
    **{"professor": "prof", "centre": "center", "theatre": "theater", "colour": "color"},
    **{"harbour": "harbor", "km": "kilometer", "kilometre": "kilometer", "metre": "meter", "kg": "kilogram"},
    **{"litre": "liter", "kph": "kilometer per hour", "bce": "bc", "ce": "ad", "versus": "vs"},
    **{"movie": "film", "tv": "television", "feet": "foot", "mph": "mile per hour"},
    **{"grey": "gray", "labour": "labor", "fort": "ft", "co": "company", "corp": "corporation"},
    # Of "Bros."
    **{"inc": "incorporated", "ltd": "limited", "bro": "brother", "univ": "university"},
    **{"gen": "general", "maj": "major", "lt": "lieutenant", "col": "colonel", "capt": "captain"},
    **{"sgt": "sergeant", "gov": "governor", "pres": "president", "rev": "reverend", "vol": "volume"},
    **{"dept": "department", "ave": "avenue", "rd": "road", "blvd": "boulevard", "ep": "episode"},
}
# Short for a unit where a number, "per" or "square" stands before it.
_UNITS = {
    **{"m": "meter", "cm": "centimeter", "mm": "millimeter", "mi": "mile", "yd": "yard", "g": "gram"},
    **{"mg": "milligram", "lb": "pound", "lbs": "pound", "oz": "ounce", "l": "liter", "ml": "milliliter"},
    **{"h": "hour", "hr": "hour", "hrs": "hour", "min": "minute", "s": "second", "sec": "second"},
    **{"ft": "foot", "gb": "gigabyte", "mb": "megabyte", "tb": "terabyte", "hz": "hertz"},
    **{"khz": "kilohertz", "mhz": "megahertz", "ghz": "gigahertz", "w": "watt", "kw": "kilowatt"},
}
# Between a number and its unit.
_MEASURING = ("per", "square", "cubic")
# A number, or initials, or a word, or a mark between parts. A hyphen before a digit is a sign only where
# nothing stands before it: "1914-1918" is no negative number.
_TOKEN = re.compile(
    r"(?P<number>(?:(?<![\w)])(?<!\d\s)-)?"
    # Groups of thousands, also with lakhs: "1,00,000".
    r"(?:\d{1,2}(?:,\d\d)+,\d{3}(?!\d)|\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)*)"
    r"(?:(?:st|nd|rd|th)\b|(?P<decade>'?s)\b)?"
    r"|(?P<word>(?:[^\W\d_]\.)+[^\W\d_](?![^\W\d_])|[^\W\d_]+(?:['-][^\W\d_]+)*)"
    r"|(?P<hard>[;/|•\n])|(?P<soft>[,():]|\s-\s)",
    re.IGNORECASE,
)
# Marks that the tokens keep: a list of alternatives, and an addition.
HARD = "|"
SOFT = ","
# "or" counts as a mark of its own: it never joins the two halves of one answer.
COORDINATORS = frozenset("or and plus vs but then alternatively maybe perhaps possibly probably".split())
# In front of an answer these say nothing about it.
_LEADING = STOP_WORDS | frozenset("year about around approximately circa roughly".split())


@dataclass(frozen=True)
class AnswerForm:
    """`tokens`: words, numbers and marks in order; `key`: equal for two spellings of one answer.

    What has to match besides: `numbers` in order, except in a date; the `months` of a date, the `bounds` of
    numbers ("over", "BC"), and `denials`.
    """

    tokens: tuple[str, ...]
    key: str
    numbers: tuple[str, ...]
    months: frozenset[str]
    bounds: frozenset[str]
    denials: frozenset[str]
    # Whether a lone "a" was taken for an article. It may be a letter: "Serie A", "Chester A. Arthur".
    lacks_a: bool

    @property
    def words(self) -> list[str]:
        """The tokens without marks."""
        return [token for token in self.tokens if token not in (HARD, SOFT)]


def _singular(word: str) -> str:
    # The s of "1980s" makes a decade of a year.
    is_plural = len(word) > 3 and word.endswith("s") and not word.endswith(("ss", "us", "is"))
    return word[:-1] if is_plural and word.isalpha() else word


def _pieces(text: str) -> list[str]:
    """Words as they are written, numbers in digits, marks. Hyphens join words, except number words."""
    matches = list(_TOKEN.finditer(text))
    raw = [match["word"] or match["number"] or "" for match in matches]
    pieces: list[str] = []
    is_lower = text.islower()
    for i, match in enumerate(matches):
        after = raw[i + 1] if i + 1 < len(raw) else ""
        if match["number"]:
            number = match["number"]
            if is_version(number, raw[i - 1] if i else "", after):
                pieces += number.split(".")
            else:
                pieces.append(as_number(number) + ("s" if match["decade"] else ""))
        elif match["hard"] or match["soft"]:
            pieces.append(HARD if match["hard"] else SOFT)
        elif is_roman(match["word"], pieces[-1] if pieces else "", after, is_lower):
            pieces.append(roman_value(match["word"]))
        else:
            parts = match["word"].split("-")
            has_number = any(part.lower() in NUMBER_WORDS for part in parts)
            pieces += parts if has_number else ["".join(parts)]
    return [re.sub(r"[.']", "", piece).lower() if not is_number(piece) else piece for piece in pieces]


def _is_letter(token: str) -> bool:
    return len(token) == 1 and token.isalpha()


def _joined_initials(tokens: list[str]) -> list[str]:
    """`J. K. Rowling` -> `jk rowling`: single letters in a row become one token."""
    found: list[str] = []
    for is_letter, run in itertools.groupby(tokens, _is_letter):
        words = list(run)
        found += ["".join(words)] if is_letter else words
    return found


# Cached: a test set has few distinct answers, and each is compared for every model, twice.
@functools.lru_cache(1 << 16)
def answer_form(text: str) -> AnswerForm:
    """The normal form of an answer or of an accepted one."""
    tokens = _joined_initials(with_numbers(_pieces(plain_spelling(text))))
    has_numbers = any(map(is_number, tokens))
    words: list[str] = []
    for token in tokens:
        # Only beside a number is "Jan" a month, and not a name.
        month = MONTH_OF.get(token) if has_numbers else None
        is_measured = bool(words) and (is_number(words[-1]) or words[-1] in _MEASURING)
        unit = _UNITS.get(_singular(token)) if is_measured else None
        words += (month or unit or _SAME_WORD.get(_singular(token)) or _singular(token)).split()
    # A lone letter can be the answer itself, so articles go only where something else is left.
    kept = tuple(word for word in words if word not in ("a", "an", "the")) or tuple(words)

    key = [word for word in kept if word not in (HARD, SOFT)]
    start = 0
    while start < len(key) - 1 and key[start] in _LEADING:
        start += 1
    months = frozenset(word for word in kept if has_numbers and word in MONTHS)
    numbers = tuple(word for word in kept if is_number(word))
    return AnswerForm(
        tokens=kept,
        key="".join(key[start:]),
        # The order of a date is free, that of a score ("3-1") is not.
        numbers=tuple(sorted(numbers)) if months else numbers,
        months=months,
        bounds=frozenset(_BOUNDS[word] for word in kept if has_numbers and word in _BOUNDS),
        denials=frozenset(_DENIALS[word] for word in kept if word in _DENIALS),
        lacks_a="a" in words and "a" not in kept,
    )
