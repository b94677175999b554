"""The audit by itself: of loose files, or of a recipe."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..core.errors import UsageError
from ..data.config import DataSpec, SourceSpec
from ..data.formats import named
from ..models.refs import DEFAULT
from .prepare import Prepared, prepare
from .read_recipe import placed, read_recipe
from .recipe import RunSpec


def check_recipe(path: Path) -> Prepared:
    """Everything a recipe names, as a run would see it."""
    with placed(path):
        return prepare(read_recipe(path), path.parent, keep_tokens=False)


def check_files(files: Sequence[Path], *, base: str | None, test: Path | None, format: str | None) -> Prepared:
    """Loose files as training rows of one recipe with default settings."""
    if not files:
        raise UsageError("name at least one file")
    if format:
        named(format)
    data = DataSpec(
        train=tuple(SourceSpec(path=str(file), format=format) for file in files),
        validation=0.0,
        test=SourceSpec(path=str(test), format=format) if test else None,
    )
    return prepare(RunSpec(data=data, base=base or DEFAULT), keep_tokens=False)
