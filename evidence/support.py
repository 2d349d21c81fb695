"""Records -> verified support: the sets of chunks that each suffice to answer, or the reason to drop the row.

Support is gold annotation, or an accepted answer found as a token sequence in a chunk about the subject.
Where nothing is found, none is invented: the row is dropped and the reason counted.
"""

import functools
from dataclasses import dataclass

from evidence.annotation import annotated_sets, marked_sets, stating_sets, with_answer
from evidence.chunks import Chunk, PagePool, cut_all
from evidence.claims import claim_words
from evidence.paraphrase import answer_parts, asked_stems, bare_title, share_said, stems
from evidence.records import Record
from evidence.retrieval import BM25
from evidence.spellings import spellings_of
from evidence.stated import states_answer
from evidence.unmarked import best_statement
from utils.completions import MAX_ANSWER_CHARS
from utils.schema import is_label_answer, verdict_class
from utils.text import holds_words, normalize_answer, padded_words, tokenize, usable_aliases

# Share of the question's words that a passage must contain which the source marks as gold. For others there
# is a stricter rule (unmarked.py).
_SAID_BY_GOLD = 0.5

_TOO_LONG = f"answer longer than {MAX_ANSWER_CHARS} characters"


@dataclass(frozen=True)
class Support:
    """A record with what makes it answerable: sets of chunks, each sufficient (none if unanswerable).

    `aliases`: the accepted answers, the canonical one first. `rule`: how the support was found.
    `max_words`: most words per chunk of the sample; None: the build's own number.
    """

    record: Record
    aliases: tuple[str, ...]
    sets: tuple[tuple[Chunk, ...], ...]
    rule: str
    max_words: int | None = None

    @functools.cached_property
    def needles(self) -> list[str]:
        """The accepted answers as `padded_words`, to look up with `holds_words`."""
        return [padded_words(alias) for alias in self.aliases]

    @functools.cached_property
    def spellings(self) -> list[str]:
        """The accepted answers in normal form, to look up with `holds_spelling`."""
        return spellings_of(self.aliases)

    @functools.cached_property
    def parts(self) -> frozenset[str]:
        """Stems by which a chunk may contain an answer in another form; none for yes/no and label answers."""
        if self.aliases and is_label_answer(self.aliases[0]):
            return frozenset()
        return answer_parts(list(self.aliases), self.record.question)

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        """Stems of what the record asks about."""
        return asked_stems(self.record.query)

    @property
    def pages(self) -> frozenset[str]:
        """The `leak_pages` of what supports the answer or, for an unanswerable record, is its topic.

        Rows that share one of them belong together, and no negative of another split may come from them.
        """
        pages = {page for pairs in self.record.gold_sets for page, _ in pairs}
        if not self.record.answerable:
            pages |= {passage.leak_page for passage in self.record.passages if passage.is_gold}
        return frozenset().union(pages, *(chunk.leak_pages for chunks in self.sets for chunk in chunks))


def same_name(title: str, names: tuple[str, ...]) -> bool:
    """True when a title and one of the names are equal but for what tells pages of one name apart."""
    return normalize_answer(bare_title(title)) in {normalize_answer(bare_title(name)) for name in names}


def _names_subject(chunk: Chunk, record: Record) -> bool:
    """Whether a chunk names the record's subject and relation, on the subject's or the answer's page."""
    is_own_page = (
        chunk.is_gold
        or chunk.title in record.page_titles
        or same_name(chunk.title, (*record.subject, *record.answers))
    )
    has_relation = not record.cues or bool(record.cues & chunk.stems)
    if not is_own_page or not has_relation:
        return False
    return holds_words(chunk.full_words, [padded_words(name) for name in record.subject])


def _is_about_question(chunk: Chunk, record: Record, asked: frozenset[str]) -> bool:
    """Whether a chunk that contains the answer, marked or on a named page, is about the question's subject.

    Where the source names the subject, the chunk must name it. Otherwise it must contain a share of the
    question's words, or be on a page whose title the question contains.
    """
    if record.subject:
        return _names_subject(chunk, record)
    if stems(bare_title(chunk.title)) <= stems(record.question):
        return True
    return share_said(asked, chunk.stems) >= _SAID_BY_GOLD


def _needs_gold(answer: str) -> bool:
    """True for answers that occur in texts by chance: yes/no and verdicts, one letter, numbers below 100."""
    return is_label_answer(answer) or len(answer) < 2 or (answer.isdigit() and len(answer) < 3)


