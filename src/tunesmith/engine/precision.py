"""The number type of a training, by what the machine is fast in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import torch

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}


def choose(precision: str) -> str:
    """`auto` resolved to `bf16` or `fp32`: bf16 on a GPU that has it and on a CPU with instructions for it."""
    if precision != "auto":
        return precision
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported() else "fp32"
    return "bf16" if cpu_has_bf16() else "fp32"


def cpu_has_bf16() -> bool:
    """Whether the CPU multiplies bf16 matrices in hardware (avx512_bf16 or amx_bf16; Linux only)."""
    try:
        flags = Path("/proc/cpuinfo").read_text("utf-8")
    except OSError:
        return False
    return "avx512_bf16" in flags or "amx_bf16" in flags


def context(number_type: str, model: Any) -> AbstractContextManager[object]:
    """Mixed precision for a model whose weights are float32 under bf16; nothing where they have the type already."""
    weight = next(model.parameters())
    if number_type == "bf16" and weight.dtype == torch.float32:
        return torch.autocast(device_type=weight.device.type, dtype=torch.bfloat16)
    return nullcontext()
