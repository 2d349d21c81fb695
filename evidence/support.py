"""Records -> evidence: chunks, and verified support."""

import functools
from dataclasses import dataclass, field

from evidence.paraphrase import answer_parts, asked_stems, bare_title, may_refute, share_said, stems, unstated
from evidence.records import Record
from evidence.retrieval import BM25
from utils.schema import is_label_answer
from utils.text import STOP_WORDS, holds_words, normalize_answer, pack_sentences, padded_words, usable_aliases

_N_SEARCHED = 40
# Shares of the question's words that a chunk with the answer must say to be its support: where the source marks the passage, and where not.
_SAID_BY_GOLD = 0.5
_SAID_BY_OTHERS = 0.6
_SAID_OF_CLAIM = 0.34


@dataclass(frozen=True)
class Chunk:
    """Consecutive sentences of one page. `lines`: their sentence numbers on the page."""

    title: str
    text: str
    lines: frozenset[int] = field(compare=False)
    is_gold: bool = field(default=False, compare=False)

    @property
    def full_text(self) -> str:
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
        return [token for token in self.full_words.split() if token not in STOP_WORDS]

    @property
    def stems(self) -> frozenset[str]:
        return stems(self.full_text)


@dataclass(frozen=True)
class Support:
    """What makes a record answerable: sets of chunks, each sufficient."""

    record: Record
    aliases: tuple[str, ...]
    sets: tuple[tuple[Chunk, ...], ...]
    rule: str

    @functools.cached_property
    def needles(self) -> list[str]:
        """The accepted answers as `padded_words`, to look up with `holds_words`."""
        return [padded_words(alias) for alias in self.aliases]

    @functools.cached_property
    def parts(self) -> frozenset[str]:
        """Stems by which a chunk may hold an answer in another form; none for yes/no and label answers."""
        return (
            frozenset()
            if is_label_answer((*self.aliases, "")[0])
            else answer_parts(list(self.aliases), self.record.question)
        )

    @functools.cached_property
    def asked(self) -> frozenset[str]:
        return asked_stems(self.record.query)

    @property
    def pages(self) -> frozenset[str]:
        """Titles of the pages that support the answer or, for an unanswerable record, are its topic."""
        titles = {chunk.title for chunks in self.sets for chunk in chunks}
        return frozenset(titles | {title for pairs in self.record.gold_sets for title, _ in pairs})


def chunk_page(title: str, sentences: list[str], max_words: int, is_gold: bool = False) -> list[Chunk]:
    """Sentence-bounded chunks of a page; a sentence of more than `max_words` stands alone, whole."""
    runs = pack_sentences(sentences, max_words)
    return [Chunk(title, " ".join(sentences[i] for i in run), frozenset(run), is_gold) for run in runs]


class PagePool:
    """All pages of the build, in chunks, with a BM25 index over titles and texts."""

    def __init__(self, pages: dict[str, list[str]], max_words: int):
        self.max_words = max_words
        self.by_title = {title: chunk_page(title, sentences, max_words) for title, sentences in pages.items()}
        self.chunks = [chunk for chunks in self.by_title.values() for chunk in chunks]
        self._index = BM25(chunk.terms for chunk in self.chunks)

    def search(self, query: str, k: int = _N_SEARCHED) -> list[Chunk]:
        return [self.chunks[i] for i in self._index.top(query, k)]

    def candidates(self, record: Record) -> list[Chunk]:
        """The chunks of the record's passages and of the pages that it names; if there are none, those that a search finds.

        They are made anew at each call: those of all records of a full data set would fill the memory.
        """
        found = [
            c
            for p in record.passages
            for c in chunk_page(p.title, list(p.sentences), self.max_words, p.is_gold)
        ]
        found += [chunk for title in record.page_titles for chunk in self.by_title.get(title, [])]
        return list(dict.fromkeys(found or self.search(record.query)))


def _is_support(chunk: Chunk, record: Record, asked: frozenset[str]) -> bool:
    """Whether a chunk that holds the answer is about the question's subject.

    Where the source tells its names: the chunk has one, and is the page of the subject or of the answer. Else it says a share of the question.
    """
    if record.subject:
        is_own_page = (
            chunk.is_gold
            or chunk.title in record.page_titles
            or same_name(chunk.title, (*record.subject, *record.answers))
        )
        says_relation = not record.cues or bool(record.cues & chunk.stems)
        return (
            is_own_page
            and says_relation
            and holds_words(chunk.full_words, [padded_words(name) for name in record.subject])
        )
    if chunk.is_gold and stems(bare_title(chunk.title)) <= stems(record.question):
        return True
    return share_said(asked, chunk.stems) >= (_SAID_BY_GOLD if chunk.is_gold else _SAID_BY_OTHERS)


