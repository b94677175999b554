"""What this machine has, what is missing, and what each extra would bring."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import psutil
import torch

from ..engine import precision
from ..engine.rate import matrix_rate
from ..models.kernels import native
from ..models.refs import bundled_names
from . import machine

EXTRAS = {
    "lm-eval": (("lm_eval",), "tasks of lm-evaluation-harness (tunesmith evaluate --lm-eval)"),
    "pii": (("presidio_analyzer",), "names and places as personal data (with a spaCy model)"),
    "dev": (("pytest", "mypy", "ruff", "peft"), "tests, linters, parity with PEFT"),
}
_GIB = 2**30
LEAST_DISK_GIB, LEAST_MEMORY_GIB = 2, 4


@dataclass(frozen=True)
class Check:
    """One line of the examination."""

    name: str
    state: Literal["ok", "warn", "missing"]
    text: str
    mend: str = ""


def examine(folder: Path) -> list[Check]:
    """Look at Python packages, processor, memory, disk at `folder`, GPU, bundled bases and extras."""
    facts = machine.machine()
    return [
        Check("versions", "ok", ", ".join(f"{k} {v}" for k, v in machine.versions().items())),
        Check("processor", "ok", f"{facts['processor']}, {facts['cores']} cores, {facts['system']}"),
        _precision(),
        _kernels(),
        _memory(),
        _disk(folder),
        _gpu(),
        Check("bundled bases", "ok", ", ".join(bundled_names())),
        *_extras(),
    ]


def _precision() -> Check:
    rates = ", ".join(f"{name} {matrix_rate(dtype) / 1e9:.0f} GFLOP/s" for name, dtype in precision.DTYPES.items())
    return Check("number type", "ok", f"{precision.choose('auto')} is used; matrix rate on the CPU: {rates}")


def _kernels() -> Check:
    if native.library() is None:
        why = "none: a training step is computed by torch alone"
        return Check("kernels", "missing", why, "for faster steps, install a C compiler (apt install gcc)")
    means = {native.UNIT: "the matrix unit (AMX)", native.VECTORS: "vectors (AVX-512)"}
    by = means.get(native.attention_by(), "torch: no products in bf16")
    return Check("kernels", "ok", f"compiled for this processor; attention by {by}")


def _memory() -> Check:
    memory = psutil.virtual_memory()
    text = f"{memory.available / _GIB:.1f} GiB of {memory.total / _GIB:.1f} GiB available"
    if memory.available < LEAST_MEMORY_GIB * _GIB:
        return Check("memory", "warn", text, "close other programs, or choose a smaller batch")
    return Check("memory", "ok", text)


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / _GIB
    text = f"{free:.1f} GiB free at {folder}"
    if free < LEAST_DISK_GIB:
        return Check("disk", "warn", text, "free some space: checkpoints need it")
    return Check("disk", "ok", text)


def _gpu() -> Check:
    if not torch.cuda.is_available():
        return Check("GPU", "missing", "none that torch can use; all runs on the CPU", "not needed for small bases")
    names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
    return Check("GPU", "ok", names)


def _extras() -> list[Check]:
    checks = []
    for name, (modules, brings) in EXTRAS.items():
        absent = [m for m in modules if find_spec(m) is None]
        state: Literal["ok", "missing"] = "missing" if absent else "ok"
        mend = f"pip install 'tunesmith[{name}]'" if absent else ""
        checks.append(Check(f"extra [{name}]", state, brings, mend))
    return checks


def as_json(checks: list[Check]) -> dict[str, Any]:
    """One object for --json."""
    return {"checks": [vars(c) for c in checks]}
