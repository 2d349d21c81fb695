"""Which rows of a source a build reads: a random sample that is the same on every machine.

It reads rows through the source's reader and knows nothing about their evidence.
"""

import hashlib
import heapq
from collections.abc import Callable
from pathlib import Path

from tqdm.auto import tqdm

from evidence.records import Record
from sources import reader_of


def draw_records(
    source: str, files: list[tuple[Path, dict]], n_wanted: int, seed: int, on_bad: Callable[[str], None]
) -> list[Record]:
    """At most `n_wanted` distinct records of a source (0 = all), in file order.

    The sampled ones are those whose ids have the lowest hashes with the seed, so another file order or a
    longer file changes few of them.
    """
    reader = reader_of(source)
    # A heap of the lowest hashes: memory contains the sampled rows alone, however long the file is.
    drawn: list[tuple[int, int, Record]] = []
    seen = set()
    for path, entry in files:
        rows = reader(path, entry.get("split", "any"), on_bad)
        for record in tqdm(rows, desc=f"reading {path.name}", unit="row", disable=None):
            if record.id in seen:
                continue
            seen.add(record.id)
            digest = hashlib.sha1(f"{seed}:{record.id}".encode()).digest()
            # Negative, because a heap gives up its smallest item and the largest hash has to go.
            rank = -int.from_bytes(digest[:8], "big")
            if not n_wanted or len(drawn) < n_wanted:
                heapq.heappush(drawn, (rank, len(seen), record))
            elif rank > drawn[0][0]:
                heapq.heapreplace(drawn, (rank, len(seen), record))
    return [record for _, _, record in sorted(drawn, key=lambda item: item[1])]
