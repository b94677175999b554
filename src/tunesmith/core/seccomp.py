"""A seccomp filter that leaves a process what Python needs to compute, and nothing else. Linux, x86-64 and ARM64.

A list of what is allowed, for what is forgotten in it is then forbidden, and so are x32's other names for the same
calls. Left out are, among others: sockets, new processes and programs, signals to others, everything that changes files
by name, mounts, namespaces, tracing, shared memory, io_uring and keys. What is forbidden fails with EPERM, which Python
raises as PermissionError.

The filter is classic BPF (seccomp(2), Documentation/userspace-api/seccomp_filter.rst): it loads words of `struct
seccomp_data` (number at 0, architecture at 4, argument i at 16 + 8 i) and jumps.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06
_ALLOW, _KILL, _FAIL = 0x7FFF0000, 0x80000000, 0x00050000
_SET_NO_NEW_PRIVS, _SET_MODE_FILTER = 38, 1
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SECCOMP = {"x86_64": 317, "aarch64": 277}

# Numbers of the calls: name, x86-64 (asm/unistd_64.h), ARM64 (asm-generic/unistd.h; - where it has none).
_FREE = """
read 0 63; write 1 64; close 3 57; fstat 5 80; lseek 8 62; mmap 9 222; mprotect 10 226; munmap 11 215; brk 12 214;
rt_sigaction 13 134; rt_sigprocmask 14 135; rt_sigreturn 15 139; pread64 17 67; readv 19 65; writev 20 66; access 21 -;
pipe 22 -; pipe2 293 59; select 23 -; poll 7 -; pselect6 270 72; ppoll 271 73; sched_yield 24 124; mremap 25 216;
mincore 27 232; madvise 28 233; dup 32 23; dup2 33 -; dup3 292 24; pause 34 -; nanosleep 35 101; getitimer 36 102;
alarm 37 -; setitimer 38 103; getpid 39 172; exit 60 93; uname 63 160; getcwd 79 17; chdir 80 49; umask 95 166;
readlink 89 -; readlinkat 267 78; stat 4 -; lstat 6 -; newfstatat 262 79; statx 332 291; faccessat 269 48;
faccessat2 439 439; getdents64 217 61; gettimeofday 96 169; getrlimit 97 163; getrusage 98 165; sysinfo 99 179;
times 100 153; getuid 102 174; getgid 104 176; geteuid 107 175; getegid 108 177; getppid 110 173; getpgrp 111 -;
getgroups 115 158; getresuid 118 148; getresgid 120 150; getpgid 121 155; getsid 124 156; rt_sigpending 127 136;
rt_sigtimedwait 128 137; rt_sigsuspend 130 133; sigaltstack 131 132; statfs 137 43; fstatfs 138 44;
sched_getparam 143 121; sched_getscheduler 145 120; sched_get_priority_max 146 125; sched_get_priority_min 147 126;
arch_prctl 158 -; gettid 186 178; time 201 -; futex 202 98; sched_getaffinity 204 123; set_tid_address 218 96;
restart_syscall 219 128; fadvise64 221 223; clock_gettime 228 113; clock_getres 229 114; clock_nanosleep 230 115;
exit_group 231 94; epoll_wait 232 -; epoll_ctl 233 21; set_robust_list 273 99; get_robust_list 274 100;
epoll_pwait 281 22; eventfd2 290 19; epoll_create1 291 20; getcpu 309 168; getrandom 318 278; membarrier 324 283;
rseq 334 293; recvfrom 45 207; close_range 436 436; futex_waitv 449 449
"""
_FILES = """
fsync 74 82; fdatasync 75 83; ftruncate 77 46; rename 82 -; renameat 264 38; renameat2 316 276; mkdir 83 -;
mkdirat 258 34; rmdir 84 -; unlink 87 -; unlinkat 263 35; pwrite64 18 68; flock 73 32
"""
_OPEN, _OPENAT = {"x86_64": 2}, {"x86_64": 257, "aarch64": 56}
_IOCTL, _FCNTL, _PRCTL = {"x86_64": 16, "aarch64": 29}, {"x86_64": 72, "aarch64": 25}, {"x86_64": 157, "aarch64": 167}
_CLONE, _CLONE3 = {"x86_64": 56, "aarch64": 220}, {"x86_64": 435, "aarch64": 435}
_TGKILL, _PRLIMIT = {"x86_64": 234, "aarch64": 131}, {"x86_64": 302, "aarch64": 261}
_SOCKETPAIR, _SENDTO = {"x86_64": 53, "aarch64": 199}, {"x86_64": 44, "aarch64": 206}

_THREAD = 0x10000
_UNIX = 1
"""The family of socket pairs, by which asyncio wakes itself; to name another address is refused."""
_TRUNCATE = 0o1000
_IOCTLS = (0x5401, 0x5413, 0x541B, 0x5421, 0x5450, 0x5451)
"""Is it a terminal, of what size, how much waits, do not wait, close on exec and not.

