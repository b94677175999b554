"""The beginning of a text in one line, for people to read: masked, and without characters that act on a terminal."""

from __future__ import annotations

from .pii import find as by_shape
from .pii import mask
from .pii.mask import Find

LONGEST = 120
"""Characters."""
READ = 1 << 20
"""Characters that are looked at: far more than are shown, so that no value is cut before it is masked."""


def excerpt(text: str, longest: int = LONGEST, find: Find = by_shape) -> str:
    """At most `longest` characters. What `find` finds is masked before the text is cut: no value is shown in part."""
    masked = mask([text[:READ]], find=find).texts[0]
    line = "".join(map(visible, " ".join(masked.split())[: longest + 1]))
    return line if len(line) <= longest else line[: longest - 1] + "…"


def visible(letter: str) -> str:
    """What cannot be seen, spelled out; white space stays."""
    return letter if letter.isprintable() or letter.isspace() else letter.encode("unicode_escape").decode()