def same_name(title: str, names: tuple[str, ...]) -> bool:
    return normalize_answer(bare_title(title)) in {normalize_answer(bare_title(name)) for name in names}


def _gold_sets(record: Record, candidates: list[Chunk]) -> list[tuple[Chunk, ...]]:
    """Annotated (title, line) sets as sets of chunks; a set with a line that is in no chunk is left out."""
    by_line = {(chunk.title, line): chunk for chunk in candidates for line in chunk.lines}
    sets = []
    for pairs in record.gold_sets:
        chunks = tuple(dict.fromkeys(by_line[pair] for pair in pairs if pair in by_line))
        if all(pair in by_line for pair in pairs) and chunks and chunks not in sets:
            sets.append(chunks)
    return sorted(sets, key=len)


def _stating_sets(record: Record, verdict: str, sets: list[tuple[Chunk, ...]]) -> list[tuple[Chunk, ...]]:
    """Of a claim's evidence sets those that say most of it, best first; sets that cannot bear the verdict are left out."""
    claim = record.query
    wanted = stems(record.query)
    asked = asked_stems(record.query)
    said = {chunks: frozenset().union(*(chunk.stems for chunk in chunks)) for chunks in sets}
    if verdict == "supported":
        sets = [
            chunks
            for chunks in sets
            if not unstated(claim, said[chunks]) and share_said(asked, said[chunks]) >= _SAID_OF_CLAIM
        ]
    else:
        sets = [chunks for chunks in sets if may_refute(claim, said[chunks])]
    shares = [share_said(wanted, said[chunks]) for chunks in sets]
    ranked = sorted(range(len(sets)), key=lambda i: (-shares[i], len(sets[i]), i))
    return [sets[i] for i in ranked if shares[i] == shares[ranked[0]]]


def _needs_gold(answer: str) -> bool:
    """Answers that stand in many texts by chance: yes/no and verdicts, one letter, numbers below 100."""
    return is_label_answer(answer) or len(answer) < 2 or (answer.isdigit() and len(answer) < 3)


def find_support(record: Record, pool: PagePool) -> Support | str:
    """The record with its verified support, or the reason why it is dropped.

    Support is gold annotation, or an accepted answer as a token sequence in a chunk that also names the subject.
    """
    candidates = pool.candidates(record)
    if record.doubt or not candidates:
        return record.doubt or "no evidence found"
    aliases = usable_aliases(list(record.answers))
    if not record.answerable:
        return Support(record, tuple(aliases), (), "unanswerable in the source")
    if not aliases or len(aliases[0]) > 120:
        return "answer longer than 120 characters"
    if record.gold_sets:
        sets = _gold_sets(record, candidates)
        rule = "gold annotation"
        if not sets:
            return "gold evidence not among the pages"
        if "claim" in record.metadata and not (sets := _stating_sets(record, aliases[0], sets)):
            return "gold evidence says too little of the claim"
    else:
        found = _chunk_with_answer(record, candidates, aliases)
        if isinstance(found, str):
            return found
        # The canonical answer is one that stands in the support: accepted answers need not be forms of one another.
        held = [alias for alias in aliases if holds_words(found.words, [padded_words(alias)])]
        aliases = held[:1] + [alias for alias in aliases if alias != held[0]]
        sets = [(found,)]
        rule = "answer and subject in one chunk"
    return Support(record, tuple(aliases), tuple(sets), rule)


def _chunk_with_answer(record: Record, candidates: list[Chunk], aliases: list[str]) -> Chunk | str:
    """The chunk that holds the answer, is about the subject and says most of the question; or the reason why there is none.

    Others with answer and subject may say something else about both: they are neither support nor negatives.
    """
    if is_label_answer(aliases[0]):
        return "yes/no answer without gold evidence"
    if not answer_parts(aliases, record.question):
        return "the question holds its answer"
    asked = asked_stems(record.query)
    needles = [padded_words(alias) for alias in aliases]
    weak = _needs_gold(aliases[0])
    found = [
        c
        for c in candidates
        if holds_words(c.words, needles) and (c.is_gold or not weak) and _is_support(c, record, asked)
    ]
    if not found:
        return "answer not verified in any chunk"
    scores = BM25([chunk.terms for chunk in found]).scores(record.query)
    return found[
        min(
            range(len(found)),
            key=lambda i: (not found[i].is_gold, -share_said(asked, found[i].stems), -scores[i], i),
        )
    ]