Not TIOCSTI, which types into a terminal."""
_FCNTLS = (0, 1, 2, 3, 4, 1030)
"""Copies of descriptors and their flags. Not F_SETOWN, by which a signal may be sent to others."""
_PRCTLS = (15, 16)
"""A thread's name."""

Instruction = tuple[int, int, int, int]
"""Code, jump where true, jump where false, constant."""


def install(*, truncation: bool, threads: bool, files: bool) -> None:
    """Confine this process for good. OSError where the system does not offer it.

    `truncation` allows O_TRUNC, `threads` threads, `files` to make, rename and delete files, which something else must
    confine to a folder.

    Only the calling thread is confined, and those that it starts; call it while there is one.
    """
    program = _program(platform.machine(), truncation, threads, files)
    raw = b"".join(struct.pack("=HBBI", *instruction) for instruction in program)
    held = ctypes.create_string_buffer(raw, len(raw))

    class Program(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_void_p)]

    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs cannot be set")
    given = Program(len(program), ctypes.cast(held, ctypes.c_void_p))
    if library.syscall(_SECCOMP[platform.machine()], _SET_MODE_FILTER, 0, ctypes.byref(given)):
        raise OSError(ctypes.get_errno(), "seccomp takes no filter")


def _program(machine: str, truncation: bool, threads: bool, files: bool) -> list[Instruction]:
    if machine not in _ARCHITECTURES:
        raise OSError(errno.ENOSYS, f"no seccomp filter is written for {machine}")
    body: list[Instruction] = [
        (_LOAD, 0, 0, 4), (_EQUAL, 1, 0, _ARCHITECTURES[machine]), _ret(_KILL), (_LOAD, 0, 0, 0),
    ]  # fmt: skip
    for number in _numbers(_FREE + (";" + _FILES if files else ""), machine):
        body += _case(number, [_ret(_ALLOW)])
    truncating = _ret(_ALLOW if truncation else _FAIL | errno.EACCES)
    opened = [(_ANY_BIT, 0, 1, _TRUNCATE), truncating, _ret(_ALLOW)]
    cases = (
        (_OPEN, [_argument(1), *opened]),
        (_OPENAT, [_argument(2), *opened]),
        (_IOCTL, _one_of(1, _IOCTLS)),
        (_FCNTL, _one_of(1, _FCNTLS)),
        (_PRCTL, _one_of(0, _PRCTLS)),
        (_TGKILL, _one_of(0, (os.getpid(),))),
        (_CLONE, [_argument(0), (_ANY_BIT, 0, 1, _THREAD), _ret(_ALLOW), _refused()] if threads else [_refused()]),
        (_SOCKETPAIR, _one_of(0, (_UNIX,))),
        (_SENDTO, _null(4)),
        (_CLONE3, [_ret(_FAIL | errno.ENOSYS)]),  # its flags lie in memory, out of sight; the C library takes clone
        (_PRLIMIT, _null(2)),
    )
    for numbers, block in cases:
        if machine in numbers:
            body += _case(numbers[machine], block)
    return [*body, _refused()]


def _numbers(table: str, machine: str) -> Iterable[int]:
    column = 1 if machine == "x86_64" else 2
    numbers = (entry.split()[column] for entry in table.split(";"))
    return [int(number) for number in numbers if number != "-"]


def _case(number: int, block: list[Instruction]) -> list[Instruction]:
    """`block`, which returns, where the call has this number. The number is loaded before and after."""
    return [(_EQUAL, 0, len(block), number), *block]


def _one_of(argument: int, values: Iterable[int]) -> list[Instruction]:
    tests = [step for value in values for step in ((_EQUAL, 0, 1, value), _ret(_ALLOW))]
    return [_argument(argument), *tests, _refused()]


def _null(argument: int) -> list[Instruction]:
    """Both words of a pointer."""
    high = (_LOAD, 0, 0, 16 + 8 * argument + 4)
    return [_argument(argument), (_EQUAL, 0, 3, 0), high, (_EQUAL, 0, 1, 0), _ret(_ALLOW), _refused()]


def _argument(number: int) -> Instruction:
    """Load the low word of an argument."""
    return (_LOAD, 0, 0, 16 + 8 * number)


def _refused() -> Instruction:
    return _ret(_FAIL | errno.EPERM)


def _ret(value: int) -> Instruction:
    return (_RETURN, 0, 0, value)
