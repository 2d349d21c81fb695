"""Support -> samples: verified negatives, answerable samples and their unanswerable twins."""

import random

from evidence.paraphrase import says_most
from evidence.retrieval import BM25
from evidence.support import Chunk, PagePool, Support, same_name
from utils.schema import is_label_answer
from utils.text import REFUSAL, content_words, holds_words, padded_words

MAX_SUPPORT_SETS = 2


def ranked_negatives(
    support: Support, pool: PagePool, banned_pages: frozenset[str], rng: random.Random
) -> list[Chunk]:
    """Verified negatives, best first: alternately from the candidates and from BM25, none from a page that supports another split."""
    record = support.record
    aliases = list(support.aliases)
    gold = {chunk for chunks in support.sets for chunk in chunks}
    by_page_only = bool(aliases) and is_label_answer(aliases[0])
    own_pages = support.pages if record.answerable else frozenset()
    names = [padded_words(name) for name in record.names if content_words(name)]
    subject = [padded_words(name) for name in record.subject] if record.cues else []

    def may_answer(chunk: Chunk) -> bool:
        """It may say an answer in other words."""
        is_read = not record.answerable and chunk.title in record.page_titles
        is_homonym = (
            record.subject
            and chunk.title not in record.page_titles
            and same_name(chunk.title, record.subject)
        )
        says_relation = record.cues & chunk.stems and holds_words(chunk.full_words, subject)
        names_subject = not is_read and holds_words(chunk.full_words, names)
        return bool(
            support.parts & chunk.stems
            or says_most(support.asked, chunk.stems)
            or is_homonym
            or says_relation
            or names_subject
        )

    def is_negative(chunk: Chunk) -> bool:
        if chunk in gold or chunk.title in banned_pages or (by_page_only and chunk.title in own_pages):
            return False
        return not (
            (not by_page_only and holds_words(chunk.full_words, support.needles)) or may_answer(chunk)
        )

    candidates = pool.candidates(record)
    order = BM25([chunk.terms for chunk in candidates]).top(record.query, len(candidates))
    rest = sorted(set(range(len(candidates))) - set(order))
    rng.shuffle(rest)
    near = [candidates[i] for i in order + rest if is_negative(candidates[i])]
    searched = [chunk for chunk in pool.search(record.query) if is_negative(chunk)]
    merged = [
        chunk
        for i in range(max(len(near), len(searched)))
        for chunk in (*near[i : i + 1], *searched[i : i + 1])
    ]
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
    return (
        same_page[:n_first]
        + others[: n_chunks - n_first]
        + same_page[n_first:]
        + others[n_chunks - n_first :]
    )


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


def build_sample(
    support: Support, ranked: list[Chunk], max_chunks: int, group: str, rng: random.Random
) -> dict | str:
    """One sample in file layout from a support and its ranked negatives, or the reason why none could be built."""
    record = support.record
    aliases = list(support.aliases)
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
    fields = (
        "id",
        "source",
        "question",
        "evidence_chunks",
        "answer",
        "answer_aliases",
        "answerable",
        "support_sets",
        "support_spans",
        "hard_negatives",
    )
    return {name: laid_out[name] for name in (*fields, "group", "metadata")}


def build_twin(support: Support, sample: dict, ranked: list[Chunk], rng: random.Random) -> dict | str:
    """The sample's question without its support: as many chunks, the answer in none of them.

    Of a multi-hop support set one hop may stay, when it does not hold the answer.
    """
    aliases = list(support.aliases)
    n_chunks = len(sample["evidence_chunks"])
    negatives = _mix_pages(ranked, support.pages, n_chunks, rng)
    kept: list[Chunk] = []
    shown = {
        (c["title"], c["text"])
        for i, c in enumerate(sample["evidence_chunks"])
        if i in sample["support_spans"]
    }
    hops = [chunk for chunk in support.sets[0] if (chunk.title, chunk.text) in shown]
    # One hop may prove a "no".
    if len(hops) > 1 and rng.random() < 0.5 and aliases[0].lower() != "no":
        is_label = is_label_answer(aliases[0])
        kept = [
            c
            for c in hops
            if is_label or not (holds_words(c.full_words, support.needles) or support.parts & c.stems)
        ][:1]
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
        "metadata": {
            **sample["metadata"],
            "support_rule": "support removed",
            "gold_aliases": aliases,
            "twin_of": sample["id"],
        },
    }
    return _layout(twin, [], chunks, rng)
