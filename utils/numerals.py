"""Numbers in short texts: digits, words, ordinals and Roman numerals, all as plain digits.

`1,047.0` is `1047`, `two hundred and five` is `205`, `5 million` is `5000000`. It sees the pieces of a text,
and nothing of what the text means.
"""

import re
import unicodedata
from decimal import Decimal

_ONES = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
    "seventeen eighteen nineteen".split()
)
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth thirteenth "
    "fourteenth fifteenth sixteenth seventeenth eighteenth nineteenth".split()
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
CARDINALS = {word: i for i, word in enumerate(_ONES)} | {
    word: 10 * i for i, word in enumerate(_TENS, start=2)
}
ORDINALS = {word: i for i, word in enumerate(_ORDINALS)}
ORDINALS |= {f"{word[:-1]}ieth": 10 * i for i, word in enumerate(_TENS, start=2)}
NUMBER_WORDS = CARDINALS | ORDINALS
_SCALES = {
    "dozen": 12,
    "thousand": 10**3,
    "million": 10**6,
    "billion": 10**9,
    "bn": 10**9,
    "trillion": 10**12,
}
# The first halves of years in words: "nineteen eighty-four", "twenty twelve".
_CENTURIES = {str(century): century for century in range(11, 21)}
# Decimal calculates with 28 digits, and a trillion adds 12.
_MAX_SCALED_DIGITS = 16
_ROMAN = re.compile(r"(xc|xl|l?x{0,3})(ix|iv|v?i{0,3})", re.IGNORECASE)
_ROMAN_DIGITS = {"i": 1, "v": 5, "x": 10, "l": 50, "c": 100}

_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")
# Behind a unit ("km²") it is none.
_POWER = re.compile("(?<=\\d)[⁺⁻]?[⁰¹²³⁴-⁹]+")
_VERSIONS = frozenset("version v release update patch edition chapter section".split())
# What stands behind the I of a king or a war. Before any other word it is a pronoun: "As I lay dying".
_BEHIND_A_FIRST = frozenset("of and or the in at".split())


def plain_numbers(text: str) -> str:
    """The text after NFKC, without commas between thousands."""
    return _THOUSANDS.sub("", unicodedata.normalize("NFKC", with_powers(text)))


def with_powers(text: str) -> str:
    """`10⁶` -> `10^⁶`: Unicode's plain forms of such digits would make 106 of it."""
    return text if text.isascii() else _POWER.sub(lambda match: f"^{match[0]}", text)


def is_number(token: str) -> bool:
    # Not `isdigit`, which takes signs of rare scripts that no number can be made of.
    return token.lstrip("-")[:1].isdecimal()


def as_number(text: str) -> str:
    """`1,047.0` -> `1047`."""
    value = Decimal(text.replace(",", ""))
    # Not Decimal.normalize(): it would round a number of more than 28 digits.
    digits = format(value, "f")
    return digits.rstrip("0").rstrip(".") if "." in digits else digits


def is_version(number: str, before: str, after: str) -> bool:
    """True for the number of a version or a chapter, whose parts count one by one: 3.10 comes after 3.9.

    `before` and `after`: the words around it. One of two parts is a version behind a name ("Python 3.10").
    """
    if number.count(".") != 1:
        return "." in number
    is_named = before[:1].isupper() or before.lower() in _VERSIONS
    # "3.10 million" is an amount; "Web 2.0" is Web 2.
    return is_named and not after[:1].islower() and number.endswith("0") and not number.endswith(".0")


def roman_value(text: str) -> str:
    values = [_ROMAN_DIGITS[letter] for letter in text.lower()]
    # A smaller digit in front of a larger one is subtracted.
    signed = [-a if a < b else a for a, b in zip(values, [*values[1:], 0])]
    return str(sum(signed))


def is_roman(word: str, before: str, after: str, is_lower: bool) -> bool:
    """True for a Roman numeral after a word; I, V and X where they can be no initial and no `versus`.

    `is_lower`: the text has no capitals.
    """
    if not _ROMAN.fullmatch(word) or not before[:1].isalpha():
        return False
    if is_lower:
        return not after if len(word) == 1 else set(word) <= set("ivx")
    if word == "I" and after[:1].islower():
        return after in _BEHIND_A_FIRST
    # "John V. Smith" has an initial, "Batman V Superman" has two sides.
    return word.isupper() and (len(word) > 1 or not after[:1].isupper())


def _read_number(pieces: list[str], start: int) -> tuple[str, int]:
    """(a number in digits, index behind it), read from words such as `two hundred and five million`.

    ("", start) where no number begins.
    """
    total = Decimal(0)
    current: Decimal | None = None
    i = start
    while i < len(pieces):
        piece = pieces[i]
        following = pieces[i + 1] if i + 1 < len(pieces) else ""
        has_hundreds = current is not None and current >= 100 and current % 100 == 0
        if is_number(piece) and not piece.endswith("s") and current is None and i == start:
            current = Decimal(piece)
            # Digits take a scale ("5 million") and nothing else: "1995 one" is two numbers. So many digits
            # that they cannot be multiplied exactly take none.
            if len(piece) > _MAX_SCALED_DIGITS or (following not in _SCALES and following != "hundred"):
                return piece, i + 1
        elif piece in NUMBER_WORDS and _may_follow(current, NUMBER_WORDS[piece], has_hundreds):
            current = (current or Decimal(0)) + NUMBER_WORDS[piece]
        elif piece == "hundred" and (current is None or current < 100):
            current = 100 * (Decimal(1) if current is None else current)
        elif piece in _SCALES:
            total += (Decimal(1) if current is None else current) * _SCALES[piece]
            current = None
        elif piece == "and" and (has_hundreds or (total and current is None)) and following in NUMBER_WORDS:
            pass
        else:
            break
        i += 1
    return (as_number(format(total + (current or 0), "f")), i) if i > start else ("", start)


def _may_follow(current: Decimal | None, value: int, has_hundreds: bool) -> bool:
    """True where a number word continues the number so far: `twenty` `one`, `two hundred` `five`."""
    if current is None or has_hundreds:
        return True
    return current % 100 >= 20 and current % 10 == 0 and 0 < value < 10


def _with_year(pieces: list[str], century: int, number: str, end: int) -> tuple[str, int]:
    """A year whose two halves are words: `nineteen` `eighty` `four`; else the number as it was read."""
    if end >= len(pieces) or pieces[end] not in CARDINALS:
        return number, end
    rest, behind = _read_number(pieces, end)
    return (
        (str(100 * century + int(rest)), behind)
        if rest.isdecimal() and 10 <= int(rest) <= 99
        else (number, end)
    )


def with_numbers(pieces: list[str]) -> list[str]:
    """The pieces with number words and scales read as digits."""
    found: list[str] = []
    i = 0
    while i < len(pieces):
        # After a number, or "per", it is the unit of time.
        is_measured = bool(found) and (is_number(found[-1]) or found[-1] == "per")
        is_time = pieces[i] == "second" and is_measured
        number, end = ("", i) if is_time else _read_number(pieces, i)
        if century := _CENTURIES.get(number) if pieces[i] in CARDINALS else None:
            number, end = _with_year(pieces, century, number, end)
        is_negative = bool(number) and found[-1:] == ["minus"]
        if is_negative:
            found[-1] = f"-{number}"
        else:
            found.append(number or pieces[i])
        i = max(end, i + 1)
    return found
