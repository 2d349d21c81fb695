"""External test sets: records of other people's evaluation data -> test samples, as annotated there.

A build drops what its rules cannot verify. A test set must not lose its hard rows that way, so here the
source's annotation is taken as it is, nothing is split, and no twin is added: rows without an answer are the
source's own.
"""

import random

from evidence.annotation import annotated_sets, marked_sets, with_answer
from evidence.assembly import AssemblySettings
from evidence.chunks import Chunk, PagePool, chunk_passage
from evidence.drops import Drops
from evidence.groups import group_supports
from evidence.negatives import ranked_negatives
from evidence.paraphrase import asked_stems
from evidence.records import Record
from evidence.samples import build_sample
from evidence.soundness import leaked_answer
from evidence.support import Support
from evidence.withheld import Withheld, asked_alike, evidence_by_question
from utils.schema import is_label_answer
from utils.text import usable_aliases

# Chunks at random among which those without a word of the question are looked for.
_N_RANDOM = 50


def _chunks(record: Record, pool: PagePool, max_chunks: int) -> list[Chunk]:
    """The chunks of the record's passages, cut as `--max-chunk-words` says.

    A passage that its annotators read whole is shown whole, in as many chunks as a sample has.
    """
    if not record.is_read_whole:
        return pool.candidates(record)
    chunks: list[Chunk] = []
    for max_words in range(1, pool.max_words + 1):
        chunks = [chunk for passage in record.passages for chunk in chunk_passage(passage, max_words)]
        if len(chunks) <= max_chunks:
            break
    return list(dict.fromkeys(chunks))


def _marked(record: Record, chunks: list[Chunk], aliases: list[str]) -> list[tuple[Chunk, ...]]:
    """A set per marked chunk or, for yes/no answers and verdicts, per marked passage."""
    if is_label_answer(aliases[0]):
        return marked_sets(chunks, asked_stems(record.query), lambda chunk: True)
    return [(chunk,) for chunk in chunks if chunk.is_gold]


def _support_of(record: Record, chunks: list[Chunk], max_chunks: int) -> Support | str:
    """The record with the sets that its source annotates, or the reason to drop it."""
    if record.doubt:
        return record.doubt
    if record.is_read_whole and len(chunks) > max_chunks:
        return "passage longer than the chunk limit shows"
    if not record.answerable:
        return Support(record, (), (), "unanswerable in the source")
    aliases = usable_aliases(list(record.answers))
    if not aliases:
        return "no usable answer"
    # Without sets, a marked passage is the annotation, and its chunk that states the answer the support.
    annotated = annotated_sets(record, chunks) if record.gold_sets else _marked(record, chunks, aliases)
    # An annotator whose answer shares nothing with its sentences leaves a set without any answer.
    sets = with_answer(annotated, aliases)
    if not sets:
        return "no annotated support"
    return Support(record, tuple(aliases), tuple(sets), "gold annotation")


def _other_evidence(supports: list[Support], groups: list[str]) -> list[frozenset[str]]:
    """Per support, the pages that support other rows of its group: they may judge its claim too."""
    pages: dict[str, set[str]] = {}
    for support, group in zip(supports, groups):
        pages.setdefault(group, set()).update(support.pages)
    return [frozenset(pages[group]) - support.pages for support, group in zip(supports, groups)]


def _negatives(
    support: Support,
    chunks: list[Chunk],
    pool: PagePool,
    banned: frozenset[str],
    rng: random.Random,
    alike: Withheld,
) -> list[Chunk]:
    """Chunks that do not answer: what the annotators of a whole passage left, else what passes the checks.

    Behind those come chunks that share no word with the question, so that no row is lost for want of a
    negative.
    """
    if not support.record.is_read_whole:
        unrelated = []
        for chunk in rng.sample(pool.chunks, min(_N_RANDOM, len(pool.chunks))):
            if not chunk.stems & support.asked and not chunk.leak_pages & (banned | support.pages):
                unrelated.append(chunk)
        near = ranked_negatives(support, pool, banned, rng, alike)
        return list(dict.fromkeys(near + unrelated))
    # What an annotator chose whose answer shares nothing with it is no support, and no negative either.
    marked = {chunk for chunk_set in annotated_sets(support.record, chunks) for chunk in chunk_set}
    return [chunk for chunk in chunks if chunk not in marked]


def external_samples(
    records: list[Record], pool: PagePool, settings: AssemblySettings, drops: Drops
) -> list[dict]:
    """The test samples of the records, in their order; rows that cannot be shown are counted in `drops`."""
    supports = []
    chunks_of = []
    for record in records:
        chunks = _chunks(record, pool, settings.max_chunks)
        support = _support_of(record, chunks, settings.max_chunks)
        if isinstance(support, str):
            drops[record.source].drop(support, record.id, record.question)
        else:
            supports.append(support)
            chunks_of.append(chunks)

    # A share of 1 leaves nothing to cut: every row gets the name of its group.
    names = group_supports(supports, 1.0, False, random.Random(settings.seed))
    groups = [name or support.record.id for name, support in zip(names, supports)]
    samples = []
    by_question = evidence_by_question(supports, pool)
    for support, chunks, group, banned in zip(supports, chunks_of, groups, _other_evidence(supports, groups)):
        rng = random.Random(f"{settings.seed}:{support.record.id}")
        alike = asked_alike(support, by_question)
        negatives = _negatives(support, chunks, pool, banned, rng, alike)
        sample = build_sample(support, negatives, settings.max_chunks, group, rng, min_negatives=1)
        if isinstance(sample, dict) and leaked_answer(sample):
            sample = "a chunk beside the support has the answer"
        if isinstance(sample, str):
            record = support.record
            drops[record.source].drop(sample, record.id, record.question)
        else:
            # Known under any file name: such samples are refused as training data and as preferences.
            sample["metadata"]["evaluation_only"] = True
            samples.append(sample)
    return samples
