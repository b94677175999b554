"""Memory of this process: the C library's habits, and how much was used at most."""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import resource
import sys
from contextlib import suppress
from pathlib import Path

import psutil
import torch

_SHORTAGES = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED", "CUDA error: out of memory")
"""In the words of errors that have no type of their own: the host's allocator, cuBLAS, a CUDA call beside PyTorch's
allocator."""
_CLEAR, _STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
_GROUP_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))
_GROUP = Path("/sys/fs/cgroup")
"""Tells a control group's limit and what it uses (cgroup version 2)."""
_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


def keep_large_blocks() -> bool:
    """Tell glibc to keep large freed blocks instead of giving them back to the kernel.

    A training step frees and asks for the same large buffers again; by default each comes as fresh pages that
    must be faulted in. Linux with glibc only; TUNESMITH_MALLOC=default switches it off. True when it took effect.
    """
    if os.environ.get("TUNESMITH_MALLOC") == "default" or platform.libc_ver()[0] != "glibc":
        return False
    libc = ctypes.CDLL(None)
    settings = ((_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 1 << 26))
    return all(libc.mallopt(option, value) == 1 for option, value in settings)


def peak_mb() -> int:
    """The process's largest resident set so far, in MiB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024))


def machine_bytes() -> int:
    """The memory that this process could have at most: the machine's, its control group's or its own limit."""
    limits = [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    for limit in _GROUP_LIMITS:
        with suppress(OSError, ValueError):  # absent, or the word "max"
            limits.append(int(limit.read_text("ascii")))
    own, _ = resource.getrlimit(resource.RLIMIT_AS)
    return min(limits if own == resource.RLIM_INFINITY else [*limits, own])


def held_mb() -> float:
    """What this process holds now, in MiB: on the GPU where there is one, else in the machine's memory."""
    held = torch.cuda.memory_allocated() if torch.cuda.is_available() else psutil.Process().memory_info().rss
    return float(held) / 2**20


def available_mb() -> float:
    """What this process can still have, in MiB: on its GPU, else of the machine's memory within its control group."""
    if torch.cuda.is_available():
        return float(torch.cuda.mem_get_info()[0]) / 2**20
    free = psutil.virtual_memory().available
    with suppress(OSError, ValueError):  # "max" is no number: no limit
        limit, used = (int((_GROUP / name).read_text("ascii")) for name in ("memory.max", "memory.current"))
        told = (line.split() for line in (_GROUP / "memory.stat").read_text("ascii").splitlines())
        # What the group's files fill is given back when it is needed.
        free = min(free, limit - used + sum(int(one[1]) for one in told if one[0] in ("active_file", "inactive_file")))
    return max(0.0, float(free) / 2**20)


def gpu_peak_mb() -> int | None:
    """The most that tensors took on the GPU so far, in MiB; None without one."""
    return round(torch.cuda.max_memory_allocated() / 2**20) if torch.cuda.is_available() else None


def free() -> None:
    """Give back what nobody holds any more."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def start_over() -> None:
    """Give back what is free, and count the peak anew from here.

    The C library keeps freed blocks, see `keep_large_blocks`: without this a process seems to need what it once needed.
    """
    free()
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        _CLEAR.write_text("5", "ascii")  # proc(5): resets VmHWM


def peak_since_mb() -> int | None:
    """The peak since `start_over` in MiB, on the GPU where there is one; None where the system does not tell."""
    if torch.cuda.is_available():
        return round(torch.cuda.max_memory_allocated() / 2**20)
    with suppress(OSError):
        lines = _STATUS.read_text("ascii").splitlines()
        return next((round(int(line.split()[1]) / 1024) for line in lines if line.startswith("VmHWM:")), None)
    return None


def out_of_memory(error: BaseException) -> bool:
    """Whether an error tells of a shortage of memory, on a GPU or on the host."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(sign in str(error) for sign in _SHORTAGES)
