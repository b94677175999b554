"""What this run ran on, and with what. Loads no torch."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import psutil

from ..core.versions import installed

_PACKAGES = ("tunesmith", "torch", "transformers", "tokenizers", "safetensors", "numpy")


def versions() -> dict[str, str]:
    """Versions of what determines a result."""
    return {"python": platform.python_version()} | installed(_PACKAGES)


def machine() -> dict[str, str]:
    """Processor, cores, memory, system; no host name: reports are passed on."""
    gib = psutil.virtual_memory().total / 2**30
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()),
        "memory": f"{gib:.0f} GiB",
        "system": f"{platform.system()} {platform.machine()}",
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or "unknown"
