"""YAML to plain values, with the line of every key. Safe tags only; a key given twice is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from ..core.errors import ContentError

Path = tuple[str | int, ...]
_COLLECTIONS = ("tag:yaml.org,2002:map", "tag:yaml.org,2002:seq")


@dataclass
class Located:
    """A YAML document as plain values, and the line (from 1) of every key and list item by its path."""

    value: Any
    lines: dict[Path, int] = field(default_factory=dict)

    def line(self, path: Path) -> int | None:
        """The line of the longest known beginning of `path`."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return None


def parse(text: str, name: str) -> Located:
    """Read one document; ContentError with file and line for anything that is not YAML."""
    located = Located(None)
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if node is not None:
            located.value = _value(node, (), located, name)
    except RecursionError as error:
        raise ContentError(
            f"{name} is not valid YAML", where=name, why="it is nested without end", mend="remove anchors in a circle"
        ) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ContentError(
            f"{name} is not valid YAML", where=f"{name}:{mark.line + 1}" if mark else name, why=str(error.problem),
            mend="check indentation, colons and quotes on that line and the one before",
        ) from error  # fmt: skip
    except yaml.YAMLError as error:
        raise ContentError(f"{name} is not valid YAML", where=name, why=str(error).splitlines()[0]) from error
    return located


def _value(node: yaml.Node, path: Path, located: Located, name: str) -> Any:
    if isinstance(node, yaml.CollectionNode) and node.tag not in _COLLECTIONS:
        raise _not_plain(f"the tag {node.tag}", node, name)
    if isinstance(node, yaml.MappingNode):
        return _mapping(node, path, located, name)
    if isinstance(node, yaml.SequenceNode):
        items = []
        for index, item in enumerate(node.value):
            located.lines[(*path, index)] = item.start_mark.line + 1
            items.append(_value(item, (*path, index), located, name))
        return items
    try:
        return yaml.SafeLoader("").construct_object(node)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: 2024-13-45 has the form of a date and is none
        raise _not_plain(str(error).splitlines()[0], node, name) from error


def _not_plain(why: str, node: yaml.Node, name: str) -> ContentError:
    return ContentError(
        "only plain YAML values are read", where=f"{name}:{node.start_mark.line + 1}", why=why,
        mend="put the value in quotes if it is a text",
    )  # fmt: skip


def _mapping(node: yaml.MappingNode, path: Path, located: Located, name: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            raise ContentError(f"the key '{key}' is given twice", where=f"{name}:{line}", mend="keep one of the two")
        located.lines[(*path, key)] = line
        values[key] = _value(value_node, (*path, key), located, name)
    return values
