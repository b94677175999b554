"""YAML to plain values, with the line of every key. Safe tags only; a key given twice is an error."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import yaml

from ..core.errors import ContentError

Path = tuple[str | int, ...]


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
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        raise ContentError(
            f"{name} is not valid YAML", where=f"{name}:{mark.line + 1}" if mark else name, why=str(error.problem),
            mend="check indentation, colons and quotes on that line and the one before",
        ) from error  # fmt: skip
    except yaml.YAMLError as error:
        raise ContentError(f"{name} is not valid YAML", where=name, why=str(error).splitlines()[0]) from error
    located = Located(None)
    if node is not None:
        located.value = _value(node, (), located, name)
    return located


def _value(node: yaml.Node, path: Path, located: Located, name: str) -> Any:
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
    except yaml.YAMLError as error:
        raise ContentError(
            "only plain YAML values are read",
            where=f"{name}:{node.start_mark.line + 1}",
            why=str(error).splitlines()[0],
        ) from error


def _mapping(node: yaml.MappingNode, path: Path, located: Located, name: str) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key_node, value_node in node.value:
        key, line = str(key_node.value), key_node.start_mark.line + 1
        if key in values:
            raise ContentError(f"the key '{key}' is given twice", where=f"{name}:{line}", mend="keep one of the two")
        located.lines[(*path, key)] = line
        values[key] = _value(value_node, (*path, key), located, name)
    return values
