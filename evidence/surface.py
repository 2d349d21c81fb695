"""The surface of a sample: words, names, titles, positions and lengths, without reading for meaning.

A sample that these give away teaches a model nothing about evidence (`evidence/shortcuts.py`). Question and
chunks are read, never the gold: answer, support, negatives and `answerable` stay unseen.
"""

import re
from collections import Counter
from typing import NamedTuple

from evidence.paraphrase import bare_title, denies, is_named, names_in, share_said, stem, stems, unstated
from evidence.queries import claim_of, query_of
from utils.text import chunk_text, tokenize

# A question that starts with one of these asks for yes or no.
_ASKS_YES_NO = frozenset(
    "is are was were do does did has have had can could will would should am may might must".split()
)
_CHOICE = re.compile(r"\bor\b", re.IGNORECASE)


class ChunkSurface(NamedTuple):
    """One chunk against the query. Shares are 0-1 and of the query's stems, names or numbers."""

    # 1 if the words of the bare title are a run of words of the query.
    is_named: float
    # Share of the bare title's stems that the query has.
    title_share: float
    # Number and share of the query's stems that title and text have.
    overlap: float
    share: float
    # Share of the query's stems that no other chunk of the sample has.
    only_here: float
    names_share: float
    numbers_share: float
    # Names and numbers of the query that are not in title or text, and negations that only the query has.
    n_unstated: float
    is_unstated_negation: float
    position: float
    n_words: float
    # Chunks of the sample with the same title.
    n_same_title: float


class QuerySurface(NamedTuple):
    """The question or claim itself."""

    n_stems: float
    n_names: float
    n_numbers: float
    denies: float
    is_claim: float
    is_yes_no: float


class Surface(NamedTuple):
    """A sample as its surface: the query, and its chunks in order."""

    query: QuerySurface
    chunks: list[ChunkSurface]


# --- the query


def _share_in(parts: frozenset[str], said: frozenset[str]) -> float:
    """Share of the parts that are said; 1 without any part, since nothing is missing."""
    return len(parts & said) / len(parts) if parts else 1.0


def _name_stems(query: str) -> frozenset[str]:
    return frozenset().union(*(stems(name) for name in names_in(query)))


def _number_stems(query: str) -> frozenset[str]:
    return frozenset(stem(token) for token in tokenize(query) if token[0].isdigit())


def asks_verdict(sample: dict) -> bool:
    """True for a claim, and for a question that only yes or no can answer."""
    if claim_of(sample):
        return True
    words = tokenize(sample["question"])
    # "Is it older or younger?" asks for one of two things.
    return bool(words) and words[0] in _ASKS_YES_NO and not _CHOICE.search(sample["question"])


def _query_surface(sample: dict) -> QuerySurface:
    query = query_of(sample)
    is_claim = bool(claim_of(sample))
    return QuerySurface(
        n_stems=float(len(stems(query))),
        n_names=float(len(names_in(query))),
        n_numbers=float(len(_number_stems(query))),
        denies=float(denies(query)),
        is_claim=float(is_claim),
        is_yes_no=float(not is_claim and asks_verdict(sample)),
    )


# --- the chunks


def surface_of(sample: dict) -> Surface:
    """The surface of one sample."""
    query = query_of(sample)
    asked = stems(query)
    names = _name_stems(query)
    numbers = _number_stems(query)
    query_denies = denies(query)

    chunks = sample["evidence_chunks"]
    texts = [chunk_text(chunk) for chunk in chunks]
    said = [stems(text) for text in texts]
    titles = [chunk["title"] for chunk in chunks]

    # Asked stem -> number of chunks that have it.
    n_with = Counter(part for words in said for part in asked & words)

    found = []
    for i, chunk in enumerate(chunks):
        only_here = frozenset(part for part in asked & said[i] if n_with[part] == 1)
        only_query_denies = query_denies and not denies(texts[i])
        found.append(
            ChunkSurface(
                is_named=float(is_named(chunk["title"], query)),
                title_share=share_said(stems(bare_title(chunk["title"])), asked),
                overlap=float(len(asked & said[i])),
                share=share_said(asked, said[i]),
                only_here=share_said(asked, only_here),
                names_share=_share_in(names, said[i]),
                numbers_share=_share_in(numbers, said[i]),
                n_unstated=float(len(unstated(query, said[i]))),
                is_unstated_negation=float(only_query_denies),
                position=float(i),
                n_words=float(len(chunk["text"].split())),
                n_same_title=float(titles.count(chunk["title"])),
            )
        )
    return Surface(_query_surface(sample), found)


# --- what a rule reads from the surface


def nearest_chunk(surface: Surface) -> int:
    """The chunk with the largest word overlap: of equals one whose title is named, then the first."""
    keys = [(chunk.overlap, chunk.is_named, -i) for i, chunk in enumerate(surface.chunks)]
    return keys.index(max(keys))


def nearest_named_chunk(surface: Surface) -> int:
    """The chunk with the largest word overlap among those whose title is named, or among all if none is."""
    keys = [(chunk.is_named, chunk.overlap, -i) for i, chunk in enumerate(surface.chunks)]
    return keys.index(max(keys))


def says_everything(chunk: ChunkSurface) -> bool:
    """True if no name, number or negation of the query is missing from the chunk."""
    return not chunk.n_unstated and not chunk.is_unstated_negation
