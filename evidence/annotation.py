"""What a source's annotation says: gold sentences and marked passages -> sets of chunks that each suffice.

It takes the annotation at its word; whether it covers claim or question is checked in support.py.
"""

from collections.abc import Callable

from evidence.chunks import Chunk
from evidence.claims import is_judgeable
from evidence.paraphrase import share_said, stems
from evidence.records import Record
from evidence.stated import states_answer
from utils.schema import is_label_answer


def annotated_sets(record: Record, candidates: list[Chunk]) -> list[tuple[Chunk, ...]]:
    """Annotated (page, line) sets as sets of chunks, smallest first, without sets that miss a line."""
    by_line: dict[tuple[str, int], Chunk] = {}
    for chunk in candidates:
        by_line.update({(chunk.page, line): chunk for line in chunk.lines})

    sets: dict[tuple[Chunk, ...], None] = {}
    for pairs in record.gold_sets:
        # Alternative sets are OR, the lines of one set are AND: half a set proves nothing.
        if not pairs or any(pair not in by_line for pair in pairs):
            continue
        chunks = tuple(dict.fromkeys(by_line[pair] for pair in pairs))
        sets.setdefault(chunks)
    return sorted(sets, key=len)


def with_answer(sets: list[tuple[Chunk, ...]], aliases: list[str]) -> list[tuple[Chunk, ...]]:
    """The sets that contain an accepted answer; of yes/no and label answers, which are classes, all sets."""
    if is_label_answer(aliases[0]):
        return sets
    return [chunks for chunks in sets if any(states_answer(chunk.full_text, aliases) for chunk in chunks)]


def marked_sets(
    candidates: list[Chunk], asked: frozenset[str], is_about_question: Callable[[Chunk], bool]
) -> list[tuple[Chunk, ...]]:
    """One set per passage that the source marks: the chunk that says most of the `asked` stems.

    Where a passage has several chunks, that one must be about the question: the mark is the passage's.
    """
    by_page: dict[str, list[Chunk]] = {}
    for chunk in candidates:
        if chunk.is_gold:
            by_page.setdefault(chunk.page, []).append(chunk)

    sets: list[tuple[Chunk, ...]] = []
    for chunks in by_page.values():
        best = max(chunks, key=lambda chunk: share_said(asked, chunk.stems))
        if len(chunks) == 1 or is_about_question(best):
            sets.append((best,))
    return sets


def stating_sets(claim: str, sets: list[tuple[Chunk, ...]]) -> list[tuple[Chunk, ...]]:
    """The evidence sets that a claim can be judged from, of these the ones that cover most of its words.

    Behind them those whose chunks are all in one of them: annotators found a part of what is shown enough.
    """
    wanted = stems(claim)
    shares: dict[tuple[Chunk, ...], float] = {}
    for chunks in sets:
        said = frozenset().union(*(chunk.stems for chunk in chunks))
        if is_judgeable(claim, said):
            shares[chunks] = share_said(wanted, said)

    best = max(shares.values(), default=0.0)
    # `sorted` is stable, so sets of one size keep their order.
    stating = sorted((chunks for chunks, share in shares.items() if share == best), key=len)
    shown = list(map(set, stating))
    parts = [chunks for chunks in sets if any(map(set(chunks).__lt__, shown))]
    return stating + [chunks for chunks in parts if chunks not in stating]
