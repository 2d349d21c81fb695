"""Records -> evidence: chunks, verified support, verified negatives, and unanswerable twins."""

import functools
import random
from dataclasses import dataclass, field

from utils.records import Record
from utils.retrieval import BM25
from utils.schema import is_label_answer
from utils.text import REFUSAL, content_words, holds_words, pack_sentences, padded_words, usable_aliases

MAX_SUPPORT_SETS = 2
_N_SEARCHED = 40


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

    @functools.cached_property
    def words(self) -> str:
        """`padded_words` of the text."""
        return padded_words(self.text)

    @functools.cached_property
    def full_words(self) -> str:
        """`padded_words` of title and text."""
        return padded_words(self.title)[:-1] + self.words


@dataclass(frozen=True)
class Support:
    """What makes a record answerable: sets of chunks, each sufficient; and the other chunks that came with it."""

    record: Record
    aliases: tuple[str, ...]
    sets: tuple[tuple[Chunk, ...], ...]
    candidates: tuple[Chunk, ...]
    rule: str

    @functools.cached_property
    def needles(self) -> list[str]:
        """The accepted answers as `padded_words`, to look up with `holds_words`."""
        return [padded_words(alias) for alias in self.aliases]

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
        self._index = BM25([chunk.full_text for chunk in self.chunks]) if self.chunks else None

    def search(self, query: str, k: int = _N_SEARCHED) -> list[Chunk]:
        return [self.chunks[i] for i in self._index.top(query, k)] if self._index else []


def _names_subject(chunk: Chunk, record: Record) -> bool:
    """The chunk names the subject; where the source tells none, it shares most content words of the question."""
    if record.subject:
        return holds_words(chunk.full_words, [padded_words(name) for name in record.subject])
    wanted = set(content_words(record.question))
    return len(wanted.intersection(chunk.full_words.split())) >= 0.6 * len(wanted)


def _gold_sets(record: Record, candidates: list[Chunk]) -> list[tuple[Chunk, ...]]:
    """Annotated (title, line) sets as sets of chunks; a set with a line that is in no chunk is left out."""
    by_line = {(chunk.title, line): chunk for chunk in candidates for line in chunk.lines}
    sets = []
    for pairs in record.gold_sets:
        chunks = tuple(dict.fromkeys(by_line[pair] for pair in pairs if pair in by_line))
        if all(pair in by_line for pair in pairs) and chunks and chunks not in sets:
            sets.append(chunks)
    return sorted(sets, key=len)


def _needs_gold(answer: str) -> bool:
    """Answers that stand in many texts by chance: yes/no and verdicts, one letter, numbers below 100."""
    return is_label_answer(answer) or len(answer) < 2 or (answer.isdigit() and len(answer) < 3)


def find_support(record: Record, pool: PagePool) -> Support | str:
    """The record with its verified support, or the reason why it is dropped.

    Support is gold annotation, or an accepted answer as a token sequence in a chunk that also names the subject.
    """
    candidates = [c for p in record.passages for c in chunk_page(p.title, list(p.sentences), pool.max_words, p.is_gold)]
    candidates += [chunk for title in record.page_titles for chunk in pool.by_title.get(title, [])]
    if not candidates:
        candidates = pool.search(record.query)
    candidates = list(dict.fromkeys(candidates))
    if not candidates:
        return "no evidence found"
    aliases = usable_aliases(list(record.answers))
    if not record.answerable:
        return Support(record, tuple(aliases), (), tuple(candidates), "unanswerable in the source")
    if not aliases or len(aliases[0]) > 120:
        return "answer longer than 120 characters"
    if record.gold_sets:
        sets, rule = _gold_sets(record, candidates), "gold annotation"
        if not sets:
            return "gold evidence not among the pages"
    else:
        if is_label_answer(aliases[0]):
            return "yes/no answer without gold evidence"
        weak, needles = _needs_gold(aliases[0]), [padded_words(alias) for alias in aliases]
        found = [c for c in candidates if holds_words(c.words, needles) and (c.is_gold or (not weak and _names_subject(c, record)))]
        if not found:
            return "answer not verified in any chunk"
        # Chunks that merely hold answer and subject may say something else about both: only the one nearest to the question
        # counts, unless the source marks more as gold. The others are neither support nor negatives.
        scores = BM25([chunk.full_text for chunk in found]).scores(record.query)
        order = sorted(range(len(found)), key=lambda i: (not found[i].is_gold, -scores[i], i))
        sets = [(found[i],) for place, i in enumerate(order) if place == 0 or found[i].is_gold]
        rule = "answer and subject in one chunk"
    return Support(record, tuple(aliases), tuple(sets), tuple(candidates), rule)


