"""Words of texts in any script, also of those that are written without spaces between words.

Nobody tells where a word of Chinese, Japanese, Thai, Lao, Burmese or Khmer ends without a dictionary. So each
character is a word of its own there, and an answer is found as a run of them. Korean has spaces.

Signs of vowels (Hindi, Tamil) are parts of their word, which Python's regular expressions take for spaces.
Arabic and Hebrew are written with points or without them, so points are no part of a word.
"""

import functools
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

# Letters, vowel signs and digits of Han, Kana, Thai, Lao, Burmese and Khmer, without their punctuation.
_UNSPACED = (
    "\u3005\u3007\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
    "\u3041-\u3096\u3099\u309a\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e50-\u0e59\u0e81-\u0ebd\u0ec0-\u0edf"
    "\u1000-\u1049\u1050-\u109d\u1780-\u17d3\u17d7\u17dc\u17dd\u17e0-\u17e9"
)
_ASCII_WORD = re.compile(r"\w+")
_UNSPACED_CHAR = re.compile(f"[{_UNSPACED}]")
# Vowels and other marks on Arabic and Hebrew letters.
_POINTS = (
    "\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0610-\u061a\u0640\u064b-\u065f\u0670\u06d6-\u06dc"
)
_POINT = re.compile(f"[{_POINTS}]+")
# Chinese and Japanese have a full stop of their own, and no space behind it. Their other end marks are in
# names, too.
CLOSING_MARKS = "\"'」』”’）】"
FULL_STOPS = "。｡"
FULL_STOP = f"[{FULL_STOPS}][{CLOSING_MARKS}]*(?![{CLOSING_MARKS}])"

# Behind it are Han alone, and selectors of glyphs.
_LAST_SCRIPT = 0x20000


def _marks() -> str:
    """A character class, without its brackets, of the marks that continue a word of a script with spaces."""
    runs: list[list[int]] = []
    for code in range(0x300, _LAST_SCRIPT):
        char = chr(code)
        if unicodedata.category(char) not in ("Mn", "Mc") or _UNSPACED_CHAR.match(char):
            continue
        if runs and runs[-1][1] == code - 1:
            runs[-1][1] = code
        else:
            runs.append([code, code])
    return "".join(f"{chr(first)}-{chr(last)}" for first, last in runs)


class _Patterns(NamedTuple):
    """Of a word, of a word or a character without spaces, and the texts of parts of `run_pattern`."""

    word: re.Pattern
    word_or_char: re.Pattern
    spaced_char: str
    between: str


# Made at the first text that needs them: the marks of all scripts take longer than most modules' imports.
@functools.cache
def _patterns() -> _Patterns:
    marks = _marks()
    letter = rf"[^\W{_UNSPACED}]"
    return _Patterns(
        # Letters first, and marks only where they end: a class of both takes four times as long.
        word=re.compile(rf"\w+(?:[{marks}]+\w*)*"),
        word_or_char=re.compile(rf"{letter}+(?:[{marks}]+{letter}*)*|[{_UNSPACED}]"),
        spaced_char=rf"(?:{letter}|[{marks}])",
        between=rf"[^\w{marks}]",
    )


def is_unspaced(text: str) -> bool:
    """Whether a text has a character of a script without spaces between words."""
    return not text.isascii() and bool(_UNSPACED_CHAR.search(text))


def without_points(text: str) -> str:
    """The text without the points of Arabic and Hebrew, as most of it is written."""
    return text if text.isascii() else _POINT.sub("", text)


def words_of(text: str) -> list[str]:
    """The words of a text as they are written; in scripts without spaces, its characters."""
    if text.isascii():
        return _ASCII_WORD.findall(text)
    # The pattern of words takes a third of the time.
    return (_patterns().word_or_char if is_unspaced(text) else _patterns().word).findall(text)


def in_pairs(words: list[str]) -> list[str]:
    """The words, where characters of scripts without spaces are in pairs: one alone says next to nothing."""
    flags = [is_unspaced(word) for word in words]
    paired = []
    for i, word in enumerate(words):
        # Each character with the next one. The last one of a run is in the pair before it.
        has_next = flags[i] and i + 1 < len(words) and flags[i + 1]
        is_last = flags[i] and i > 0 and flags[i - 1]
        if has_next:
            paired.append(word + words[i + 1])
        elif not is_last:
            paired.append(word)
    return paired


def _with_points(word: str) -> str:
    """A pattern of a word whose Arabic and Hebrew letters may have points."""
    letters = without_points(word)
    points = f"[{_POINTS}]*"
    return "".join(re.escape(char) + (points if "\u0590" <= char <= "\u06ff" else "") for char in letters)


def run_pattern(run: Sequence[str]) -> str:
    """A pattern of words with anything but words between them, which does not begin or end within a word."""
    flags = [is_unspaced(word) for word in run]
    pattern = "" if flags[0] else f"(?<!{_patterns().spaced_char})"
    for i, word in enumerate(run):
        if i:
            pattern += f"{_patterns().between}*" if flags[i - 1] or flags[i] else f"{_patterns().between}+"
        pattern += re.escape(word) if word.isascii() else _with_points(word)
    return pattern if flags[-1] else f"{pattern}(?!{_patterns().spaced_char})"
