"""Words and titles of wiki pages and of questions, in the one form in which the page search compares them.

Lower case and without accents, as questions are typed. It is written for speed: millions of pages pass.
"""

import re
import unicodedata

from utils.text import STOP_WORDS, tokenize

# Longest title that is looked for in a question, in words.
_MAX_TITLE_WORDS = 8

_COMBINING = re.compile("[\u0300-\u036f]+")
_ARTICLES = ("the ", "a ", "an ")

# First bytes of Latin letters with accents, and of accents as characters of their own, in UTF-8. A search for
# these is much faster than a decomposition, which most pages do not need.
_ACCENTED = (b"\xc3", b"\xc4", b"\xc5", b"\xcc", b"\xcd", b"\xe1")

# Dashes and curly quotes in UTF-8, which share their first two bytes.
_PUNCTUATION_START = b"\xe2\x80"
_PUNCTUATION = tuple(char.encode("utf-8") for char in "–—‘’“”")


def _separators() -> bytes:
    """A translation table of bytes: ASCII letters to lower case, what is no letter or digit to a space."""
    table = bytearray(range(256))
    for code in range(128):
        char = chr(code)
        table[code] = ord(char.lower()) if char.isalnum() else ord(" ")
    return bytes(table)


_TO_WORDS = _separators()


def plain(text: str) -> str:
    """The text without accents, since questions are typed without them."""
    return _COMBINING.sub("", unicodedata.normalize("NFKD", text))


def words_of(text: str) -> list[bytes]:
    """Lower-case words of a page without accents. `tokenize` takes several times as long.

    Only ASCII letters become lower case, and a word of another script is split by spaces alone.
    """
    raw = text.encode("utf-8", "replace")
    if not text.isascii():
        if any(start in raw for start in _ACCENTED):
            raw = plain(text).lower().encode("utf-8", "replace")
        if _PUNCTUATION_START in raw:
            for mark in _PUNCTUATION:
                raw = raw.replace(mark, b" ")
    return raw.translate(_TO_WORDS).split()


def bare_key(key: str) -> str:
    """A title key without accents and without an article in front."""
    if not key.isascii():
        key = plain(key)
    for article in _ARTICLES:
        key = key.removeprefix(article)
    return key


def title_runs(question: str) -> set[str]:
    """Runs of the question's words that may be the key of a page title, without an article in front."""
    words = tokenize(plain(question))
    runs = set()
    for start in range(len(words)):
        for end in range(start + 1, min(start + _MAX_TITLE_WORDS, len(words)) + 1):
            run = words[start:end]
            if not STOP_WORDS.issuperset(run):
                runs.add(bare_key(" ".join(run)))
    return runs
