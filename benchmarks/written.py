"""What the benchmarks write: figures with the date, the command, the machine and the versions."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from tunesmith.core.versions import installed
from tunesmith.pipelines import machine

_SERVICE = ("sqlalchemy", "fastapi", "uvicorn", "httpx2", "psycopg")


def percentile(values: list[float], share: float) -> float:
    """The value below which a share of the values lies, in milliseconds."""
    return round(1000 * sorted(values)[min(len(values) - 1, int(share * len(values)))], 2)


def told(values: list[float]) -> dict[str, float]:
    """p50, p95, p99 and the longest, in milliseconds."""
    named = {f"p{share}": percentile(values, share / 100) for share in (50, 95, 99)}
    return named | {"longest": percentile(values, 1.0), "count": len(values)}


def command() -> str:
    """As it was typed; of a path the last part alone, for folders tell whose machine it was."""
    words = [word if word.startswith("-") or "/" not in word else Path(word).name for word in sys.argv[1:]]
    return " ".join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *words])


def write(figures: dict[str, Any], out: Path | None) -> None:
    """To `out`, and to stdout."""
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "command": command(), "machine": machine.machine(),
        "load_before": LOAD, "versions": machine.versions() | installed(_SERVICE),
    } | figures  # fmt: skip
    text = json.dumps(facts, indent=1) + "\n"
    if out:
        out.write_text(text, "utf-8")
    print(text, end="")


LOAD = [round(value, 2) for value in os.getloadavg()]
"""Of the last 1, 5 and 15 minutes, when the benchmark began: what else the machine had to do."""
