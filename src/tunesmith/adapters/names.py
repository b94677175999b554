"""Which parameters a recipe means, by their dotted names. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from ..core.errors import ContentError, nearest

BLOCK = re.compile(r"^(?P<stem>(?:[^.]+\.)*?(?:layers|h|block|blocks|layer))\.(?P<number>\d+)\.")


def last_blocks(names: Sequence[str], count: int) -> list[str]:
    """Parameters of the last `count` decoder blocks, in their order. ContentError where there are fewer blocks."""
    stems: dict[str, set[int]] = {}
    for name in names:
        if found := BLOCK.match(name):
            stems.setdefault(found["stem"], set()).add(int(found["number"]))
    decoders = [stem for stem in stems if "decoder" in stem] or [s for s in stems if "encoder" not in s]
    if not decoders:
        raise ContentError(
            "adapter.last: this base has no numbered blocks that Tunesmith knows",
            mend="name what is to be trained: adapter: {type: layers, names: [...]}",
        )
    stem = max(decoders, key=lambda s: len(stems[s]))
    numbers = sorted(stems[stem])
    if count > len(numbers):
        raise ContentError(
            f"adapter.last is {count}, but the base has {len(numbers)} blocks",
            mend=f"set adapter.last to {len(numbers)} or less, or use adapter: {{type: full}}",
        )
    wanted = tuple(f"{stem}.{number}." for number in numbers[-count:])
    return [name for name in names if name.startswith(wanted)]


def chosen_names(names: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Parameters that a pattern means, in their order. ContentError for a pattern that means none."""
    for pattern in patterns:
        if not any(_means(pattern, name) for name in names):
            parts = {part for name in names for part in name.split(".") if not part.isdigit()}
            raise ContentError(
                f"adapter.names: nothing in the base is called '{pattern}'", mend=nearest(pattern, parts)
            )
    return [name for name in names if any(_means(pattern, name) for pattern in patterns)]


def _means(pattern: str, name: str) -> bool:
    """Whole parts of the dotted name in a row, or a pattern for all of it."""
    return f".{pattern}." in f".{name}." or fnmatchcase(name, pattern)
