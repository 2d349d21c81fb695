"""YAML text -> value, safely: no tag runs anything, and no small text becomes a huge value or a long wait.

It sees a text; what is said about one that cannot be read is known to `utils/yaml_files.py`.
"""

import yaml

# PyYAML reads about 50 KB in a second. The largest config that ships has 6 KB.
_MAX_CHARS = 64 << 10
# It reads a block in n brackets in a time of n squared.
_MAX_BRACKETS = 2000
# Values that a text may stand for once its anchors are replaced: nine anchors can stand for billions.
_MAX_VALUES = 20_000
# What PyYAML raises for a standard tag with a wrong value (`!!bool maybe`, `!!int ''`), or a character's
# number beyond Unicode.
_TAG_ERRORS = (AttributeError, IndexError, KeyError, OverflowError, TypeError)


class TooLarge(ValueError):
    """The text is, or stands for, more than any config has."""


def _children(node: yaml.Node) -> list[yaml.Node]:
    if isinstance(node, yaml.MappingNode):
        return [child for pair in node.value for child in pair]
    return node.value if isinstance(node, yaml.SequenceNode) else []


def _n_values(node: yaml.Node, known: dict[int, int]) -> int:
    """The values under a node, anchors each time. RecursionError for a block that contains itself."""
    if id(node) not in known:
        known[id(node)] = 1 + sum(_n_values(child, known) for child in _children(node))
    return known[id(node)]


def _check_size(text: str) -> None:
    if len(text) > _MAX_CHARS:
        raise TooLarge(f"{len(text) >> 10} KB")
    if text.count("[") + text.count("{") > _MAX_BRACKETS:
        raise TooLarge(f"over {_MAX_BRACKETS:,} brackets")


def _repeated_key(node: yaml.Node) -> yaml.Node | None:
    """The first key under a YAML node that repeats in its block; None if there is none."""
    if isinstance(node, yaml.SequenceNode):
        return next(filter(None, map(_repeated_key, node.value)), None)
    if not isinstance(node, yaml.MappingNode):
        return None
    seen = set()
    for key, value in node.value:
        # Only scalars are keys of a config; a list as a key fails when the value is made.
        if str(key.value) in seen:
            return key
        seen.add(str(key.value))
        if repeated := _repeated_key(value):
            return repeated
    return None


def load_yaml(text: str) -> tuple:
    """(value of a YAML text, the first key that repeats in its block or None).

    yaml.YAMLError for what is no YAML, TooLarge, ValueError for a value that its tag does not take,
    RecursionError for deep nesting and for a block that contains itself.
    """
    _check_size(text)
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None, None
        if _n_values(node, {}) > _MAX_VALUES:
            raise TooLarge(f"anchors (&) for over {_MAX_VALUES:,} values")
        # Before the value is made, which puts merged blocks (<<) into the node.
        repeated = _repeated_key(node)
        return loader.construct_document(node), repeated
    except _TAG_ERRORS as error:
        raise ValueError(f"a value that its tag does not take: {error!r:.60}") from error
