"""Documents -> passages of the size that a checkpoint was trained on, and a search over them.

Chunks are made by the code that made the training data (evidence/chunks.py). This module knows which words
of a file a passage is; it does not know what answers a question.
"""

import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from asking.documents import Document, Page
from asking.markup import Block
from asking.words import END_MARKS, Sentence, Words
from evidence.chunks import chunk_passage
from evidence.paraphrase import stem
from evidence.records import Passage as Sentences
from evidence.retrieval import BM25, terms_of
from utils.writing_systems import CLOSING_MARKS

# A sentence of more than so many times the chunk's words is cut: training never showed one.
_LONG_SENTENCE = 3
_MAX_TITLE_WORDS = 12
# The same text of fewer words in two documents may be about different things.
_MIN_COPIED_WORDS = 5
# BM25's b. Passages differ little in length but for headings and list items, which are short without being
# nearer to a question.
_LENGTH_WEIGHT = 0.3
# What copies of a text may differ in: white space, selectors of glyphs, and the marks of emphasis and code.
# Any other mark may tell facts apart: < 5, 1.5, -5, C++, 10%.
_UNTOLD = re.compile(r"\s+|[\ufe0e\ufe0f]|(?<!\w)[*_`]{1,3}(?=\w)|(?<=\w)[*_`]{1,3}(?!\w)")
# A dash as two or three hyphens, which programs turn into one mark, as they do quotes.
_DASH = re.compile(r"(?<=\w)-{2,3}(?=\w)|(?<=\s)-{2,3}(?=\s)")
_PLAIN_MARKS = str.maketrans("\u2010\u2011\u2012\u2013\u2014\u2212\u2018\u2019\u201c\u201d", "------''\"\"")
# 10² is no 102.
_RAISED = re.compile(r"[\xb2\xb3\xb9\u2070-\u209f]")


@dataclass(frozen=True)
class Passage:
    """Consecutive sentences of a page. `start`, `end`: their range in `page.source`."""

    document: Document = field(repr=False)
    page: Page = field(repr=False)
    title: str
    text: str
    start: int
    end: int


def _title_of(words: Words) -> str:
    """A heading as a title; what follows its first words is not needed to tell passages apart."""
    return " ".join(words.texts[:_MAX_TITLE_WORDS])


def _document_title(document: Document) -> str:
    """The first title or heading of a document, else its file name in words."""
    for page in document.pages:
        for block in page.blocks:
            if block.level == 1:
                return _title_of(block.words)
            # A heading behind the first text is that of a part.
            if block.level == 0:
                break
    # A name that is not UTF-8 has halves of characters, which no tokenizer takes.
    name = document.name.encode("utf-8", "replace").decode()
    stem_words = PurePath(name).stem.replace("_", " ").replace("-", " ").strip()
    return stem_words or name


def _ends_a_sentence(words: Words) -> bool:
    return words.texts[-1].rstrip(f")]\u201d\u2019{CLOSING_MARKS}").endswith(END_MARKS)


class _Headings:
    """The headings that the text is below, the outermost first."""

    def __init__(self, main_title: str):
        self.main_title = main_title
        self._open: list[Block] = []
        # The last one has no text of its own yet.
        self.is_bare = False

    def title(self, n_left_out: int = 0) -> str:
        """The title of a text here, or of the last headings, below those before them."""
        names = [_title_of(block.words) for block in self._open[: len(self._open) - n_left_out]]
        # The nearest two: more would be longer than a title of the training data.
        named = [name for name in names if name != self.main_title][-2:]
        # These look like this: `Juno (spacecraft)`.
        return f"{self.main_title} ({': '.join(named)})" if named else self.main_title

    def add(self, block: Block) -> None:
        while self._open and self._open[-1].level >= block.level:
            self._open.pop()
        self._open.append(block)
        self.is_bare = True

    def alone(self, next_level: int) -> Words | None:
        """The last heading, if it has no text and nothing below it: then it says something itself."""
        if not self.is_bare or self._open[-1].level < next_level:
            return None
        words = self._open[-1].words
        return None if _title_of(words) == self.main_title else words


