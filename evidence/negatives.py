"""Hard negatives of a sample: chunks near the question that are verified not to answer it, best first.

"Verified" is cautious: whatever may answer the question in other words is rejected. A negative that answers
would make a correct citation count as wrong, and a twin answerable.
"""

import random
import re
from collections.abc import Iterable
from dataclasses import dataclass

from evidence.chunks import N_SEARCHED, Chunk, PagePool, cut_all
from evidence.claims import is_undecided
from evidence.paraphrase import says_most, share_said, stem, stems
from evidence.records import Passage
from evidence.retrieval import BM25
from evidence.spellings import abbreviations_in, holds_spelling
from evidence.support import Support, same_name
from evidence.withheld import NOTHING, Withheld, marked_evidence, withhold
from utils.schema import is_label_answer
from utils.text import content_words, holds_words, padded_words

# Chunks that are looked at for a claim's predicate: most of them have a word or two of it.
_N_PREDICATE = 100

# With fewer negatives than this, a search goes deeper: where all passages of the pool support some question,
# most of the nearest ones are those of another split.
_N_FEW = 8
_N_DEEP = 1000


@dataclass(frozen=True)
class _Checks:
    """The tests that a chunk must pass to be a negative of one support, with their word lists prepared."""

    support: Support
    # What its source marks, and what is marked for other rows with the same question.
    withheld: tuple[Withheld, Withheld]
    banned_pages: frozenset[str]
    # Yes/no answers and verdicts occur in any text, so for them a page decides instead of the words.
    by_page_only: bool
    own_pages: frozenset[str]
    # Keys of the row's passages, and of those among them that the source marks or the support is of. The pool
    # has each passage under the key of its text, the row perhaps under its title.
    row_passages: frozenset[str]
    own_passages: frozenset[str]
    # An annotated claim; whether it names its page, so that a text about something else can be recognized.
    is_claim: bool
    names_subject: bool
    names: tuple[str, ...]
    subject: tuple[str, ...]
    abbreviations: re.Pattern | None

    def may_answer(self, chunk: Chunk) -> bool:
        """Whether the chunk may answer the question in other words than the accepted answers."""
        record = self.support.record
        is_on_named_page = chunk.title in record.page_titles
        if self.support.parts & chunk.stems or says_most(self.support.asked, chunk.stems):
            return True

        # A page of the same name may be about the subject's namesake: no safe support, no safe negative.
        is_homonym = bool(record.subject) and not is_on_named_page and same_name(chunk.title, record.subject)
        if is_homonym:
            return True
        if record.cues & chunk.stems and holds_words(chunk.full_words, list(self.subject)):
            return True

        # The annotators of an unanswerable record read its pages and found no answer there.
        is_read = not record.answerable and is_on_named_page
        return not is_read and holds_words(chunk.full_words, list(self.names))

    def may_judge(self, chunk: Chunk) -> bool:
        """Whether the chunk may support or refute the record's claim."""
        record = self.support.record
        if chunk.leak_pages & self.own_pages:
            return not is_undecided(record, chunk)
        # Other pages that name the claim's page may prove the verdict in their own words.
        if holds_words(chunk.full_words, list(self.names)):
            return True
        # A text that never names the subject says nothing about it, however many of the other words it has.
        return not self.names_subject and says_most(self.support.asked, chunk.stems)

    def is_on_own_page(self, chunk: Chunk) -> bool:
        """Whether the chunk is on a page that supports the answer."""
        if self.support.record.titles_name_pages:
            return bool(chunk.leak_pages & self.own_pages)
        return chunk.page in self.own_passages

    def is_of_another_row(self, chunk: Chunk) -> bool:
        """Whether a chunk may be the support of the same question in another row.

        Nothing tells where a claim or a yes/no question is answered but the passages that its row has.
        """
        record = self.support.record
        is_told = record.answerable or record.titles_name_pages or not record.passages
        return self.by_page_only and not is_told and chunk.page not in self.row_passages

    def is_withheld(self, chunk: Chunk) -> bool:
        return any(evidence.holds(chunk) for evidence in self.withheld)

    def is_negative(self, chunk: Chunk) -> bool:
        if chunk.leak_pages & self.banned_pages:
            return False
        # The topic of an unanswerable question: its annotators found no answer there.
        if chunk.is_gold and not self.support.record.answerable:
            return True
        if self.is_claim:
            return not self.is_withheld(chunk) and not self.may_judge(chunk)
        if self.is_of_another_row(chunk):
            return False
        if self.by_page_only and self.is_on_own_page(chunk):
            return False
        if not self.by_page_only and holds_words(chunk.full_words, self.support.needles):
            return False
        if self.abbreviations and self.abbreviations.search(chunk.full_text):
            return False
        if self.is_withheld(chunk) or self.may_answer(chunk):
            return False
        # The dearest check comes last.
        return self.by_page_only or not holds_spelling(chunk.full_text, self.support.spellings)


