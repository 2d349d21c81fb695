"""Which keys the blocks of queries are shown: those that a mask would leave, and no others of a tree."""

import pytest

from models import cpu_blocks
from models.cpu_blocks import causal_blocks, tree_blocks

# A prefix of 3 tokens; group 0: 2 shared, rows of 4 and 1; group 1: one row, which shares nothing.
OWNERS = [(-1, -1)] * 3 + [(0, -1)] * 2 + [(0, 0)] * 4 + [(0, 1)] + [(1, 2)] * 2


def is_shown(owner, other) -> bool:
    return other in ((-1, -1), (owner[0], -1), owner)


@pytest.mark.parametrize("size", [1, 3, 256])
def test_blocks_of_a_tree_show_what_is_above_them(size, monkeypatch):
    monkeypatch.setattr(cpu_blocks, "_TREE_BLOCK", size)
    blocks = tree_blocks(OWNERS)
    assert [i for block in blocks for i in range(block.start, block.end)] == list(range(len(OWNERS)))
    for block in blocks:
        keys = [k for start, end in block.seen for k in range(start, end)]
        owner = OWNERS[block.start]
        assert keys == [k for k in range(block.end) if is_shown(owner, OWNERS[k])]
        assert block.end - block.start <= size


def test_causal_blocks_end_with_their_last_query(monkeypatch):
    monkeypatch.setattr(cpu_blocks, "_BLOCK", 2)
    assert list(causal_blocks(3, 5)) == [(0, 2, [(0, 4)]), (2, 3, [(0, 5)])]
