"""The C beside this file compiled for this machine's processor, once, by the C compiler that is installed.

The library lies in the user's cache folder under a name made of the source, the compiler and the processor. Where there
is no compiler, or TUNESMITH_KERNELS=torch says so, all is computed by torch.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

FOLDER = Path(__file__).parent
SOURCES = ("native.c", "attention.c")
_HEADERS = ("numbers.h", "blocks.h")
_COMPILERS = ("cc", "gcc", "clang")
_FLAGS = ("-O3", "-march=native", "-fopenmp", "-fno-math-errno", "-fno-trapping-math", "-shared", "-fPIC")
_LONGEST = 120.0
"""Seconds that a compiler may take."""
VECTORS, UNIT = 1, 2
"""What blocks of products are made by in `attention.c`: AVX-512 with products in bf16, and the matrix unit (AMX)."""
_TILES = ("-mamx-tile", "-mamx-bf16")
"""For a processor with a matrix unit, of which compilers hear nothing in a virtual machine; old ones do not know it."""


@cache
def library() -> ctypes.CDLL | None:
    """The functions in C; None where they are not wanted or cannot be had."""
    if os.environ.get("TUNESMITH_KERNELS") == "torch" or platform.system() != "Linux":
        return None
    compiler = next(filter(None, map(shutil.which, _COMPILERS)), None)
    if compiler is None:
        return None
    for flags in ((*_FLAGS, *_TILES), _FLAGS) if "amx_bf16" in _processor() else (_FLAGS,):
        try:
            return ctypes.CDLL(str(_built(compiler, flags)))
        except (OSError, RuntimeError, subprocess.SubprocessError):  # no home is a RuntimeError
            continue
    return None


def usable(*tensors: Tensor) -> bool:
    """Whether these can be given to the library: bf16 on a CPU, and there is one. Whatever learns and what it is held
    against (a reference, a validation) is computed by it; what answers, in inference mode, by torch."""
    narrow = all(one.dtype == torch.bfloat16 and one.device.type == "cpu" for one in tensors)
    return narrow and not torch.is_inference_mode_enabled() and library() is not None


@cache
def attention_by() -> int:
    """The best means that there are for attention: `UNIT`, `VECTORS`, or 0 for none but torch's."""
    found = library()
    return 0 if found is None else int(found.attention_by(UNIT))


def call(name: str, *given: Any) -> int:
    """Run a function of the library on tensors, whole numbers and floats, with torch's number of threads; what it
    gives back, where it gives anything."""
    found = library()
    assert found is not None, "ask `usable` first"  # noqa: S101
    told: int = getattr(found, name)(*map(_passed, given), ctypes.c_int(torch.get_num_threads()))
    return told


def _passed(one: Any) -> Any:
    """As C takes it."""
    if one is None or isinstance(one, Tensor):
        return ctypes.c_void_p(None if one is None else one.data_ptr())
    if isinstance(one, bool):
        return ctypes.c_int(one)
    if isinstance(one, tuple):
        return (ctypes.c_int64 * len(one))(*one)
    return ctypes.c_float(one) if isinstance(one, float) else ctypes.c_int64(one)


def _built(compiler: str, flags: tuple[str, ...]) -> Path:
    """The library's path, compiled if it is not there. OSError or SubprocessError where that fails."""
    sources = [(FOLDER / name).read_text("utf-8") for name in (*SOURCES, *_HEADERS)]
    told = "\n".join((*sources, _run(compiler, "--version"), _processor(), *flags))
    cached = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cached) / "tunesmith" / "kernels"
    made = folder / f"{hashlib.sha256(told.encode()).hexdigest()[:24]}.so"
    if not made.exists():
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryDirectory(dir=folder) as name:
            fresh = Path(name) / made.name
            _run(compiler, *flags, "-o", str(fresh), *(str(FOLDER / one) for one in SOURCES), "-lm")
            fresh.replace(made)
    return made


def _processor() -> str:
    """What it can do, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    return next((line for line in lines if line.startswith(("flags", "Features"))), platform.machine())


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=_LONGEST)  # noqa: S603
    return done.stdout
