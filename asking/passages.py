"""Documents -> passages of the size that a checkpoint was trained on, and a search over them.

Chunks are made by the code that made the training data (evidence/chunks.py). This module knows which words
of a file a passage is; it does not know what answers a question.
"""

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import PurePath

from asking.documents import Document, Page
from asking.words import Sentence, Words
from evidence.chunks import chunk_passage
from evidence.paraphrase import stem
from evidence.records import Passage as Sentences
from evidence.retrieval import BM25, terms_of

# A sentence of more than so many times the chunk's words is cut: training never showed one.
_LONG_SENTENCE = 3
_MAX_TITLE_WORDS = 12
# The same text of fewer words in two documents may be about different things.
_MIN_COPIED_WORDS = 5
# BM25's b. Passages differ little in length but for headings and list items, which are short without being
# nearer to a question.
_LENGTH_WEIGHT = 0.3


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
    stem_words = PurePath(document.name).stem.replace("_", " ").replace("-", " ").strip()
    return stem_words or document.name


def _ends_a_sentence(words: Words) -> bool:
    return words.texts[-1].rstrip("\"')]\u201d\u2019").endswith((".", "!", "?"))


def _sections(document: Document) -> Iterator[tuple[Page, str, list[Words]]]:
    """(page, title, paragraphs) of the parts of a document that a passage may be made of.

    A heading begins a part. A list item or a table row, which ends without an end mark, is one by itself: it
    would run into the next as one sentence.
    """
    main_title = _document_title(document)
    title = main_title
    for page in document.pages:
        paragraphs: list[Words] = []
        for block in page.blocks:
            is_sentences = block.level == 0 and _ends_a_sentence(block.words)
            if paragraphs and not is_sentences:
                yield page, title, paragraphs
                paragraphs = []
            if is_sentences:
                paragraphs.append(block.words)
            elif block.level == 0:
                yield page, title, [block.words]
            else:
                heading = _title_of(block.words)
                # Titles of the training data look like this: `Juno (spacecraft)`.
                title = main_title if heading == main_title else f"{main_title} ({heading})"
        if paragraphs:
            yield page, title, paragraphs


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
    """What two copies of a text have in common: its letters and digits in lower case, if it has any."""
    letters = "".join(char for char in unicodedata.normalize("NFKC", text).casefold() if char.isalnum())
    return letters or text


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
        found = self._index.top(" ".join(_stems(query)), k)
        best = found[0] if found else 0
        # Training always showed several chunks, so there are several here too where the text has them.
        around = sorted(range(len(self.passages)), key=lambda i: abs(i - best))
        chosen = list(dict.fromkeys([*found, *around[: 2 * k]]))
        return [self.passages[i] for i in chosen[:k]]


def _stems(text: str) -> list[str]:
    """What BM25 counts here: stems, because a reader asks `opened` of what the text calls `opening`."""
    return [stem(term) for term in terms_of(text)]
