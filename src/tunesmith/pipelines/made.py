"""Rows as a method learns them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..data.batch import Item
from ..data.tokens import Sizes


@dataclass(frozen=True)
class Made:
    """Rows as a method learns them."""

    items: Sequence[Item]
    sizes: Sizes
    """Of the items."""
    repeats: list[int]
    """How often each item is seen in an epoch."""
    used: list[int]
    """Places of the rows that the items are made of, in order."""
    lengths: list[int]
    """Tokens of each row used."""
