"""Whether a text states an accepted answer as support must: with the sign and the decimal point of a number.

`tokenize` drops both, so "-125" would be verified by "125 degrees", and "5 metres" by "3.5 metres". Negatives
are still checked without them: a text that may have the answer is no negative.
"""

import functools
import re
from collections.abc import Iterable

from utils.numerals import plain_numbers
from utils.text import holds_words, padded_words

# One point alone: "12.5.1990" is a date, and "1.2.3" a version.
_DECIMAL = re.compile(r"(?<![\d.])(\d+)\.(\d+)(?!\.?\d)")
# Nothing stands before a sign: "1914-1918" is a range, and so is "1914 -1918".
_SIGN = re.compile(r"(?<![\w)\]])(?<!\d\s)(?:[-−–]|\bminus\s)(?=\d)", re.IGNORECASE)


@functools.lru_cache(1 << 12)
def _stated_words(text: str) -> str:
    """`padded_words` of a text in which sign, number and decimals are one word."""
    text = _DECIMAL.sub(r"\1point\2", plain_numbers(text))
    return padded_words(_SIGN.sub(" minus", text))


def states_answer(text: str, answers: Iterable[str]) -> bool:
    """True when the text contains an answer as a run of words, and its numbers as they are."""
    for answer in answers:
        is_held = holds_words(padded_words(text), [padded_words(answer)])
        has_number = any(char.isdigit() for char in answer)
        # The numbers are looked at only where the words are there: it takes several times as long.
        if is_held and (not has_number or holds_words(_stated_words(text), [_stated_words(answer)])):
            return True
    return False
