"""The code keeps to the limits of benchmarks/density.py: rates for the whole tree, lengths for each place."""

import ast

import pytest

from benchmarks.density import LIMITS, RATES, ROOT, Density, measure_nodes, measure_tree

# Every rate is a limit from above, but for comments, of which there may not be too few.
AT_LEAST = {"comment lines"}


@pytest.fixture(scope="module")
def tree() -> Density:
    return measure_tree()["all"]


def places_of(kind: str, density: Density) -> str:
    return "\n".join(place for place in density.places if place.endswith(kind))


@pytest.mark.parametrize("kind", RATES)
def test_the_tree_keeps_its_rates(kind, tree):
    rate = tree.rate(kind)
    is_kept = rate >= RATES[kind] if kind in AT_LEAST else rate <= RATES[kind]
    assert is_kept, f"{kind}: {rate:.1f} per 1,000 lines, limit {RATES[kind]}\n{places_of(kind, tree)}"


@pytest.mark.parametrize("kind", LIMITS)
def test_no_function_or_file_is_too_long(kind, tree):
    assert not tree.counts[kind], places_of(kind, tree)


# One statement of each kind that is counted, and one beside it that is not.
COUNTED = {
    "packed assignments": ("a, b = x, y", "a, b = pair"),
    "nested comprehensions": ("[[c for c in row] for row in rows]", "[c for row in rows for c in row]"),
    "nested conditionals": ("a if x else b if y else c", "a if x else b"),
    "many parameters": ("def f(a, b, c, d, e, *, f, g): pass", "def f(self, a, b, c, d, e, f): pass"),
    "long functions": ("def f():\n" + "    pass\n" * 60, "def f():\n" + "    pass\n" * 59),
}


@pytest.mark.parametrize("kind", COUNTED)
def test_what_is_counted(kind):
    found = []
    for code in COUNTED[kind]:
        density = Density()
        measure_nodes(ast.parse(code), ROOT / "example.py", density)
        found.append(density.counts[kind])
    assert found == [1, 0]
