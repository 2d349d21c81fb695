"""The text of a short answer in plain spelling: signs as words, fractions and dates in one form, no accents.

The first step of the normal form in `utils/answer_forms.py`. It sees characters, and knows no words but those
around numbers.
"""

import math
import re
import unicodedata
from collections.abc import Callable

from utils.numerals import with_powers

MONTHS = tuple(
    "january february march april may june july august september october november december".split()
)
# One token for the words of a refusal inside an answer, which takes itself back with them.
HALF_REFUSAL = "insufficientevidence"

_SYMBOLS = {
    **{"&": " and ", "%": " percent ", "$": " dollar ", "€": " euro ", "£": " pound ", "¥": " yen "},
    **{"’": "'", "‘": "'", "`": "'", "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "⁄": "/"},
    **{"<": " under ", ">": " over "},
    # No decomposition separates these letters from their strokes.
    **{"ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ı": "i", "ß": "ss", "æ": "ae", "Æ": "AE"},
}
_COMPARISONS = {
    **dict.fromkeys("≥⩾≧", " atleast "),
    **dict.fromkeys("≤⩽≦", " atmost "),
    **{"≠": " not ", "=\u0338": " not "},
}
_COMPARISON = re.compile("|".join(_COMPARISONS))
_SCALE_OF = {"k": "thousand", "m": "million", "mn": "million", "b": "billion"}
_COUNTS = "one two three four five six seven eight nine".split()
_PARTS = {"half": 2, "halve": 2, "third": 3, "quarter": 4, "fourth": 4, "fifth": 5, "sixth": 6, "eighth": 8}
_PARTS |= {"tenth": 10}
_DEGREES = {"c": "celsius", "f": "fahrenheit"}

# Marks behind this code point are vowels and voicing (Devanagari, kana): parts of a word, and no accents.
_LAST_ACCENT = 0x08FF
# A mark as a letter of a rare block, since Python's \w takes marks for spaces.
_MARK_LETTERS = 0x20000


def _fraction(match: re.Match) -> str:
    """`two-thirds` -> `2/3`; "two third" and "one thirds" are no fractions."""
    count = _COUNTS.index(match[1].lower()) + 1
    is_plural = bool(match[3])
    return f"{count}/{_PARTS[match[2].lower()]}" if is_plural == (count > 1) else match[0]


def _mixed_number(match: re.Match) -> str:
    """`1 1/2` -> `1.5`; other parts than halves, quarters, fifths and eighths have no short decimal."""
    whole, above, below = match.groups()
    return str(int(whole) + int(above) / int(below))


def _date(match: re.Match) -> str:
    """`2004-12-26` and `2004/12/26` with the month as a word; a month of 13 is no date."""
    year, month, day = match.groups()
    return f"{year} {MONTHS[int(month) - 1]} {day}" if 1 <= int(month) <= 12 else match[0]


def _currency(match: re.Match) -> str:
    return f" {_CURRENCIES[match[0].lower().replace(' ', '')]} "


# The numbers of a range or a bound: years and amounts, also with an era or a scale behind them.
_AMOUNT = r"(?<![\d.,])\d[\d.,]*(?:\s(?:BCE?|AD|CE|thousand|million|billion|percent)\b)?"
_CURRENCIES = {
    **{"usd": "USA dollar", "us$": "USA dollar", "eur": "euro", "gbp": "pound", "jpy": "yen"},
    **dict.fromkeys(("a$", "au$"), "australian dollar"),
    **dict.fromkeys(("c$", "ca$"), "canadian dollar"),
    **{"nz$": "New Zealand dollar", "hk$": "Hong Kong dollar"},
}

_TIMES = {"once": "1", "twice": "2", "thrice": "3"}


def _lone_fraction(match: re.Match) -> str:
    """`1/2` -> `0.5`; "6/8", a time of music, is not 3/4."""
    above = int(match[1])
    below = int(match[2])
    return str(above / below) if above < below and math.gcd(above, below) == 1 else match[0]


def _and_a_half(match: re.Match) -> str:
    """`two and a half` -> `2.5`."""
    whole = match[1].lower()
    return f"{_COUNTS.index(whole) + 1 if whole in _COUNTS else whole}.5"


_REWRITES: tuple[tuple[re.Pattern, str | Callable[[re.Match], str]], ...] = (
    # Before the currency's sign is gone: "US$5m".
    (
        re.compile(r"(?i)((?:[$€£¥]|\b(?:usd|eur|gbp|jpy))\s?\d[\d.,]*)\s?(k|mn|m|b)\b"),
        lambda m: f"{m[1]} {_SCALE_OF[m[2].lower()]}",
    ),
    # Before signs become words: "US$" is no "US".
    (re.compile(r"(?i)\b(?:us|au?|ca?|nz|hk)\s?\$|\b(?:usd|eur|gbp|jpy)\b"), _currency),
    # "us" is a pronoun, unless it is the whole answer.
    (re.compile(r"(?i)\bunited states(?: of america)?\b|^(?:the )?us$|\bu\.s\.(?:a\.)?(?!\w)"), "USA"),
    (re.compile(r"\bU\.?S(?!\.?\w)"), "USA"),
    (re.compile(r"(?i)\bunited kingdom\b"), "UK"),
    (re.compile(r"(?i)\bww\s?(iii|ii|i|[123])\b"), lambda m: f"World War {m[1].upper()}"),
    (re.compile(r"(?i)\b(\d{1,2}):00(?=\s*[ap]\.?m\b)"), r"\1"),
    # Groups of digits that an answer begins with: "3 000", "20 000 people".
    (re.compile(r"^\s*\d{1,3}(?: \d{3})+(?=\s*$|\s[^\W\d_])"), lambda m: m[0].replace(" ", "")),
    (re.compile(r"(?i)^\s*(\d[\d.]*)k\s*$"), r"\1 thousand"),
    # Arrows join two things, as a semicolon does.
    (re.compile("→|⇒|->|=>"), "; "),
    # Blood groups, and names of languages and notes: one word, in which the sign cannot get lost.
    (re.compile(r"\b(A|B|AB|O|Rh)(?:\+(?!\w)|[- ]positive\b)"), r"\1positive"),
    (re.compile(r"\b(A|B|AB|O|Rh)(?:[-−–](?!\w)|[- ]negative\b)"), r"\1negative"),
    (re.compile(r"\b([A-Za-z])\+\+"), r"plusplus\1"),
    (re.compile(r"\b([A-Ga-g])[#♯]"), r"sharp\1"),
    (re.compile(r"\b([A-Ga-g])♭"), r"flat\1"),
    (re.compile(r"\b([A-G])[- ](sharp|flat)(?= (?:major|minor)\b)"), r"\2\1"),
    # The sign of a time zone would join its letters.
    (re.compile(r"\b(UTC|GMT)\s?[-−–](?=\d)"), r"\1 minus "),
    (re.compile(r"(?i)^\s*(once|twice|thrice)\s*$"), lambda m: _TIMES[m[1].lower()]),
    (re.compile(r"(?i)^\s*(\w+) times\s*$"), r"\1"),
    (re.compile(r"(?i)\bsq\.?\s?(?=(?:km|m|mi|ft|mile|kilomet|met|feet|foot))"), "square "),
    (re.compile(r"(?i)\b(km|cm|m|mi|ft)2\b"), r"square \1"),
    (re.compile(r"(?i)\b(\d{1,2})\.(\d\d)(?=\s*[ap]\.?m\b)"), r"\1:\2"),
    (re.compile(r"(?<![\w.])(\d[\d.,]*)\+(?!\w)"), r"atleast \1"),
    (re.compile(r"(?<=\w)\+(?!\w)"), " plus"),
    (re.compile(r"(?i)(?:°|\bdegrees?)\s*([CF])\b"), lambda m: f" degree {_DEGREES[m[1].lower()]}"),
    (re.compile("°"), " degree "),
    (re.compile("|".join(map(re.escape, _SYMBOLS))), lambda m: _SYMBOLS[m[0]]),
    (re.compile(r"(?i)n't\b|(?<=\bcan)not\b"), " not"),
    (re.compile(r"(?i)\binsufficient[\s_]+evidence\b"), f" {HALF_REFUSAL} "),
    # "No. 1" is a number and denies nothing.
    (re.compile(r"(?i)\b(?:no\.?|number|#)\s*(?=\d)"), " "),
    (re.compile(r"\b(\d{4})[-/](\d\d)[-/](\d\d)\b"), _date),
    (re.compile(r"\b(\d\d)(\d\d)\s*[-/]\s*(\d\d)\b(?![-/.])"), r"\1\2 to \1\3"),
    (re.compile(r"(?i)\bper cent\b"), "percent"),
    # One form for a range: a "between" or "until" of its own would be a bound, an "and" an alternative.
    (re.compile(rf"(?i)\bbetween\s+({_AMOUNT})\s+and\s+(?={_AMOUNT})"), r"\1 to "),
    (re.compile(rf"(?i)\bfrom\s+({_AMOUNT})\s*(?:-|to|until|till|through)\s*(?={_AMOUNT})"), r"\1 to "),
    (re.compile(rf"(?i)({_AMOUNT})\s+(?:until|till|through)\s+(?={_AMOUNT})"), r"\1 to "),
    (re.compile(r"(?i)\b(?:from )?(\d{4})\s*(?:-|to|until)\s*(?:present|now|today|date)\b"), r"since \1"),
    (re.compile(r"(?i)(?<=[a-z])/(?=(?:h|hr|hour|s|sec|second)\b)"), " per "),
    (re.compile(r"(?i)\b(?:as well as|along with|together with)\b"), " and "),
    # Bounds of their own, before "less than" and "no": they include the number.
    (re.compile(r"(?i)\bat least\b|\bno (?:less|fewer) than\b|\ba minimum of\b"), "atleast"),
    (re.compile(r"(?i)\bat most\b|\bno more than\b|\ba maximum of\b|\bup to(?= \d)"), "atmost"),
    (re.compile(rf"(?i)({_AMOUNT})\s+or (?:more|over|above)\b"), r"atleast \1"),
    (re.compile(rf"(?i)({_AMOUNT})\s+or (?:less|fewer|under)\b"), r"atmost \1"),
    (re.compile(r"(?i)\b(?:more|greater|higher) than\b"), "over"),
    (re.compile(r"(?i)\b(?:less|fewer|lower) than\b"), "under"),
    (re.compile(r"(?i)\bminus\s+(?=\d)"), " -"),
    (re.compile(r"(?i)\b(?:c\.|ca\.?)\s*(?=\d{3,4}\b)"), "circa "),
    (re.compile(rf"(?i)\b(\d{{1,9}}|{'|'.join(_COUNTS)}) and a half\b"), _and_a_half),
    (re.compile(r"(?i)\b(?:an?|one) (\w+) and a half\b"), r"1.5 \1"),
    (re.compile(r"(?i)\bhalf (?:of )?an? (?=\w)"), "0.5 "),
    (re.compile(r"(?i)\b(?:a )?quarter (?:of )?an? (?=\w)"), "0.25 "),
    (re.compile(r"(?i)\b(?:a )?quarter (?=(?:million|billion|trillion)\b)"), "0.25 "),
    (re.compile(r"(?i)^\s*(?:an? )?half\s*$"), "1/2"),
    (re.compile(rf"(?i)\b({'|'.join(_COUNTS)})[- ]({'|'.join(_PARTS)})(s?)\b"), _fraction),
    # Of more digits, a float would change the last ones.
    (re.compile(r"(?<![\d/.])(\d{1,12})\s+(\d)/([2458])(?![\d/])"), _mixed_number),
    (re.compile(r"(?<![\d/.])(\d)/([2458])(?![\d/])"), _lone_fraction),
    (re.compile(r"(?<![\w.,])\.(?=\d)"), "0."),
)


def _plain_char(char: str) -> str:
    """A character without its accent, a currency's sign as its name."""
    category = unicodedata.category(char)
    if category == "Sc":
        return f" {unicodedata.name(char).lower().removesuffix(' sign')} "
    if not category.startswith("M"):
        return char
    return "" if ord(char) <= _LAST_ACCENT else chr(_MARK_LETTERS + ord(char))


def plain_spelling(text: str) -> str:
    """The text with signs as words and without accents."""
    # Spaces that no line breaks at, and thin ones, are between groups of digits.
    text = re.sub(r"(?<=\d)[\u00a0\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = with_powers(text)
    # "≠" decomposes to a sign that is lost.
    text = _COMPARISON.sub(lambda match: _COMPARISONS[match[0]], text)
    # "1½" decomposes to "11/2".
    text = re.sub(r"(?<=\d)(?=[¼-¾⅐-⅞])", " ", text)
    text = unicodedata.normalize("NFKD", text)
    if not text.isascii():
        known = {char for char in text if char in _SYMBOLS}
        text = "".join(char if char in known else _plain_char(char) for char in text)
    for pattern, replacement in _REWRITES:
        text = pattern.sub(replacement, text)
    return text
