"""Which rows of a source a build reads: a random sample that is the same on every machine.

It reads rows through the source's reader and knows nothing about their evidence.
"""

import heapq
from collections.abc import Callable
from pathlib import Path

from evidence.drops import DroppedRows
from evidence.records import Record
from evidence.verification import CLAIMS_PER_ROW, draw_rank
from sources import reader_of
from sources.identity import RowIds
from sources.repeats import Repeats
from utils.runs import note

# Rows that are drawn for each row that is wanted, since some will not be verified: twice as many where the
# rows come with evidence, four times where it has to be found in the pages, which pass only once. More would
# not help: where a quarter fails to do, the pages lack the answers.
_TIMES_WITH_EVIDENCE = 2
_TIMES_WITHOUT_EVIDENCE = 4


def _n_with_evidence(drawn: list[tuple[int, int, Record]]) -> int:
    """How many of the drawn rows come with evidence, or name its pages as FEVER's claims do."""
    return sum(record.has_evidence for _, _, record in drawn)


def draw_records(
    source: str,
    files: list[tuple[Path, dict]],
    n_wanted: int,
    seed: int,
    on_bad: Callable[[str], None],
    drops: DroppedRows,
) -> list[Record]:
    """Enough distinct records of a source to verify `n_wanted` of them (0 = all records), in file order.

    Rows that repeat or contradict another one are added to `drops`, reason -> rows.

    The sampled ones are those whose ids have the lowest hashes with the seed, so another file order or a
    longer file changes few of them.
    """
    reader = reader_of(source)
    # A heap of the lowest hashes: memory contains the sampled rows alone, however long the file is.
    drawn: list[tuple[int, int, Record]] = []
    ids = RowIds()
    repeats = Repeats()
    n_seen = 0
    n_drawn = n_wanted * _TIMES_WITHOUT_EVIDENCE
    for path, entry in files:
        for record in reader(path, entry.get("split", "any"), on_bad):
            if repeats.drops(record, drops):
                continue
            record = ids.distinct(record, path)
            n_seen += 1
            # Negative, because a heap gives up its smallest item and the largest hash has to go.
            rank = -draw_rank(seed, record.id)
            if not n_wanted or len(drawn) < n_drawn:
                heapq.heappush(drawn, (rank, n_seen, record))
            elif rank > drawn[0][0]:
                heapq.heapreplace(drawn, (rank, n_seen, record))
    if ids.n_renamed:
        note(f"{source}: {ids.n_renamed} rows have the id of another row or twin; the file's name is added")
    if n_wanted and _n_with_evidence(drawn) > len(drawn) / 2:
        is_claims = any(record.is_claim for _, _, record in drawn)
        n_needed = n_wanted * CLAIMS_PER_ROW if is_claims else n_wanted
        drawn = heapq.nlargest(n_needed * _TIMES_WITH_EVIDENCE, drawn)
    kept = [record for _, _, record in sorted(drawn, key=lambda item: item[1])]
    return [record for record in kept if repeats.is_used(record)]
