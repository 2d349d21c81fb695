"""Pages -> chunks, and the pool of all chunks of a build with its search index.

Chunks know their words and their page. They know nothing about what supports an answer (support.py).
"""

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from evidence.paraphrase import forms_of, stems
from evidence.records import Passage, Record, leak_page
from evidence.retrieval import BM25
from utils.progress import track
from utils.text import STOP_WORDS, pack_sentences, padded_words

# Chunks that a search returns: many more than a sample shows, because the checks reject some of them.
N_SEARCHED = 40


@dataclass(frozen=True)
class Chunk:
    """Consecutive sentences of one page. `lines`: their sentence numbers on the page, ascending.

    `starts`: where each of them begins in the text.
    Two chunks are equal when title and text are equal: a page may come with the row and from the page pool.
    `page`: the page of its passage, which tells passages of one title apart.
    """

    title: str
    text: str
    lines: tuple[int, ...] = field(compare=False)
    starts: tuple[int, ...] = field(default=(0,), compare=False)
    is_gold: bool = field(default=False, compare=False)
    page: str = field(default="", compare=False)

    @property
    def leak_pages(self) -> frozenset[str]:
        """What connects it with chunks of the same page in other rows: the title, or passage and text."""
        if self.title.strip():
            return frozenset([self.title])
        # The audit sees the text of the chunk alone; other chunks of an untitled passage share its key.
        return frozenset([self.page, leak_page(self.title, self.text)])

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

    def cut(self, max_words: int) -> list["Chunk"]:
        """The chunk in pieces of at most `max_words`, cut between sentences."""
        if len(self.starts) == 1 or len(self.text.split()) <= max_words:
            return [self]
        ends = [*self.starts[1:], len(self.text)]
        sentences = [self.text[start:end].rstrip() for start, end in zip(self.starts, ends)]
        pieces = chunk_passage(Passage(self.title, tuple(sentences), self.is_gold, self.page), max_words)
        return [replace(piece, lines=tuple(self.lines[i] for i in piece.lines)) for piece in pieces]


def chunk_passage(passage: Passage, max_words: int) -> list[Chunk]:
    """Chunks of a passage, cut between sentences; a sentence over `max_words` is a chunk of its own."""
    sentences = list(passage.sentences)
    chunks = []
    for run in pack_sentences(sentences, max_words):
        starts = []
        n_chars = 0
        for i in run:
            starts.append(n_chars)
            n_chars += len(sentences[i]) + 1
        text = " ".join(sentences[i] for i in run)
        chunk = Chunk(passage.title, text, tuple(run), tuple(starts), passage.is_gold, passage.page)
        chunks.append(chunk)
    return chunks


def cut_all(chunks: list[Chunk], max_words: int) -> list[Chunk]:
    """All chunks in pieces of at most `max_words`, cut between sentences."""
    return [piece for chunk in chunks for piece in chunk.cut(max_words)]


class PagePool:
    """All pages of the build, cut into chunks, with a BM25 index over titles and texts."""

    def __init__(self, pages: dict[str, list[str]], max_words: int, passages: Iterable[Passage] = ()):
        """`pages`: title -> sentences. `max_words`: most words per chunk. `passages`: of pages without text.

        No two passages are equal. Gold sets that name a page by its title mean the page, never a passage of
        it, whose sentences have other numbers.
        """
        self.max_words = max_words
        self.by_title: dict[str, list[Chunk]] = {}
        self.chunks: list[Chunk] = []
        whole = (Passage(title, tuple(sentences)) for title, sentences in pages.items())
        parts = (replace(passage, is_gold=False, page=passage.text_key) for passage in passages)
        for passage in itertools.chain(whole, parts):
            chunks = chunk_passage(passage, max_words)
            self.chunks += chunks
            if passage.title.strip():
                self.by_title.setdefault(passage.title, []).extend(chunks)
        self._index = BM25(chunk.terms for chunk in track(self.chunks, "indexing pages", "chunk"))
        self._rarities: dict[str, float] = {}

    def rarity(self, stem: str) -> float:
        """The idf of a stem among all chunks, where a chunk with two of its forms counts twice."""
        if stem not in self._rarities:
            n_chunks = len(self.chunks)
            n_with = min(sum(self._index.n_with(form) for form in forms_of(stem)), n_chunks)
            self._rarities[stem] = math.log1p((n_chunks - n_with + 0.5) / (n_with + 0.5))
        return self._rarities[stem]

    def search(self, query: str, k: int = N_SEARCHED) -> list[Chunk]:
        """At most `k` chunks that share a term with the query, best first."""
        return [self.chunks[i] for i in self._index.top(query, k)]

    def candidates(self, record: Record) -> list[Chunk]:
        """The distinct chunks of the record's passages and named pages or, without any, those of a search.

        Rebuilt on every call; keeping them for a full data set would exhaust memory.
        """
        found: list[Chunk] = []
        for passage in record.passages:
            found += chunk_passage(passage, self.max_words)
        for title in record.page_titles:
            found += self.by_title.get(title, [])
        return list(dict.fromkeys(found or self.search(record.query)))
