"""Make room for the demo: an earlier demo is removed, anything else is left alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path


def remove_earlier(out: Path, name: str) -> bool:
    """Remove the folder `out` when it holds a run called `name`; True when it did."""
    try:
        earlier = json.loads((out / "run.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    if earlier.get("name") != name:
        return False
    shutil.rmtree(out)
    return True