def ranked_negatives(support: Support, pool: PagePool, banned_pages: frozenset[str], rng: random.Random) -> list[Chunk]:
    """Verified negatives, best first: alternately from the candidates and from BM25, none from a page that supports another split."""
    record, aliases = support.record, list(support.aliases)
    gold = {chunk for chunks in support.sets for chunk in chunks}
    by_page_only = bool(aliases) and is_label_answer(aliases[0])
    own_pages = support.pages if record.answerable else frozenset()

    def is_negative(chunk: Chunk) -> bool:
        if chunk in gold or chunk.title in banned_pages:
            return False
        return chunk.title not in own_pages if by_page_only else not holds_words(chunk.full_words, support.needles)

    candidates = support.candidates
    order = BM25([chunk.full_text for chunk in candidates]).top(record.query, len(candidates))
    rest = sorted(set(range(len(candidates))) - set(order))
    rng.shuffle(rest)
    near = [candidates[i] for i in order + rest if is_negative(candidates[i])]
    searched = [chunk for chunk in pool.search(record.query) if is_negative(chunk)]
    merged = [chunk for i in range(max(len(near), len(searched))) for chunk in (*near[i : i + 1], *searched[i : i + 1])]
    seen = {chunk.words for chunk in gold}
    distinct = []
    for chunk in merged:
        if chunk.words not in seen:
            seen.add(chunk.words)
            distinct.append(chunk)
    return distinct


def _mix_pages(ranked: list[Chunk], pages: frozenset[str], n_chunks: int, rng: random.Random) -> list[Chunk]:
    """The ranked negatives with some from the support's own pages first; their number is drawn per sample, so that a title that
    fits the question neither means support nor rules it out."""
    same_page = [chunk for chunk in ranked if chunk.title in pages]
    others = [chunk for chunk in ranked if chunk.title not in pages]
    n_first = rng.randint(0, min(len(same_page), n_chunks - 1))
    return same_page[:n_first] + others[: n_chunks - n_first] + same_page[n_first:] + others[n_chunks - n_first :]


def _layout(sample: dict, sets: list[tuple[Chunk, ...]], negatives: list[Chunk], rng: random.Random) -> dict:
    chunks = list(dict.fromkeys(chunk for chunks in sets for chunk in chunks)) + negatives
    rng.shuffle(chunks)
    place = {chunk: i for i, chunk in enumerate(chunks)}
    support_sets = [sorted(place[chunk] for chunk in chunks_of_set) for chunks_of_set in sets]
    spans = sorted({i for support_set in support_sets for i in support_set})
    return {
        **sample,
        "evidence_chunks": [{"title": chunk.title, "text": chunk.text} for chunk in chunks],
        "support_sets": support_sets,
        "support_spans": spans,
        "hard_negatives": [i for i in range(len(chunks)) if i not in spans],
    }


def build_sample(support: Support, ranked: list[Chunk], max_chunks: int, group: str, rng: random.Random) -> dict | str:
    """One sample in file layout from a support and its ranked negatives, or the reason why none could be built."""
    record, aliases = support.record, list(support.aliases)
    negatives = _mix_pages(ranked, support.pages, max_chunks, rng)
    sets: list[tuple[Chunk, ...]] = []
    for chunks in support.sets[:MAX_SUPPORT_SETS]:
        if len({c for s in (*sets, chunks) for c in s}) < max_chunks:
            sets.append(chunks)
    if record.answerable and not sets:
        return "support does not fit the chunk limit"
    n_support = len({chunk for chunks in sets for chunk in chunks})
    negatives = negatives[: max_chunks - n_support]
    if len(negatives) < min(2, max_chunks - n_support):
        return "fewer than two verified negatives"
    metadata = {**record.metadata, "official_split": record.official_split, "support_rule": support.rule}
    if not record.answerable:
        metadata["gold_aliases"] = aliases
    sample = {
        "id": record.id,
        "source": record.source,
        "question": record.question,
        "answer": aliases[0] if record.answerable else REFUSAL,
        "answer_aliases": aliases if record.answerable else [],
        "answerable": record.answerable,
        "group": group,
        "metadata": metadata,
    }
    laid_out = _layout(sample, sets, negatives, rng)
    fields = ("id", "source", "question", "evidence_chunks", "answer", "answer_aliases", "answerable", "support_sets", "support_spans", "hard_negatives")
    return {name: laid_out[name] for name in (*fields, "group", "metadata")}


def build_twin(support: Support, sample: dict, ranked: list[Chunk], rng: random.Random) -> dict | str:
    """The sample's question without its support: as many chunks, the answer in none of them.

    Of a multi-hop support set one hop may stay, when it does not hold the answer.
    """
    aliases, n_chunks = list(support.aliases), len(sample["evidence_chunks"])
    negatives = _mix_pages(ranked, support.pages, n_chunks, rng)
    kept: list[Chunk] = []
    shown = {(c["title"], c["text"]) for i, c in enumerate(sample["evidence_chunks"]) if i in sample["support_spans"]}
    hops = [chunk for chunk in support.sets[0] if (chunk.title, chunk.text) in shown]
    if len(hops) > 1 and rng.random() < 0.5:
        kept = [chunk for chunk in hops if is_label_answer(aliases[0]) or not holds_words(chunk.full_words, support.needles)][:1]
    # The negatives that the original shows come first, so that the twins differ in the support alone.
    texts = {c["text"] for c in sample["evidence_chunks"]}
    ordered = [c for c in negatives if c.text in texts] + [c for c in negatives if c.text not in texts]
    chunks = kept + ordered[: n_chunks - len(kept)]
    if len(chunks) < n_chunks:
        return "twin: too few negatives"
    twin = {
        **sample,
        "id": f"{sample['id']}:unanswerable",
        "answer": REFUSAL,
        "answer_aliases": [],
        "answerable": False,
        "metadata": {**sample["metadata"], "support_rule": "support removed", "gold_aliases": aliases, "twin_of": sample["id"]},
    }
    return _layout(twin, [], chunks, rng)
