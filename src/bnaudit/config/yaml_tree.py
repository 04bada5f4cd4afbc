"""YAML into a tree with lines, strictly: no duplicate keys, no tags that build objects, no bombs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import yaml

from bnaudit.config.tree import Node

if TYPE_CHECKING:
    from bnaudit.config.tree import Scalar, Source

MOST_NODES = 10_000
"""More than any configuration has; ten lines of nested aliases would make billions."""
DEEPEST = 20
"""Levels of nesting. The reader recurses, and PyYAML's scanner takes quadratic time in them."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null", "timestamp")}
_MERGE = f"{_TAG}merge"
_STRING = f"{_TAG}str"
_WHOLE = re.compile(r"[-+]?(0|[1-9](_?[0-9]){0,99})")
"""Of the length that a number has; 1_ and 1__0 are none to Python."""


def parse_yaml(text: str, source: Source, *, most: int = MOST_NODES) -> Node:
    """The one document of a YAML file.

    Args:
        text: what the file holds.
        source: named in errors.
        most: values that it may have.

    Raises:
        ConfigError: no YAML, several documents, duplicate keys, unknown tags, or too large.
    """
    try:
        _bound(text, source, most)
        nodes = list(yaml.compose_all(text, Loader=yaml.SafeLoader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = error.problem or error.context or "cannot be parsed"
        source.refuse(mark.line + 1 if mark else 0, f"not valid YAML: {problem}", _hint(problem))
    except yaml.YAMLError as error:
        source.refuse(0, f"not valid YAML: {str(error).splitlines()[0]}")
    if len(nodes) > 1:
        line = nodes[1].start_mark.line + 1
        source.refuse(line, "a second YAML document; a configuration is one")
    if not nodes or nodes[0] is None:
        return Node(None, 0)
    return _Reader(source, most).read(nodes[0], 0, ())


def _bound(text: str, source: Source, most: int) -> None:
    """Walks the events, which costs no memory and no recursion, before anything is composed."""
    depth = 0
    for count, event in enumerate(yaml.parse(text, Loader=yaml.SafeLoader)):
        depth += isinstance(event, yaml.CollectionStartEvent)
        depth -= isinstance(event, yaml.CollectionEndEvent)
        line = event.start_mark.line + 1 if event.start_mark else 0
        if depth > DEEPEST:
            source.refuse(line, f"nested more than {DEEPEST} levels deep")
        if count > 2 * most:
            source.refuse(line, f"more than {most} values: no configuration is so large")


def _hint(problem: str) -> str | None:
    if "'\\t'" in problem:
        return "indent with spaces, not with tabs"
    if "mapping values are not allowed" in problem:
        return "quote a value that has a colon and a space in it"
    if "undefined alias" in problem or "expected alphabetic" in problem:
        return "quote a pattern that begins with *"
    return None


class _Reader:
    """Expands aliases and merges while it counts, so that a bomb ends in an error."""

    def __init__(self, source: Source, most: int) -> None:
        self.source, self.most = source, most
        self.count = 0

    def read(self, node: yaml.Node, key_line: int, open_nodes: tuple[int, ...]) -> Node:
        self.count += 1
        line = node.start_mark.line + 1
        if self.count > self.most:
            self.source.refuse(line, f"aliases expand to more than {self.most} values")
        if id(node) in open_nodes:
            self.source.refuse(line, "an alias inside its own anchor")
        inside = (*open_nodes, id(node))
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, line, key_line)
        if node.tag not in {f"{_TAG}seq", f"{_TAG}map"}:
            self._refuse_tag(node, line)
        if isinstance(node, yaml.SequenceNode):
            return Node([self.read(item, 0, inside) for item in node.value], line, key_line)
        return Node(self._mapping(node, inside), line, key_line)

    def _mapping(self, node: yaml.Node, inside: tuple[int, ...]) -> dict[str, Node]:
        own: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                merged = {**self._merged(value, line, inside), **merged}
                continue
            if not isinstance(key, yaml.ScalarNode) or key.tag not in _SCALARS:
                self.source.refuse(line, "a key has to be plain text")
            name = key.value  # as written: 0.10 is a layer's name, not the number 0.1
            if name in own:
                first = own[name].key_line
                self.source.refuse(line, f"key {name!r} is given twice (first in line {first})")
            own[name] = self.read(value, line, inside)
        return {**merged, **own}

    def _merged(self, value: yaml.Node, line: int, inside: tuple[int, ...]) -> dict[str, Node]:
        """`<<: *base` or `<<: [*first, *second]`, of which the first wins."""
        bases = value.value if isinstance(value, yaml.SequenceNode) else [value]
        found: dict[str, Node] = {}
        for base in bases:
            node = self.read(base, line, inside)
            if not isinstance(node.value, dict):
                self.source.refuse(line, "<< merges mappings only")
            found = {**node.value, **found}
        return found

    def _scalar(self, node: yaml.ScalarNode, line: int, key_line: int) -> Node:
        if node.tag not in _SCALARS:
            self._refuse_tag(node, line)
        if node.style is not None and node.tag == _STRING:
            return Node(node.value, line, key_line)
        return Node(_value(node), line, key_line, node.value)

    def _refuse_tag(self, node: yaml.Node, line: int) -> None:
        tag = node.tag.replace(_TAG, "!!")
        self.source.refuse(line, f"the tag {tag} is not allowed", "a configuration is plain data")


def _value(node: yaml.ScalarNode) -> Scalar:
    """What an unquoted scalar means, without the surprises of YAML 1.1.

    010 (an octal 8 there), 1:30 (base 60) and dates stay the text that they were written as, and so
    fail where a number is wanted instead of being another number.
    """
    kind, text = node.tag.removeprefix(_TAG), str(node.value)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() in {"yes", "true", "on"}
    if kind == "int" and _WHOLE.fullmatch(text):
        return int(text)
    if kind == "float":
        return _as_float(text)
    return text


def _as_float(text: str) -> float | str:
    """`.inf` and `.nan` are numbers too: whoever wants a finite one can say so."""
    try:
        return float(text.replace("_", "").lower().replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        return text
