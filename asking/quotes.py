"""Quotes: cited passages as the file has them, found again in it before they are shown.

The file is read again for each quote, so a quote of a file that changed is no quote. A passage that is not
found exactly where it was read raises `NotVerbatim`: the caller withholds the answer.
"""

from dataclasses import asdict, dataclass

from asking.passages import Passage
from utils.text import answer_pattern


class NotVerbatim(Exception):
    """A passage is not in its file, or no longer where it was."""


@dataclass(frozen=True)
class Quote:
    """A verbatim part of a document. `text` is `source[start:end]`, for HTML what a reader sees of it.

    `start` and `end` count characters of the decoded file, of a PDF those of the page's text. `line`: of the
    file or of the page's text, from 1. `marked`: ranges of `text` that hold the answer's words.
    """

    document: str
    page: int | None
    line: int
    title: str
    start: int
    end: int
    text: str
    marked: list[tuple[int, int]]

    @property
    def place(self) -> str:
        """`data/ask/tide_mill.md:3`, or of a PDF the name and `page 3`."""
        return f"{self.document}, page {self.page}" if self.page else f"{self.document}:{self.line}"

    def to_json(self) -> dict:
        return asdict(self)


def _words_between(page, start: int, end: int) -> list[str]:
    """The words of a page in a range of its source."""
    found = []
    for block in page.blocks:
        for text, word_start, word_end in zip(block.words.texts, block.words.starts, block.words.ends):
            if start <= word_start and word_end <= end:
                found.append(text)
    return found


def quote_passage(passage: Passage, shown: str, answer: str) -> Quote:
    """The quote of a passage, of which the model was shown the text `shown`: all of it, or its beginning.

    `answer` is marked in it. NotVerbatim if the file, read again, has other text at the passage's place.
    """
    place = f"{passage.document.name}, characters {passage.start}-{passage.end}"
    page = passage.document.read_again(passage.page)
    if page is None:
        raise NotVerbatim(f"{passage.document.name} can no longer be read")
    source = page.source[passage.start : passage.end]
    if source != passage.page.source[passage.start : passage.end]:
        raise NotVerbatim(f"{place}: the file changed after it was read; ask again")
    words = shown.split()
    found = _words_between(page, passage.start, passage.end)
    if not words or found[: len(words)] != words:
        raise NotVerbatim(f"{place}: the passage that the model read is not there word for word")
    end = passage.end if len(words) == len(found) else _end_of(page, passage.start, len(words))
    text = shown if passage.document.kind == "html" else page.source[passage.start : end]
    return Quote(
        document=passage.document.name,
        page=page.number,
        line=page.line_of(passage.start),
        title=passage.title,
        start=passage.start,
        end=end,
        text=text,
        marked=find_answer(text, answer),
    )


def _end_of(page, start: int, n_words: int) -> int:
    """Where the n-th word of a page after `start` ends."""
    ends = []
    for block in page.blocks:
        starts_and_ends = zip(block.words.starts, block.words.ends)
        ends += [word_end for word_start, word_end in starts_and_ends if word_start >= start]
    return ends[n_words - 1]


def find_answer(text: str, answer: str) -> list[tuple[int, int]]:
    """The ranges of a text that hold an answer's words in order, whatever case and punctuation they have."""
    pattern = answer_pattern([answer])
    return [match.span() for match in pattern.finditer(text)] if pattern else []
