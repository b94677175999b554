"""A mapping file, a preset, or the one laid over the other, to a checked Mapping. Errors name file, line, near miss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..core.errors import ContentError, MissingError, UsageError, nearest
from ..data.tickets import PRESETS, preset
from ..data.tickets.mapping import Mapping
from .read_recipe import explained
from .yaml_lines import Located, parse

_TABLES = ("tickets", "comments", "people")
_MEND = "docs/customer-systems.md lists all keys"


def read_mapping(name: str | None, path: Path | None) -> Mapping:
    """The preset called `name`, the mapping at `path`, or the mapping over the preset.

    Over a preset, keys of `tickets`, `comments` or `people` are laid over each of its tables; a list replaces them.
    UsageError, MissingError, ContentError.
    """
    if name is None and path is None:
        raise UsageError("what do the columns mean?", mend=f"name --preset ({', '.join(PRESETS)}) or --mapping FILE")
    if name is not None and name not in PRESETS:
        raise UsageError(f"no preset is called '{name}'", mend=nearest(name, PRESETS))
    below = _read(preset(name)).value if name else {}
    own = _read(path) if path else Located({})
    try:
        return Mapping.model_validate(_laid_over(below, own.value))
    except ValidationError as error:
        raise explained(error, path or preset(name or ""), own, own.value, root=Mapping, mend=_MEND) from None


def _read(path: Path) -> Located:
    if not path.is_file():
        raise MissingError(f"no such mapping: {path}", mend=f"name a YAML file; {_MEND}")
    try:
        located = parse(path.read_text("utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise ContentError(f"{path} is not in UTF-8", why=str(error), mend="save it as UTF-8") from error
    except OSError as error:
        raise MissingError(f"cannot read {path}", why=error.strerror, mend="change its permissions") from error
    if not isinstance(located.value, dict):
        mend = f"it must name at least comments: {{ticket: COLUMN, body: COLUMN}}; {_MEND}"
        raise ContentError(f"{path} holds no mapping", where=f"{path}:1", mend=mend)
    return located


def _laid_over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = below | above
    for key in _TABLES:
        if isinstance(above.get(key), dict) and isinstance(below.get(key), list):
            merged[key] = [table | above[key] for table in below[key]]
    return merged
