"""Pages -> chunks, and the pool of all chunks of a build with its search index.

Chunks know their words and their page. They know nothing about what supports an answer (support.py).
"""

from dataclasses import dataclass, field

from evidence.paraphrase import stems
from evidence.records import Record
from evidence.retrieval import BM25
from utils.text import STOP_WORDS, pack_sentences, padded_words

# Chunks that a search returns: many more than a sample shows, because the checks reject some of them.
_N_SEARCHED = 40


@dataclass(frozen=True)
class Chunk:
    """Consecutive sentences of one page. `lines`: their sentence numbers on the page.

    Two chunks are equal when title and text are equal: a page may come with the row and from the page pool.
    """

    title: str
    text: str
    lines: frozenset[int] = field(compare=False)
    is_gold: bool = field(default=False, compare=False)

    # The views below are computed on every access. Their functions cache the recent texts; a full data set
    # has too many chunks to keep them all.

    @property
    def full_text(self) -> str:
        """Title and text, as one text to search for an answer."""
        return f"{self.title}. {self.text}"

    @property
    def words(self) -> str:
        """`padded_words` of the text."""
        return padded_words(self.text)

    @property
    def full_words(self) -> str:
        """`padded_words` of title and text."""
        return padded_words(self.title)[:-1] + self.words

    @property
    def terms(self) -> list[str]:
        """The terms of title and text for BM25."""
        return [token for token in self.full_words.split() if token not in STOP_WORDS]

    @property
    def stems(self) -> frozenset[str]:
        """The stems of title and text."""
        return stems(self.full_text)


def chunk_page(title: str, sentences: list[str], max_words: int, is_gold: bool = False) -> list[Chunk]:
    """Chunks of a page, cut between sentences; a sentence of more than `max_words` is a chunk of its own."""
    chunks = []
    for run in pack_sentences(sentences, max_words):
        text = " ".join(sentences[i] for i in run)
        chunks.append(Chunk(title, text, frozenset(run), is_gold))
    return chunks


class PagePool:
    """All pages of the build, cut into chunks, with a BM25 index over titles and texts."""

    def __init__(self, pages: dict[str, list[str]], max_words: int):
        """`pages`: title -> sentences. `max_words`: most words per chunk."""
        self.max_words = max_words
        self.by_title = {title: chunk_page(title, sentences, max_words) for title, sentences in pages.items()}
        self.chunks = [chunk for chunks in self.by_title.values() for chunk in chunks]
        self._index = BM25(chunk.terms for chunk in self.chunks)

    def search(self, query: str, k: int = _N_SEARCHED) -> list[Chunk]:
        """At most `k` chunks that share a term with the query, best first."""
        return [self.chunks[i] for i in self._index.top(query, k)]

    def candidates(self, record: Record) -> list[Chunk]:
        """The distinct chunks of the record's passages and named pages or, without any, those of a search.

        Rebuilt on every call; keeping them for a full data set would exhaust memory.
        """
        found: list[Chunk] = []
        for passage in record.passages:
            found += chunk_page(passage.title, list(passage.sentences), self.max_words, passage.is_gold)
        for title in record.page_titles:
            found += self.by_title.get(title, [])
        return list(dict.fromkeys(found or self.search(record.query)))
