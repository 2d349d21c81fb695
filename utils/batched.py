"""`itertools.batched`, which Python has from 3.12 on, for lists."""

from collections.abc import Iterator
from typing import TypeVar

Item = TypeVar("Item")


def batched(items: list[Item], n: int) -> Iterator[list[Item]]:
    """The items in their order, in lists of `n`; the last one may be shorter."""
    for start in range(0, len(items), n):
        yield items[start : start + n]
