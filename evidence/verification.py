"""Records -> the supports that a build uses: as many verified rows per source as are wanted, if there are.

Which rows are tried, and in which order, depends on their ids and the seed alone.
"""

import hashlib
from collections import Counter, defaultdict

from evidence.chunks import PagePool
from evidence.drops import SPARE_REASON, Drops, main_reasons
from evidence.records import Record
from evidence.support import Support, find_support
from utils.errors import DataError
from utils.progress import track
from utils.runs import note

# Verified claims per wanted row: about half are easy ones, of which few are kept (balance.py).
CLAIMS_PER_ROW = 2

# Of a file with fewer rows than wanted, losing some is no news; losing half is.
_SHORT = 0.5


def draw_rank(seed: int, record_id: str) -> int:
    """The place of a row in a random order that is the same on every machine; the lowest are drawn first."""
    text = f"{seed}:{record_id}".encode("utf-8", "replace")
    digest = hashlib.sha1(text, usedforsecurity=False).digest()
    return int.from_bytes(digest[:8], "big")


def first_drawn(records: list[Record], n_wanted: int, seed: int) -> list[Record]:
    """The `n_wanted` records (0 = all) that are first in the order of `draw_rank`, in their own order."""
    if not n_wanted or len(records) <= n_wanted:
        return records
    last = sorted(draw_rank(seed, record.id) for record in records)[n_wanted - 1]
    return [record for record in records if draw_rank(seed, record.id) <= last]


def _refuse_evaluation_rows(records: list[Record]) -> None:
    """DataError if there are rows of an external test set, which nothing may be trained on."""
    reserved = [record.id for record in records if record.metadata.get("evaluation_only")]
    if reserved:
        raise DataError(
            f"{len(reserved)} of {len(records)} rows are of an evaluation-only build, e.g. {reserved[0]}:"
            " they are for tests alone; name other files, or add `evaluation_only: true` to the config"
        )


def verify_support(
    records: list[Record], pool: PagePool, n_wanted: int, seed: int, drops: Drops
) -> tuple[list[Support], list[str]]:
    """The supports of at most `n_wanted` rows per source (0 = all), and a line on each source that has fewer.

    Of claims, twice as many are verified, since few of the easy ones are kept in the end. The rows are tried
    in the order of `draw_rank`, and returned in the order of `records`. The others are counted in `drops`.
    DataError if rows of an evaluation-only build are among them.
    """
    _refuse_evaluation_rows(records)
    n_verified: Counter[str] = Counter()
    reasons: dict[str, Counter[str]] = defaultdict(Counter)
    supports: dict[int, Support] = {}
    order = sorted(range(len(records)), key=lambda i: draw_rank(seed, records[i].id))
    for i in track(order, "verifying support", "row"):
        source = records[i].source
        n_needed = n_wanted * CLAIMS_PER_ROW if records[i].is_claim else n_wanted
        if n_wanted and n_verified[source] == n_needed:
            drops[source].drop(SPARE_REASON, records[i].id, records[i].question)
            continue
        found = find_support(records[i], pool)
        if isinstance(found, str):
            reasons[source][found] += 1
            drops[source].drop(found, records[i].id, records[i].question)
        else:
            n_verified[source] += 1
            supports[i] = found

    short = []
    for source in dict.fromkeys(record.source for record in records):
        problem = _too_few(source, n_verified[source], n_wanted, reasons[source])
        if problem:
            note(problem)
            short.append(problem)
    return [supports[i] for i in sorted(supports)], short


def _too_few(source: str, n_verified: int, n_wanted: int, reasons: Counter[str]) -> str | None:
    """A line on a source that has fewer verified rows than wanted, with the main reasons; else None."""
    n_tried = n_verified + reasons.total()
    enough = n_wanted if n_wanted and n_tried >= n_wanted else _SHORT * n_tried
    if n_verified >= enough:
        return None
    main = main_reasons(reasons)
    return f"{source}: only {n_verified:,} of {n_tried:,} rows verified (dropped: {main})"
