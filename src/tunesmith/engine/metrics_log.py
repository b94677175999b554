"""`metrics.jsonl`: one object an optimizer step, and one a validation."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ..core import files

_TRAIN, _VALIDATION = "loss", "validation_loss"

Curve = Sequence[tuple[int, float]]
"""(step, loss) in the order of steps."""


def finite(value: Any) -> Any:
    """The value; None for a number that is not finite, for JSON has no word for it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


class MetricsLog:
    """Appends lines; after a resume, lines of steps beyond the checkpoint are taken back first."""

    def __init__(self, path: Path):
        self.path = path

    def rewind(self, step: int, train: Curve = (), validation: Curve = ()) -> None:
        """Keep the lines up to and with `step`; a torn last line goes as well.

        Lines are not synced one by one, so that a machine that lost its power may lack some that a checkpoint knows
        of: step and loss of these are written again out of its curves.
        """
        known = {(s, _VALIDATION): v for s, v in validation} | {(s, _TRAIN): v for s, v in train}
        lines = {place: line for place, line in self._read() if place[0] <= step}
        missing = known.keys() - lines.keys()
        lines |= {place: _line({"step": place[0], place[1]: known[place]}) for place in missing}
        if lines or self.path.exists():
            files.write_bytes(self.path, b"".join(lines[place] + b"\n" for place in sorted(lines)))

    def _read(self) -> Iterator[tuple[tuple[int, str], bytes]]:
        """((step, which loss), line) up to the first line that is torn."""
        if not self.path.exists():
            return
        for line in self.path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
                place = (int(entry["step"]), _VALIDATION if _VALIDATION in entry else _TRAIN)
            except (ValueError, TypeError, KeyError):
                return
            yield place, line

    def append(self, entry: dict[str, Any]) -> None:
        """One line, at once visible to readers; a number that is not finite is null."""
        with files.writing(self.path), self.path.open("ab") as file:
            file.write(_line(entry) + b"\n")


def _line(entry: dict[str, Any]) -> bytes:
    return json.dumps({key: finite(value) for key, value in entry.items()}, allow_nan=False).encode()


class NoLog(MetricsLog):
    """For a process that does not write."""

    def rewind(self, step: int, train: Curve = (), validation: Curve = ()) -> None:
        """Nothing was written."""

    def append(self, entry: dict[str, Any]) -> None:
        """Nothing is written."""
