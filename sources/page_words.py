"""Words and titles of wiki pages and of questions, in the one form in which the page search compares them.

Lower case, and titles without accents, as questions are typed. Written for speed: millions of pages pass.
"""

import re
import unicodedata

from utils.text import STOP_WORDS, tokenize

# Longest title that is looked for in a question, in words.
_MAX_TITLE_WORDS = 8

_COMBINING = re.compile("[\u0300-\u036f]+")
_ARTICLES = ("the ", "a ", "an ")

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
    """Lower-case words of a page; `tokenize` takes several times as long.

    Accents stay: removing them would cost a third more, and names with accents are found by page titles,
    which have none (`title_words`). A word of a script without spaces is not cut out.
    """
    if text.isascii():
        return text.encode("ascii").translate(_TO_WORDS).split()
    raw = text.lower().encode("utf-8", "replace")
    if _PUNCTUATION_START in raw:
        for mark in _PUNCTUATION:
            raw = raw.replace(mark, b" ")
    return raw.translate(_TO_WORDS).split()


def title_words(title: str) -> list[bytes]:
    """Lower-case words of a title, without accents."""
    return words_of(title if title.isascii() else plain(title))


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