def _keys(passages: Iterable[Passage]) -> frozenset[str]:
    return frozenset(key for passage in passages for key in (passage.page, passage.text_key))


def _checks_of(
    support: Support, pool: PagePool, banned_pages: frozenset[str], asked_alike: Withheld
) -> _Checks:
    record = support.record
    names = tuple(padded_words(name) for name in record.names if content_words(name))
    subject = tuple(padded_words(name) for name in record.subject) if record.cues else ()
    is_claim = record.is_claim and record.answerable
    is_label = bool(support.aliases) and is_label_answer(support.aliases[0])
    gold_pages = {chunk.page for chunks in support.sets for chunk in chunks}
    own = [passage for passage in record.passages if passage.is_gold or passage.page in gold_pages]
    return _Checks(
        support=support,
        withheld=(withhold(marked_evidence(support, pool)), asked_alike),
        banned_pages=banned_pages,
        by_page_only=is_label,
        own_pages=support.pages if record.answerable else frozenset(),
        row_passages=_keys(record.passages),
        own_passages=_keys(own) | gold_pages,
        is_claim=is_claim,
        names_subject=holds_words(padded_words(record.query), list(names)),
        names=names,
        subject=subject,
        abbreviations=None if is_label else abbreviations_in(record.answers),
    )


def _alternate(first: list[Chunk], second: list[Chunk]) -> list[Chunk]:
    """The chunks of two lists in turn, the rest of the longer one at the end."""
    merged: list[Chunk] = []
    for i in range(max(len(first), len(second))):
        merged += [*first[i : i + 1], *second[i : i + 1]]
    return merged


def _searched(support: Support, pool: PagePool, max_words: int, n_found: int = N_SEARCHED) -> list[Chunk]:
    """Chunks of the whole pool near the query, best first: of each, the piece that says most of the query."""
    record = support.record
    found = pool.search(record.query, n_found)
    is_claim = record.is_claim and record.answerable
    if is_claim:
        # What is said of other subjects: the words of the claim without its own subject.
        subject = frozenset().union(*(stems(name) for name in record.names))
        predicate = [word for word in content_words(record.query) if stem(word) not in subject]
        found = _alternate(pool.search(" ".join(predicate), _N_PREDICATE), found)

    pieces = []
    for chunk in found:
        shares = [(share_said(support.asked, piece.stems), piece) for piece in chunk.cut(max_words)]
        pieces.append(max(shares, key=lambda pair: pair[0]))
    if is_claim:
        # By shared words, as the rule counts that a claim's evidence must not be told by (docs/data.md).
        pieces.sort(key=lambda pair: -pair[0])
    return [piece for _, piece in pieces]


def ranked_negatives(
    support: Support,
    pool: PagePool,
    banned_pages: frozenset[str],
    rng: random.Random,
    asked_alike: Withheld = NOTHING,
) -> list[Chunk]:
    """Verified negatives, best first, each text once.

    They come alternately from the record's own candidates and from a search of the whole pool, and never from
    `banned_pages`: those support another split. `asked_alike`: evidence of other rows with the same question.
    """
    record = support.record
    checks = _checks_of(support, pool, banned_pages, asked_alike)

    size = support.max_words or pool.max_words
    related = [chunk for title in record.related_titles for chunk in pool.by_title[title]]
    candidates = cut_all(pool.candidates(record) + related, size)
    order = BM25([chunk.terms for chunk in candidates]).top(record.query, len(candidates))
    # Candidates that share no term with the query have no rank; a fixed order would favor the first page.
    rest = sorted(set(range(len(candidates))) - set(order))
    rng.shuffle(rest)
    near = [candidates[i] for i in order + rest if checks.is_negative(candidates[i])]
    searched = [chunk for chunk in _searched(support, pool, size) if checks.is_negative(chunk)]
    if len(near) + len(searched) < _N_FEW:
        deep = _searched(support, pool, size, _N_DEEP)
        searched = [chunk for chunk in deep if checks.is_negative(chunk)]

    seen = {chunk.words for chunks in support.sets for chunk in chunks}
    distinct = []
    for chunk in _alternate(near, searched):
        if chunk.words not in seen:
            seen.add(chunk.words)
            distinct.append(chunk)
    return distinct
