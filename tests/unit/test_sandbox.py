"""Foreign code runs and gives its result, and does not get out. Real processes on the real kernel."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tunesmith.core import sandbox
from tunesmith.core.errors import NotAllowedError
from tunesmith.core.sandbox import Limits, Outcome

QUICK = Limits(seconds=20)
RAW = "import ctypes, os\nlibc = ctypes.CDLL(None, use_errno=True)\ncall = libc.syscall\n"
x86 = pytest.mark.skipif(platform.machine() != "x86_64", reason="the numbers are those of x86-64")


def without(layer: str) -> str:
    """The start of the other side on a system that does not offer something."""
    start = "import sys; sys.path.insert(0, {!r}); from tunesmith.core import confined, landlock, mounts, seccomp; "
    return start + layer + "; confined.main()"


@pytest.fixture(params=["landlock", "mounts"])
def layer(request, monkeypatch):
    """Both ways to keep files out of reach."""
    if request.param == "mounts":
        monkeypatch.setattr(sandbox, "_STARTED", without("landlock._CREATE = 9999"))


def run(code: str, data: object = None, **limits: object) -> Outcome:
    return sandbox.run(("code", code), data=data, limits=Limits(**{"seconds": 20, **limits}))


def test_code_gets_its_data_and_gives_its_result():
    found = run("import json, math\nresult = {'sum': math.fsum(data['x']), 'text': 'é'}\nprint('said')", {"x": [1, 2]})
    assert (found.ended, found.result, found.output, found.errors) == (
        "finished",
        {"sum": 3.0, "text": "é"},
        "said\n",
        "",
    )
    assert 0 < found.seconds < 20


def test_parts_share_a_namespace_and_each_is_named_in_errors():
    found = sandbox.run(
        ("answer", "def add(a, b):\n    return a - b"), ("tests", "\nassert add(1, 2) == 3"), limits=QUICK
    )
    assert found.ended == "failed"
    assert 'File "tests", line 2' in found.errors
    assert "AssertionError" in found.errors


@pytest.mark.parametrize(
    "code",
    ["import asyncio\nasync def f():\n    await asyncio.sleep(0.01)\n    return 5\nresult = asyncio.run(f())",
     "from collections import Counter, deque\nimport dataclasses, re, heapq, datetime, random\nresult = 5",
     "import zoneinfo\nresult = 5 if zoneinfo.ZoneInfo('Europe/Berlin').key else 0",
     "import signal\nsignal.setitimer(signal.ITIMER_REAL, 2)\nresult = 5",
     "import contextlib, os\nwith open(os.devnull, 'w') as f, contextlib.redirect_stdout(f):\n    print(1)\nresult = 5",
     "if __name__ == '__main__':\n    result = 5"],
)  # fmt: skip
def test_ordinary_programs_run(code, layer):
    found = run(code)
    assert (found.ended, found.result) == ("finished", 5), found.errors


@pytest.mark.parametrize(
    "code",
    ["raise ValueError('x')", "import sys; sys.exit(0)", "import os; os._exit(0)", "exit()", "def (", "result = {1, 2}",
     "raise KeyboardInterrupt", "import os; os.close(4); os._exit(0)"],
)  # fmt: skip
def test_what_does_not_run_to_its_end_has_not_finished(code):
    assert run(code).ended == "failed"
    assert run(code).result is None


@pytest.mark.parametrize(
    "code",
    ["while True: pass", "import time; time.sleep(60)",
     "import signal\nfor s in range(1, 64):\n    try: signal.signal(s, signal.SIG_IGN)\n"
     "    except (OSError, ValueError): pass\nwhile True: pass",
     "9 ** 9 ** 9", "import re; re.match('(a+)+$', 'a' * 40 + 'b')"],
)  # fmt: skip
def test_time_is_limited(code):
    found = run(code, seconds=0.7)
    assert found.ended == "timeout"
    assert found.seconds < 10


@pytest.mark.parametrize(
    "code",
    ["x = bytearray(1 << 30)", "x = [0]\nwhile True: x += x", "x = 'a'\nwhile True: x += x",
     "import mmap\nheld = []\nwhile True:\n"
     "    held.append(mmap.mmap(-1, 1 << 26))\n    held[-1][::4096] = b'x' * (1 << 14)"],
)  # fmt: skip
def test_memory_is_limited(code):
    found = run(code, memory_mb=200)
    assert found.ended in ("memory", "failed")
    assert found.ended == "memory" or "Cannot allocate memory" in found.errors


@pytest.mark.parametrize("where", ["sys.stdout", "sys.stderr"])
def test_output_is_limited(where):
    found = run(f"import sys\nwhile True: print('x' * 10_000, file={where})")
    assert found.ended == "output"
    assert len(found.output) + len(found.errors) < 1 << 21
    assert run("result = 'x' * (2 << 20)").ended == "output"


REFUSED = {
    "a process": "import os; os.fork()",
    "a bomb of processes": "import os\nwhile True:\n    os.fork()",
    "a program": "import subprocess; subprocess.run(['/bin/true'], check=True)",
    "a shell": "import os; assert os.system('true') == 0",
    "a program in our place": "import os; os.execv('/bin/true', ['true'])",
    "a spawned program": "import os; os.posix_spawn('/bin/true', ['true'], {})",
    "a thread": "import threading; threading.Thread(target=print).start()",
    "a pool": "import multiprocessing; multiprocessing.Pool(1)",
    "a socket": "import socket; socket.socket()",
    "a local socket": "import socket; socket.socket(socket.AF_UNIX)",
    "a raw socket": "import socket; socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "a page": "import urllib.request; urllib.request.urlopen('http://127.0.0.1:1/')",
    "a name": "import socket; assert socket.gethostbyname('localhost.localdomain.invalid')",
    "another signal": "import os, signal; os.kill(os.getppid(), signal.SIGTERM)",
    "a signal to all": "import os, signal; os.kill(-1, signal.SIGKILL)",
    "passwords": "open('/etc/passwd').read()",
    "passwords by a detour": "open('/usr/lib/../../etc/passwd').read()",
    "what the system keeps": "import os; os.listdir('/var')",
    "processes": "import os; os.listdir('/proc')",
    "the parent's environment": "import os; open(f'/proc/{os.getppid()}/environ', 'rb').read()",
    "the parent's memory": "import os; open(f'/proc/{os.getppid()}/mem', 'rb').read(1)",
    "the parent's descriptors": "import os; os.listdir(f'/proc/{os.getppid()}/fd')",
    "a pipe of the parent": (
        "import os\nfor fd in range(64):\n    try:\n        open(f'/proc/{os.getppid()}/fd/{fd}', 'rb')\n"
        "    except OSError:\n        continue\n    result = 'got'\n    break\nelse:\n    raise PermissionError"
    ),
    "a device": "open('/dev/zero', 'rb')",
    "a terminal": "open('/dev/tty', 'w')",
    "a file": "open('/tmp/made-in-the-sandbox', 'w')",
    "a file in memory": "import os; os.memfd_create('x')",
    "a folder": "import os; os.mkdir('/tmp/made-in-the-sandbox')",
    "a link": "import os; os.symlink('/etc/passwd', '/tmp/made-in-the-sandbox')",
    "another root": "import os; os.chroot('/')",
    "another user": "import os; os.setuid(12345)",
    "higher limits": "import resource; resource.setrlimit(resource.RLIMIT_AS, (-1, -1))",
    "a priority": "import os; os.nice(-5)",
    "modules of ours": "import pydantic",
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name, layer):
    found = run(REFUSED[name])
    assert found.ended == "failed", found
    assert not Path("/tmp/made-in-the-sandbox").exists()
    told = ("PermissionError", "not permitted", "denied", "can't start new thread", "URLError", "gaierror",
            "AssertionError", "ModuleNotFoundError", "not allowed", "FileNotFoundError", "Read-only")  # fmt: skip
    assert any(word in found.errors for word in told), found.errors


def test_what_lies_about_is_not_seen(layer, tmp_path):
    (tmp_path / "letter").write_text("dear")
    for code in (f"import os; os.listdir({str(tmp_path)!r})", f"open({str(tmp_path / 'letter')!r}).read()"):
        found = run(code)
        assert found.ended == "failed", found
        assert "PermissionError" in found.errors or "FileNotFoundError" in found.errors


CALLS = {
    "fork": 57, "vfork": 58, "clone": (56, 17, 0, 0, 0, 0), "clone3": (435, 0, 0), "execve": 59, "execveat": 322,
    "socket": (41, 2, 1, 0), "connect": 42, "ptrace": (101, 16, "os.getppid()"), "kill": (62, "os.getppid()", 0),
    "tgkill": (234, "os.getppid()", "os.getppid()", 0), "process_vm_readv": (310, "os.getppid()"),
    "pidfd_open": (434, 1),
    "pidfd_getfd": 438, "io_uring_setup": (425, 1), "bpf": 321, "perf_event_open": 298, "unshare": (272, 0x10000000),
    "setns": 308, "mount": 165, "pivot_root": 155, "open_by_handle_at": 304, "memfd_create": (319, "b'x'", 0),
    "keyctl": 250, "shmget": (29, 0, 4096, 0o1600), "userfaultfd": 323, "seccomp": (317, 1), "landlock": (444, 0, 0, 1),
    "prctl": (157, 4, 0), "setrlimit": 160, "prlimit": (302, 0, 9, "b'\\xff' * 16", 0), "openat2": 437, "truncate": 76,
    "unlink": 87, "rename": 82, "linkat": 265, "chmod": 90, "mknod": 133, "fcntl owner": (72, 1, 8, "os.getppid()"),
    "ioctl type": (16, 0, 0x5412, "b'x'"), "x32 socket": (0x40000000 + 41, 2, 1, 0),
    "sendto address": (44, 1, 0, 0, 0, "b'x' * 16", 16),
    "setuid": 105, "init_module": 175, "reboot": 169,
}  # fmt: skip


@x86
@pytest.mark.parametrize("name", CALLS)
def test_raw_calls_by_ctypes_are_refused(name):
    call = CALLS[name] if isinstance(CALLS[name], tuple) else (CALLS[name], 0, 0, 0)
    found = run(f"{RAW}result = [call({', '.join(map(str, call))}), ctypes.get_errno()]")
    assert found.ended == "finished", found
    assert found.result in ([-1, 1], [-1, 38]), "EPERM, or for clone3 ENOSYS"


@x86
def test_calls_of_another_architecture_end_the_process():
    """`int 0x80` reaches the 32-bit calls, whose numbers mean something else: here getpid, which is harmless."""
    code = (
        "import ctypes, mmap\nm = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)\n"
        "m.write(b'\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3')\n"
        "f = ctypes.CFUNCTYPE(ctypes.c_int)(ctypes.addressof(ctypes.c_char.from_buffer(m)))\nresult = f()"
    )
    assert run(code).ended == "killed"


def test_a_stack_without_end_ends_the_process_alone():
    assert run("import sys\nsys.setrecursionlimit(10 ** 9)\ndef f(x): return sorted([x], key=f)\nf(1)").ended in (
        "killed",
        "failed",
        "memory",
    )


@pytest.mark.parametrize(
    "attack",
    ["open(path, 'a').write('x')", "open(path, 'w')", "os.truncate(path, 0)", "os.open(path, os.O_RDONLY | os.O_TRUNC)",
     "os.unlink(path)", "os.rename(path, path + '2')", "os.chmod(path, 0)", "os.utime(path)",
     "os.link(path, path + '2')",
     "os.setxattr(path, 'user.x', b'1')", "open(path + '2', 'w')"],
)  # fmt: skip
def test_what_may_be_read_may_not_be_changed(tmp_path, attack, layer):
    (tmp_path / "kept.txt").write_text("kept")
    (tmp_path / "other.txt").write_text("other")
    read = f"import os\npath = {str(tmp_path / 'kept.txt')!r}\nassert open(path).read() == 'kept'\n"
    found = sandbox.run(("code", read + attack), limits=QUICK, readable=[str(tmp_path / "kept.txt")])
    assert "Error" in found.errors
    assert "AssertionError" not in found.errors
    whole = sandbox.run(("code", read + attack), limits=QUICK, readable=[str(tmp_path)])
    assert whole.ended == "failed"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["kept.txt", "other.txt"]
    assert (tmp_path / "kept.txt").read_text() == "kept"
    beside = f"open({str(tmp_path / 'other.txt')!r})"
    assert sandbox.run(("code", beside), limits=QUICK, readable=[str(tmp_path / "kept.txt")]).ended == "failed"


def test_a_scratch_folder_is_the_only_place_to_write_and_goes_away(layer):
    code = (
        "import os, tempfile\nplace = tempfile.mkdtemp()\npath = os.path.join(place, 'x')\n"
        "open(path, 'w').write('held')\nos.rename(path, path + '2')\nheld = open(path + '2').read()\n"
        "tempfile.TemporaryFile().write(b'x')\nos.unlink(path + '2')\n"
        "try:\n    open('/tmp/made-in-the-sandbox', 'w')\nexcept OSError:\n    result = [held, place]\n"
    )
    found = run(code, scratch_mb=1)
    assert found.ended == "finished", found.errors
    held, place = found.result
    assert held == "held"
    assert not Path(place).exists()
    assert run(code).ended == "failed"
    assert run("import tempfile\ntempfile.TemporaryFile().write(b'x' * (2 << 20))", scratch_mb=1).ended != "finished"


def test_threads_may_be_allowed():
    code = "from concurrent.futures import ThreadPoolExecutor as P\nresult = list(P(2).map(abs, [-1, -2]))"
    assert run(code, threads=True).result == [1, 2]
    assert run("import os; os.fork()", threads=True).ended == "failed"


def test_secrets_of_the_environment_stay_outside(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-not-for-you")
    found = run("import os\nresult = dict(os.environ)")
    assert "OPENAI_API_KEY" not in found.result
    assert "sk-not-for-you" not in str(found)


def test_descriptors_are_limited_and_none_are_inherited():
    with Path("/etc/passwd").open() as secret:
        os.set_inheritable(secret.fileno(), True)
        code = "import os\nheld = []\nfor fd in range(3, 200):\n    try:\n        os.read(fd, 1)\n"
        found = run(
            code
            + "    except OSError as e:\n        held.append(e.errno)\nresult = set(held) == {9} or sorted(set(held))"
        )
    assert found.result is True, "only closed ones, and the one for the result, which cannot be read"
    many = run("import os\nheld = [os.dup(1) for _ in range(100)]")
    assert "Too many open files" in many.errors


def test_the_process_ends_with_the_one_that_started_it():
    code = (
        "from tunesmith.core import sandbox\n"
        "sandbox.run(('code', 'import time; print(1, flush=True); time.sleep(60)'), limits=sandbox.Limits(60))"
    )
    parent = subprocess.Popen([sys.executable, "-c", code])
    try:
        until = time.monotonic() + 20
        while not (children := psutil.Process(parent.pid).children()) and time.monotonic() < until:
            time.sleep(0.02)
        [child] = children
        time.sleep(0.5)
    finally:
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    gone, alive = psutil.wait_procs([child], timeout=5)
    assert not alive
    assert gone


@pytest.mark.parametrize(
    ("layer", "why"),
    [
        ("landlock._CREATE = 9999; mounts._NEW = 1", "mount namespace"),
        ("seccomp._SECCOMP = dict.fromkeys(seccomp._SECCOMP, 9999)", "seccomp"),
        ("seccomp._ARCHITECTURES = dict()", "no seccomp filter is written for"),
        ("raise RuntimeError('broken')", "broken"),
    ],
)
def test_where_a_layer_is_missing_nothing_is_run(monkeypatch, layer, why):
    monkeypatch.setattr(sandbox, "_STARTED", without(layer))
    with pytest.raises(NotAllowedError, match="not run here") as told:
        run("print('ran')")
    assert why in told.value.why
    assert told.value.exit_code == 5


def test_other_systems_are_refused(monkeypatch):
    sandbox.require()
    sandbox.require.cache_clear()
    monkeypatch.setattr(sandbox.sys, "platform", "darwin")
    with pytest.raises(NotAllowedError, match="not run here") as told:
        sandbox.require()
    assert "darwin" in told.value.why