def find_support(record: Record, pool: PagePool) -> Support | str:
    """The record with its verified support, or the reason to drop it."""
    candidates = pool.candidates(record)
    if record.doubt or not candidates:
        return record.doubt or "no evidence found"

    aliases = usable_aliases(list(record.answers))
    if not record.answerable:
        return Support(record, tuple(aliases), (), "unanswerable in the source")
    # Punctuation alone is found in no text.
    if not any(tokenize(alias) for alias in aliases):
        return "no usable answer"
    if {verdict_class(alias) for alias in record.answers} >= {"supported", "refuted"}:
        return "accepted answers contradict each other"
    if len(aliases[0]) > MAX_ANSWER_CHARS:
        return _TOO_LONG

    if record.gold_sets:
        return _annotated_support(record, candidates, aliases, pool.max_words)
    if is_label_answer(aliases[0]):
        return _marked_support(record, candidates, aliases)
    return _found_support(record, candidates, aliases, pool)


def _annotated_support(
    record: Record, candidates: list[Chunk], aliases: list[str], max_words: int
) -> Support | str:
    """Support from the source's annotation, or the reason why it cannot be used."""
    size = claim_words(record, candidates, max_words) if record.is_claim else max_words
    sets = annotated_sets(record, cut_all(candidates, size))
    if not sets:
        return "gold evidence not among the pages"
    sets = with_answer(sets, aliases)
    if not sets:
        return "gold evidence does not contain the answer"
    if record.is_claim:
        sets = stating_sets(record.query, sets)
        if not sets:
            return "gold evidence covers too little of the claim"
    return Support(record, tuple(aliases), tuple(sets), "gold annotation", size)


def _marked_support(record: Record, candidates: list[Chunk], aliases: list[str]) -> Support | str:
    """Support of a yes/no answer from the passages that the source marks, or the reason for none."""
    if not any(chunk.is_gold for chunk in candidates):
        return "yes/no answer without gold evidence"
    asked = asked_stems(record.query)
    sets = marked_sets(candidates, asked, lambda chunk: _is_about_question(chunk, record, asked))
    if not sets:
        return "no part of the marked passage is about the yes/no question"
    return Support(record, tuple(aliases), tuple(sets), "passage marked by the source")


def _found_support(
    record: Record, candidates: list[Chunk], aliases: list[str], pool: PagePool
) -> Support | str:
    """Support from a chunk that contains the answer and names the subject, or the reason for none."""
    if not answer_parts(aliases, record.question):
        return "answer appears in the question"
    found = _nearest_known(record, candidates, aliases)
    rule = "answer and subject in one chunk"
    # Where the source names the subject, no other evidence counts.
    if not found and not record.subject and not _needs_gold(aliases[0]):
        found = best_statement(record.query, aliases, candidates, pool.rarity)
        rule = "answer in a sentence that says what is asked"
    if not found:
        return "answer not verified in any chunk"
    # The canonical answer becomes one that the support contains: accepted answers need not be variants.
    held = [alias for alias in aliases if states_answer(found.text, [alias])]
    # The support may contain a long form alone, which no completion may give.
    held = [alias for alias in held if len(alias) <= MAX_ANSWER_CHARS]
    if not held:
        return _TOO_LONG
    ordered = held[:1] + [alias for alias in aliases if alias != held[0]]
    return Support(record, tuple(ordered), ((found,),), rule)


def _nearest_known(record: Record, candidates: list[Chunk], aliases: list[str]) -> Chunk | None:
    """The chunk that contains the answer and is nearest to the question, marked or about a named subject.

    Other chunks with answer and subject may say something else about both (a birthplace "supported" by a
    scholarship of that town), so they become neither support nor negatives.
    """
    asked = asked_stems(record.query)
    may_be_unmarked = bool(record.subject) and not _needs_gold(aliases[0])
    found = []
    for chunk in candidates:
        is_usable = chunk.is_gold or may_be_unmarked
        if is_usable and states_answer(chunk.text, aliases) and _is_about_question(chunk, record, asked):
            found.append(chunk)
    if not found:
        return None
    scores = BM25([chunk.terms for chunk in found]).scores(record.query)

    def rank(i: int) -> tuple:
        """Marked passages first, then the share of the question's words, the BM25 score, and file order."""
        return not found[i].is_gold, -share_said(asked, found[i].stems), -scores[i], i

    return found[min(range(len(found)), key=rank)]
