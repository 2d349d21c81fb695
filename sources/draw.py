"""Which rows of a source a build reads: a random sample that is the same on every machine.

It reads rows through the source's reader and knows nothing about their evidence.
"""

import hashlib
import heapq
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from evidence.records import Record
from sources import reader_of
from sources.identity import RowIds
from sources.repeats import Repeats
from utils.runs import note


def draw_records(
    source: str,
    files: list[tuple[Path, dict]],
    n_wanted: int,
    seed: int,
    on_bad: Callable[[str], None],
    drops: Counter,
) -> list[Record]:
    """At most `n_wanted` distinct records of a source (0 = all), in file order.

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
    for path, entry in files:
        rows = reader(path, entry.get("split", "any"), on_bad)
        for record in tqdm(rows, desc=f"reading {path.name}", unit="row", disable=None):
            if repeats.drops(record, drops):
                continue
            record = ids.distinct(record, path)
            n_seen += 1
            digest = hashlib.sha1(f"{seed}:{record.id}".encode()).digest()
            # Negative, because a heap gives up its smallest item and the largest hash has to go.
            rank = -int.from_bytes(digest[:8], "big")
            if not n_wanted or len(drawn) < n_wanted:
                heapq.heappush(drawn, (rank, n_seen, record))
            elif rank > drawn[0][0]:
                heapq.heapreplace(drawn, (rank, n_seen, record))
    if ids.n_renamed:
        note(f"{source}: {ids.n_renamed} rows have the id of another row; their file's name is added to it")
    kept = [record for _, _, record in sorted(drawn, key=lambda item: item[1])]
    return [record for record in kept if not repeats.is_contradictory(record)]
