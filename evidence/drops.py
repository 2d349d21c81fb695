"""Dropped rows: how many per source and reason, the first of each, and what would keep them.

It names rows; which ones are dropped is decided elsewhere.
"""

from collections import Counter
from collections.abc import Mapping

# Rows that audit.json has per reason: enough to look at, and small where a public source loses thousands.
_MOST_ROWS = 20
_MOST_CHARS = 100
_MOST_REASONS = 3

# Rows that were not needed: they are no reason why a split is empty.
SPARE_REASON = "spare row, not needed"
SURPLUS_EASY = "surplus easy rows"
SURPLUS_UNANSWERABLE = "surplus unanswerable rows"
_NOT_NEEDED = frozenset({SPARE_REASON, SURPLUS_EASY, SURPLUS_UNANSWERABLE})

_WHAT_TO_DO = {
    "answer appears in the question": "ask for something that the question does not say",
    "answer not verified in any chunk": "give the answer in the words of the text, and name in the question "
    "what the text is about",
    "connects two splits": "give titles of smaller parts, one per section",
    "fewer than two verified negatives": "give longer pages or more pages",
    "gold page is there twice with different text": "leave one text of the page in the pages files",
    "malformed row": "correct the rows",
    "no evidence found": "give each row its passages (ctxs, positive_ctxs or evidence_chunks), or the source "
    "pages to search",
    "support does not fit the chunk limit": "raise --max-chunks",
    "yes/no answer without gold evidence": "mark the passage that proves it, as in positive_ctxs",
}


class DroppedRows(Counter[str]):
    """The number of dropped rows by reason. `first`: reason -> id -> question, of its first rows."""

    def __init__(self) -> None:
        super().__init__()
        self.first: dict[str, dict[str, str]] = {}

    def drop(self, reason: str, row_id: str, question: str) -> None:
        """Count a row. Of a malformed one, `row_id` is its file and line, and `question` what is wrong."""
        self[reason] += 1
        known = self.first.setdefault(reason, {})
        if len(known) < _MOST_ROWS:
            known[row_id] = question[:_MOST_CHARS]


Drops = dict[str, DroppedRows]


def main_reasons(reasons: Counter[str]) -> str:
    """The two reasons for which most rows were dropped, with their numbers; empty without any."""
    return ", ".join(f"{reason} {n:,}" for reason, n in reasons.most_common(2))


def first_dropped(drops: Drops) -> dict[str, dict[str, dict[str, str]]]:
    """Source -> reason -> id -> question of its first rows, for audit.json."""
    return {source: rows.first for source, rows in drops.items()}


def examples(drops: Drops) -> list[str]:
    """One line per source that lost rows it could have used: the first row of each reason."""
    lines = []
    for source, rows in drops.items():
        firsts = []
        for reason, of_reason in rows.first.items():
            row_id, question = next(iter(of_reason.items()))
            if reason not in _NOT_NEEDED:
                firsts.append(f"{reason}: {row_id} {question!r}")
        if firsts:
            lines.append(f"{source}: first row dropped as {'; '.join(firsts)}")
    return lines


def few_left(drops: Mapping[str, int], n_left: int) -> str:
    """How many questions are left, and the main reasons with what to do; "" unless a third was lost.

    `drops`: dropped rows by "source: reason".
    """
    lost = Counter({key: n for key, n in drops.items() if key.rpartition(": ")[2] not in _NOT_NEEDED})
    n_all = n_left + lost.total()
    if not lost or 3 * lost.total() < n_all:
        return ""
    parts = []
    for key, n in lost.most_common(_MOST_REASONS):
        what_to_do = _WHAT_TO_DO.get(key.rpartition(": ")[2])
        parts.append(f"{key} {n} ({what_to_do})" if what_to_do else f"{key} {n}")
    return f"only {n_left} of {n_all} questions are left; dropped: {', '.join(parts)}"
