"""The words of a source text, each with the place it has there.

A reader model sees words with single spaces; a quote has to be found again in the file. So every word keeps
its offsets, and whatever is cut out of words (sentences, chunks) has offsets too.
"""

import re
from array import array
from collections.abc import Iterable
from dataclasses import dataclass, field

from utils.text import split_sentences
from utils.writing_systems import CLOSING_MARKS, FULL_STOPS

# A longer run without a space (a key, a picture as text, Chinese) counts as several words, or no prompt could
# contain it.
_MAX_CHARS = 100
# A word ends behind a full stop that no space follows, because `split_sentences` ends a sentence there: each
# sentence is a number of whole words. Closing marks are limited as other characters are.
_STOP = rf"[{FULL_STOPS}][{CLOSING_MARKS}]{{0,8}}"
_WORD = re.compile(rf"[^\s{FULL_STOPS}]{{1,{_MAX_CHARS}}}(?:{_STOP})?|{_STOP}")
_AT_STOP = re.compile(rf"[{FULL_STOPS}][{CLOSING_MARKS}]*$")
_CLOSING = re.compile(rf"[{CLOSING_MARKS}]{{1,8}}")

# A paragraph that ends with one of these is of sentences.
END_MARKS = (".", "!", "?", *FULL_STOPS, "！", "？")

# Marks within a word that nobody sees: of a place to break it, and of none.
_UNSEEN_MARKS = "\xad\u2060\ufeff"
_UNSEEN = dict.fromkeys(map(ord, _UNSEEN_MARKS))

# (text, start, end): visible text and its range in the source. The two differ in length for an entity.
Piece = tuple[str, int, int]


@dataclass(frozen=True)
class Sentence:
    """A sentence as the model reads it, and its range in the source."""

    text: str
    start: int
    end: int


@dataclass
class Words:
    """Consecutive words; `starts[i]` and `ends[i]` are the range of word i in the source."""

    texts: list[str] = field(default_factory=list)
    starts: array = field(default_factory=lambda: array("L"))
    ends: array = field(default_factory=lambda: array("L"))

    @property
    def text(self) -> str:
        return " ".join(self.texts)

    def sentence(self, first: int, last: int) -> Sentence:
        """The words `first` to `last`, without the last, as one sentence."""
        return Sentence(" ".join(self.texts[first:last]), self.starts[first], self.ends[last - 1])

    def sentences(self, max_words: int) -> list[Sentence]:
        """All words as sentences; one of more than `max_words` is cut into parts of at most `max_words`."""
        found = []
        first = 0
        for text in split_sentences(self.text):
            last = first + len(text.split())
            # What no full stop ends, such as a table or a log, would be one endless sentence.
            for start in range(first, last, max_words):
                found.append(self.sentence(start, min(start + max_words, last)))
            first = last
        return found


def words_of(pieces: Iterable[Piece]) -> Words:
    """The words of visible pieces in source order; `<b>W</b>ord` is one word of two pieces."""
    words = Words()
    is_open = False
    for text, start, end in pieces:
        is_exact = len(text) == end - start
        place = 0
        if text and is_open and _AT_STOP.search(words.texts[-1]):
            # Of what follows a full stop only its closing marks belong to the word.
            is_open = False
            if (marks := _CLOSING.match(text)) and len(words.texts[-1]) < _MAX_CHARS:
                place = marks.end()
                words.texts[-1] += marks.group()
                words.ends[-1] = start + place if is_exact else end
        for match in _WORD.finditer(text, place):
            seen = match.group().translate(_UNSEEN)
            if not seen:
                continue
            word_start = start + match.start() if is_exact else start
            word_end = start + match.end() if is_exact else end
            # A page can put any number of pieces side by side.
            if is_open and match.start() == 0 and len(words.texts[-1]) < _MAX_CHARS:
                words.texts[-1] += seen
                words.ends[-1] = word_end
                continue
            words.texts.append(seen)
            words.starts.append(word_start)
            words.ends.append(word_end)
        if shown := text.rstrip(_UNSEEN_MARKS):
            is_open = not shown[-1].isspace()
    return words
