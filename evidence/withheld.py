"""Evidence that is no negative, whatever its words say: what a source marks, in other chunks too.

A negative that repeats a sentence of the support, or a passage that somebody marked, would make a correct
citation count as wrong, and a twin answerable. Windows over one text, and copies of a page, share sentences.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

from evidence.annotation import annotated_sets
from evidence.chunks import Chunk, PagePool, cut_all
from evidence.stated import states_answer
from evidence.support import Support
from utils.schema import is_label_answer
from utils.text import padded_words, plain_question, split_sentences

# Shorter sentences ("It was not.") stand in texts about anything.
_MIN_WORDS = 4


# Cached: many questions find the same chunks.
@functools.lru_cache(1 << 14)
def _sentences(text: str) -> frozenset[str]:
    """The words of each sentence of a text, without the short ones."""
    sentences = [padded_words(sentence) for sentence in split_sentences(text)]
    return frozenset(words for words in sentences if len(words.split()) >= _MIN_WORDS)


@dataclass(frozen=True)
class Withheld:
    """Chunks that are no negatives, and the sentences of these, which no negative may have."""

    chunks: frozenset[Chunk] = frozenset()
    sentences: frozenset[str] = frozenset()

    def holds(self, chunk: Chunk) -> bool:
        if chunk in self.chunks:
            return True
        return not self.sentences.isdisjoint(_sentences(chunk.text))


NOTHING = Withheld()


def withhold(chunks: Iterable[Chunk]) -> Withheld:
    chunks = frozenset(chunks)
    return Withheld(chunks, frozenset().union(*(_sentences(chunk.text) for chunk in chunks)))


def marked_evidence(support: Support, pool: PagePool) -> set[Chunk]:
    """What supports a record, and what its source marks as supporting it although the checks left it out.

    Of a marked passage that states the answer, the chunks that do not state it may be negatives. Of a claim
    it is the support alone: negatives.py knows what else may judge one.
    """
    record = support.record
    found = {chunk for chunks in support.sets for chunk in chunks}
    is_marked = bool(record.gold_sets) or any(passage.is_gold for passage in record.passages)
    if not record.answerable or record.is_claim or not is_marked:
        return found

    candidates = cut_all(pool.candidates(record), support.max_words or pool.max_words)
    found.update(chunk for chunks in annotated_sets(record, candidates) for chunk in chunks)
    if is_label_answer(support.aliases[0]):
        return found
    by_page: dict[str, list[Chunk]] = {}
    for chunk in candidates:
        if chunk.is_gold:
            by_page.setdefault(chunk.page, []).append(chunk)
    for chunks in by_page.values():
        if not any(states_answer(chunk.text, list(support.aliases)) for chunk in chunks):
            found.update(chunks)
    return found


def asked_alike(support: Support, by_question: dict[str, Withheld]) -> Withheld:
    """The part of `evidence_by_question` that is about the question of a support."""
    return by_question.get(plain_question(support.record.query), NOTHING)


def evidence_by_question(supports: list[Support], pool: PagePool) -> dict[str, Withheld]:
    """Question -> the marked evidence of all rows that ask it, of the user's own rows.

    The same question may be asked of several documents ("When was the company founded?"): what answers it in
    one row answers it in the others.
    """
    chunks: dict[str, set[Chunk]] = {}
    for support in supports:
        if not support.record.titles_name_pages:
            asked = plain_question(support.record.query)
            chunks.setdefault(asked, set()).update(marked_evidence(support, pool))
    return {question: withhold(found) for question, found in chunks.items()}
