"""One support -> samples in file layout: the sample, and its unanswerable twin.

The negatives arrive verified and ranked (negatives.py). Nothing here knows of splits or of other samples.
"""

import random
from collections.abc import Iterable

from evidence.chunks import Chunk
from evidence.paraphrase import begins_any, is_named, stems
from evidence.queries import query_of
from evidence.records import twin_id
from evidence.spellings import says_answer
from evidence.support import Support
from utils.schema import is_label_answer, verdict_class
from utils.text import REFUSAL, chunk_text

# More alternative sets would fill a sample with support and leave no room for negatives.
MAX_SUPPORT_SETS = 2

# The fields of a sample in the order of the file.
_FIELDS = (
    *("id", "source", "question", "evidence_chunks", "answer", "answer_aliases", "answerable"),
    *("support_sets", "support_spans", "hard_negatives", "group", "metadata"),
)


def _chunks_of(sets: Iterable[tuple[Chunk, ...]]) -> list[Chunk]:
    """The distinct chunks of several support sets, in order of first occurrence."""
    return list(dict.fromkeys(chunk for chunks in sets for chunk in chunks))


def _layout(
    sample: dict, support: Support, sets: list[tuple[Chunk, ...]], negatives: list[Chunk], rng: random.Random
) -> dict:
    """The sample with its evidence: the sets' chunks and negatives in random order, and the ids of both.

    Shuffled, because support that always comes first would teach the model a position.
    """
    chunks = _chunks_of(sets) + negatives
    rng.shuffle(chunks)
    place = {chunk: i for i, chunk in enumerate(chunks)}

    support_sets = []
    for support_set in sets:
        support_sets.append(sorted(place[chunk] for chunk in support_set))
    spans = sorted({i for support_set in support_sets for i in support_set})

    laid_out = {
        **sample,
        "evidence_chunks": [{"title": chunk.title, "text": chunk.text} for chunk in chunks],
        "support_sets": support_sets,
        "support_spans": spans,
        "hard_negatives": [i for i in range(len(chunks)) if i not in spans],
    }
    difficulty = _difficulty(laid_out, support.pages)
    laid_out["metadata"] = {**sample["metadata"], "difficulty": difficulty}
    return {name: laid_out[name] for name in _FIELDS}


def _sets_that_fit(support: Support, max_chunks: int) -> list[tuple[Chunk, ...]]:
    """The support sets that a sample shows; one of its chunks at least stays free for a negative."""
    sets: list[tuple[Chunk, ...]] = []
    for chunks in support.sets[:MAX_SUPPORT_SETS]:
        if len(_chunks_of([*sets, chunks])) < max_chunks:
            sets.append(chunks)
    # What is shown anyway may be cited, too.
    shown = set(_chunks_of(sets))
    return sets + [chunks for chunks in support.sets[MAX_SUPPORT_SETS:] if shown.issuperset(chunks)]


def _difficulty(sample: dict, pages: frozenset[str]) -> str:
    """`easy` if the surface gives the sample away, else `hard`.

    An unanswerable sample is given away by its titles, where none is the answer's page or named in the
    question; an answerable one by shared words, where no other chunk has as many of the question's as the
    support.
    """
    query = query_of(sample)
    if not sample["answerable"]:
        titles = [chunk["title"] for chunk in sample["evidence_chunks"]]
        is_near = any(title in pages or is_named(title, query) for title in titles)
        return "hard" if is_near else "easy"

    asked = stems(query)
    n_shared = []
    for chunk in sample["evidence_chunks"]:
        n_shared.append(len(asked & stems(chunk_text(chunk))))
    best_support = max(n_shared[i] for i in sample["support_spans"])
    return "hard" if any(n_shared[i] >= best_support for i in sample["hard_negatives"]) else "easy"


