"""`metrics.jsonl`: one object an optimizer step, and one a validation."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from ..core import files


class MetricsLog:
    """Appends lines; after a resume, lines of steps beyond the checkpoint are taken back first."""

    def __init__(self, path: Path):
        self.path = path

    def rewind(self, step: int) -> None:
        """Keep the lines up to and with `step`; a torn last line goes as well."""
        if not self.path.exists():
            return
        kept = []
        for line in self.path.read_bytes().splitlines():
            try:
                entry = json.loads(line)
            except ValueError:
                break
            if entry["step"] <= step:
                kept.append(line)
        files.write_bytes(self.path, b"".join(line + b"\n" for line in kept))

    def append(self, entry: dict[str, Any]) -> None:
        """One line, at once visible to readers; a number that is not finite is null, for JSON has no word for it."""
        plain = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in entry.items()}
        with files.writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(plain) + "\n")


class NoLog(MetricsLog):
    """For a process that does not write."""

    def rewind(self, step: int) -> None:
        """Nothing was written."""

    def append(self, entry: dict[str, Any]) -> None:
        """Nothing is written."""
