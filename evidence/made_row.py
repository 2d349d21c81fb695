"""One made row in sample layout, from the sample that it was made of (its origin).

It knows nothing about the kinds of rows that are made.
"""

import re
from collections import Counter
from dataclasses import dataclass, field

from utils.schema import unit_of

# Facts about the origin's question, which the row does not ask.
_OF_ORIGIN = ("claim", "difficulty", "gold_aliases", "twin_of", "type")


@dataclass
class Making:
    """What one maker made: its rows, and by reason how much it left out (origins, edits or questions)."""

    rows: list[dict] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def made_row(origin: dict, kind: str, changes: dict, number: int = 1) -> dict:
    """The origin with `changes` of its fields, on the same evidence; `metadata` of the changes is added.

    `kind`: such as "contrast: number". `number`: for an origin with several rows of a kind, from 1 on.
    """
    known = {key: value for key, value in origin["metadata"].items() if key not in _OF_ORIGIN}
    metadata = {
        **known,
        "support_rule": "made",
        **changes.get("metadata", {}),
        "made": kind,
        "made_from": origin["id"],
        "unit": unit_of(origin),
    }
    suffix = re.sub(r"\W+", "-", kind)
    if number > 1:
        suffix += f"-{number}"
    return {**origin, **changes, "id": f"{origin['id']}#{suffix}", "metadata": metadata}
