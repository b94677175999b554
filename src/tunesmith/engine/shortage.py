"""What processes that ran out of memory under FSDP leave to those that start again in their place.

Under FSDP the others wait for this process's weights in the middle of a pass, where nothing can be agreed any more. So
this one writes into how many parts micro-batches are to be cut and ends; the others notice; all start again from the
newest checkpoint and cut them so.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from ..core import files

_FILE = "micro-batch.json"


def note(folder: Path, parts: int) -> None:
    """Write into the checkpoints' folder how many parts the next try takes; of several processes any may."""
    with files.writing(folder):
        folder.mkdir(exist_ok=True)
        files.write_json(folder / _FILE, {"parts": parts})


def noted(folder: Path) -> int:
    """The parts that were noted; 1 where nothing was, or nothing that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return max(1, int(json.loads((folder / _FILE).read_text("utf-8"))["parts"]))
    return 1


def forget(folder: Path) -> None:
    """A new training begins with whole micro-batches."""
    with files.writing(folder):
        (folder / _FILE).unlink(missing_ok=True)