def mix_pages(ranked: list[Chunk], pages: frozenset[str], n_chunks: int, rng: random.Random) -> list[Chunk]:
    """The ranked negatives, reordered so that some from the support's own pages come first.

    Their number is drawn per sample, so that a title that fits the question neither gives support away nor
    rules it out. Where there are several, one is left for the twin, which shows it in place of the support:
    both show the page equally often. A single one is shown by half of the samples, and by every twin.
    Returns all of `ranked`, in the new order.
    """
    same_page = [chunk for chunk in ranked if chunk.title in pages]
    others = [chunk for chunk in ranked if chunk.title not in pages]
    n_most = min(len(same_page), n_chunks)
    n_first = rng.randint(1, n_most - 1) if n_most > 1 else rng.randint(0, n_most)
    n_others = n_chunks - n_first
    return same_page[:n_first] + others[:n_others] + same_page[n_first:] + others[n_others:]


def build_sample(
    support: Support,
    ranked: list[Chunk],
    max_chunks: int,
    group: str,
    rng: random.Random,
    min_negatives: int = 2,
) -> dict | str:
    """One sample in file layout from a support and its ranked negatives, or the reason why there is none."""
    record = support.record
    aliases = list(support.aliases)
    negatives = mix_pages(ranked, support.pages, max_chunks, rng)
    if not record.answerable:
        # Without its topic, a question that was written about a passage is too easily refused.
        topic = [chunk for chunk in ranked if chunk.is_gold][: max_chunks // 2]
        negatives = topic + [chunk for chunk in negatives if chunk not in topic]

    sets = _sets_that_fit(support, max_chunks)
    if record.answerable and not sets:
        return "support does not fit the chunk limit"
    n_free = max_chunks - len(_chunks_of(sets))
    negatives = negatives[:n_free]
    if len(negatives) < min(min_negatives, n_free):
        return "fewer than two verified negatives" if min_negatives > 1 else "no verified negative"

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
    return _layout(sample, support, sets, negatives, rng)


def _kept_hop(support: Support, sample: dict, rng: random.Random) -> list[Chunk]:
    """One hop of a multi-hop support set that stays in the twin: incomplete evidence. Empty if unsafe."""
    shown = set()
    for i in sample["support_spans"]:
        chunk = sample["evidence_chunks"][i]
        shown.add((chunk["title"], chunk["text"]))
    hops = [chunk for chunk in support.sets[0] if (chunk.title, chunk.text) in shown]

    # One hop may prove a "no" or refute a claim: if the first of two things is no plant, they are not both
    # plants.
    answer = support.aliases[0]
    if len(hops) < 2 or verdict_class(answer) == "refuted":
        return []
    rng.shuffle(hops)
    # Annotators may have found one of them enough.
    hops = [chunk for chunk in hops if (chunk,) not in support.sets]
    if is_label_answer(answer):
        return hops[:1]
    for chunk in hops:
        is_part_said = any(begins_any(part, chunk.stems) for part in support.parts)
        if not is_part_said and not says_answer(chunk.full_text, list(support.aliases)):
            return [chunk]
    return []


def build_twin(support: Support, sample: dict, ranked: list[Chunk], rng: random.Random) -> dict | None:
    """The sample's question without its support: as many chunks, the answer in none of them.

    In place of the support it shows other chunks of the same page and, of a multi-hop support set, one hop
    that does not contain the answer. Returns None if there are too few negatives to replace the support.
    """
    n_chunks = len(sample["evidence_chunks"])
    kept = _kept_hop(support, sample, rng)

    # The negatives that the original shows come first, so that the twins differ in the support alone.
    texts = {chunk["text"] for chunk in sample["evidence_chunks"]}
    shown = [chunk for chunk in ranked if chunk.text in texts]
    fresh = [chunk for chunk in ranked if chunk.text not in texts]
    same_page = [chunk for chunk in fresh if chunk.title in support.pages]
    others = [chunk for chunk in fresh if chunk.title not in support.pages]
    chunks = (kept + shown + same_page + others)[:n_chunks]
    if len(chunks) < n_chunks:
        return None

    metadata = {
        **sample["metadata"],
        "support_rule": "support removed",
        "gold_aliases": list(support.aliases),
        "twin_of": sample["id"],
    }
    twin = {
        **sample,
        "id": twin_id(sample["id"]),
        "answer": REFUSAL,
        "answer_aliases": [],
        "answerable": False,
        "metadata": metadata,
    }
    return _layout(twin, support, [], chunks, rng)