def _sections(document: Document) -> Iterator[tuple[Page, str, list[Words]]]:
    """(page, title, paragraphs) of the parts of a document that a passage may be made of.

    A heading begins a part. A list item or a table row, which ends without an end mark, is one by itself: it
    would run into the next as one sentence.
    """
    headings = _Headings(_document_title(document))
    for page in document.pages:
        paragraphs: list[Words] = []
        # The end of a page ends all parts on it.
        for block in [*page.blocks, Block(Words(), 1)]:
            is_sentences = block.level == 0 and _ends_a_sentence(block.words)
            if paragraphs and not is_sentences:
                yield page, headings.title(), paragraphs
                paragraphs = []
            if is_sentences:
                paragraphs.append(block.words)
            elif block.level == 0:
                yield page, headings.title(), [block.words]
            elif heading := headings.alone(block.level):
                yield page, headings.title(1), [heading]
                headings.is_bare = False
            if block.level == 0:
                headings.is_bare = False
            elif block.words.texts:
                headings.add(block)
                if len(block.words.texts) > _MAX_TITLE_WORDS:
                    # No title has all its words.
                    yield page, headings.title(1), [block.words]
                    headings.is_bare = False


def passages_of(document: Document, max_words: int) -> list[Passage]:
    """The passages of a document, of at most `max_words` words unless one sentence has more."""
    passages = []
    for page, title, paragraphs in _sections(document):
        sentences: list[Sentence] = []
        for words in paragraphs:
            sentences += words.sentences(_LONG_SENTENCE * max_words)
        texts = tuple(sentence.text for sentence in sentences)
        for chunk in chunk_passage(Sentences(title, texts), max_words):
            first = sentences[chunk.lines[0]]
            last = sentences[chunk.lines[-1]]
            passages.append(Passage(document, page, title, chunk.text, first.start, last.end))
    return passages


def _letters(text: str) -> str:
    """What two copies of a text have in common: all but its spaces, its cases and how its marks are typed."""
    plain = unicodedata.normalize("NFKC", _RAISED.sub(r"^\g<0>", text)).casefold()
    return _UNTOLD.sub("", _DASH.sub("-", plain).translate(_PLAIN_MARKS)) or text


def _without_copies(documents: list[Document], max_words: int) -> list[Passage]:
    """The passages of documents, without those that another has too: a file may be there as .md and .html.

    Within one document, and for a few words such as "Closed.", the title counts: it says of what they are.
    """
    first_of: dict[str, Passage] = {}
    by_text: dict[tuple[str, str], Passage] = {}
    for document in documents:
        for passage in passages_of(document, max_words):
            letters = _letters(passage.text)
            first = first_of.setdefault(letters, passage)
            is_long = len(passage.text.split()) >= _MIN_COPIED_WORDS
            if first.document is document or not is_long:
                by_text.setdefault((_letters(passage.title), letters), passage)
    return list(by_text.values())


class PassageIndex:
    """The passages of documents, each text once, with a BM25 index over the stems of titles and texts."""

    def __init__(self, documents: list[Document], max_words: int):
        self.passages = _without_copies(documents, max_words)
        self._places = {id(passage): i for i, passage in enumerate(self.passages)}
        # What the text says counts twice what its title says: the title is that of many passages.
        terms = (2 * _stems(passage.text) + _stems(passage.title) for passage in self.passages)
        self._index = BM25(terms, b=_LENGTH_WEIGHT)

    def place(self, passage: Passage) -> int:
        """The number of a passage in the order of the documents, from 0."""
        return self._places[id(passage)]

    def nearest(self, query: str, k: int) -> list[Passage]:
        """At most `k` passages, best first; where too few share a word with the query, their neighbors."""
        found = self._index.top(_stems(query), k)
        best = found[0] if found else 0
        # Training always showed several chunks, so there are several here too where the text has them.
        around = sorted(range(len(self.passages)), key=lambda i: abs(i - best))
        chosen = list(dict.fromkeys([*found, *around[: 2 * k]]))
        return [self.passages[i] for i in chosen[:k]]


def _stems(text: str) -> list[str]:
    """What BM25 counts here: stems, because a reader asks `opened` of what the text calls `opening`."""
    # A lone vowel sign has no stem.
    return [found for term in terms_of(text) if (found := stem(term))]
