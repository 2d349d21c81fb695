"""YAML text -> plain values, in time and memory that its length decides.

Tags are refused, and so is a text whose aliases unfold to far more than is written: ten lines can stand for a
billion values ("billion laughs"), and every walk over them would never end.
"""

import yaml

# A config has some hundred values; the largest of ours has 400.
_MAX_VALUES = 100_000


class _Unfolds(yaml.MarkedYAMLError):
    """A text whose aliases unfold to too much."""


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.SequenceNode):
        return node.value
    if not isinstance(node, yaml.MappingNode):
        return []
    found = []
    for pair in node.value:
        found += pair
    return found


def _n_values(node: yaml.Node, known: dict[int, int | None]) -> int:
    """The number of values under a node, each alias counted as all that it stands for."""
    if id(node) in known:
        n_known = known[id(node)]
        if n_known is None:
            raise RecursionError("a block contains itself")
        return n_known
    known[id(node)] = None
    n_values = 1 + sum(_n_values(child, known) for child in _children(node))
    if n_values > _MAX_VALUES:
        raise _Unfolds(
            problem="its aliases (*name) unfold to too many values; write plain ones",
            problem_mark=node.start_mark,
        )
    known[id(node)] = n_values
    return n_values


def compose_yaml(text: str) -> yaml.Node | None:
    """The nodes of a YAML text, checked. yaml.YAMLError; RecursionError for one nested too deeply."""
    node = yaml.compose(text, yaml.SafeLoader)
    if node is not None:
        _n_values(node, {})
    return node


def load_yaml(text: str):
    """`yaml.safe_load` of a text that `compose_yaml` accepts. yaml.YAMLError, ValueError, RecursionError."""
    compose_yaml(text)
    return yaml.safe_load(text)
