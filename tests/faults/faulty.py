"""Commands under faults: the fork server, what a recovered run must look like, and the table of what was counted."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from python_faults import AFTER, ALWAYS, BEFORE, COUNT, GONE, ONCE, STOP, TORN

import processes
import tiny

HERE = Path(__file__).parent
KILLED = -signal.SIGKILL


@dataclass(frozen=True)
class Fault:
    """What happens at one change of the folder. The numbers are those of fault_shim.c."""

    name: str
    mode: int
    error: int = 0
    only: tuple[str, ...] = ()
    """The calls at which it makes a difference; all when empty."""
    in_python: bool = False
    """Made by python_faults.py instead of the shim."""

    @property
    def kills(self) -> bool:
        """Whether it ends the process by SIGKILL."""
        return self.mode in (TORN, BEFORE, AFTER)

    @property
    def passes(self) -> bool:
        """Whether what comes after it can be written."""
        return self.mode == ONCE


NONE = Fault("none", COUNT)
EVERY_FAULT = (
    Fault("fails once (EIO)", ONCE, errno.EIO),
    Fault("fails once (ENOSPC)", ONCE, errno.ENOSPC),
    Fault("fails from there on (EIO)", ALWAYS, errno.EIO),
    Fault("full from there on (ENOSPC)", ALWAYS, errno.ENOSPC),
    Fault("killed before", BEFORE),
    Fault("killed after", AFTER),
    Fault("killed in the middle of a write", TORN, only=("write",)),
)
IN_PYTHON = (
    Fault("in Python: fails once (EIO)", ONCE, errno.EIO, in_python=True),
    Fault("in Python: full from there on (ENOSPC)", ALWAYS, errno.ENOSPC, in_python=True),
    Fault("in Python: killed before", BEFORE, in_python=True),
)
READ_ONLY = Fault("read-only from there on (EROFS)", ALWAYS, errno.EROFS)
NOT_ALLOWED = Fault("not allowed from there on (EACCES)", ALWAYS, errno.EACCES)
DELETED = Fault("the folder is gone", GONE)
STOPPED = Fault("stopped until SIGCONT", STOP)


@dataclass(frozen=True)
class Ended:
    """How a command ended. `calls` are the changes below the folder that it made, in order."""

    code: int
    said: str
    calls: list[tuple[str, str]]


@dataclass(frozen=True)
class Order:
    """One line to the fork server."""

    arguments: list[str]
    log: str
    folder: str = ""
    at: int = 0
    mode: int = COUNT
    error: int = 0
    trace: bool = False
    namespace: int = 0
    modules: str = ""
    in_python: bool = False


class Server:
    """The fork server of fault_server.py. `shim` is the compiled library; without it faults are made in Python."""

    def __init__(self, folder: Path, shim: Path | None):
        self.folder, self._numbers = folder, itertools.count()
        environment = {**os.environ, **tiny.ENVIRONMENT, "HF_HUB_OFFLINE": "1", "TRANSFORMERS_VERBOSITY": "error"}
        if shim:
            environment["LD_PRELOAD"] = str(shim)
        self._process = subprocess.Popen(
            [sys.executable, HERE / "fault_server.py"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=environment | {"PYTHONPATH": os.pathsep.join([str(HERE.parent), os.environ.get("PYTHONPATH", "")])},
        )  # fmt: skip
        self._ask({"imports": processes.PRELOADED, "arguments": []})

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        return answer

    def learn(self, *arguments: object) -> Ended:
        """Run a command and import in the server what it imported on its way, so that the next ones need not."""
        modules = self.folder / "modules.txt"
        ended = self.run(*arguments, modules=modules)
        self._ask({"imports": modules.read_text("utf-8").split("\n"), "arguments": []})
        return ended

    def run(
        self, *arguments: object, folder: Path | None = None, at: int = 0, fault: Fault = NONE, namespace: int = 0,
        modules: Path | None = None,
    ) -> Ended:  # fmt: skip
        """Run a command line to its end, with a fault at change number `at` (from 1) below `folder`."""
        log = self.folder / f"log-{next(self._numbers)}"
        order = Order(
            [str(a) for a in arguments], str(log), str(folder or ""), at, fault.mode, fault.error,
            folder is not None, namespace, str(modules or ""), fault.in_python,
        )  # fmt: skip
        answer = self._ask(asdict(order))
        said = log.read_text("utf-8")
        log.unlink()
        return Ended(answer["code"], said, [(call, path) for call, path in answer["calls"]])

    def close(self) -> None:
        """End the server."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait(30)


@dataclass(frozen=True)
class Ground:
    """Where faults are tried. `trained` and `whole` are what `train` and `run` give undisturbed."""

    server: Server
    recipe: Path
    trained: Path
    whole: Path


def compiled(folder: Path) -> Path:
    """The shim as a shared library in `folder`."""
    library = folder / "fault_shim.so"
    subprocess.run(
        [compiler() or "cc", "-shared", "-fPIC", "-O1", "-o", library, HERE / "fault_shim.c", "-ldl"], check=True
    )
    return library


def compiler() -> str | None:
    """The C compiler of this machine."""
    return shutil.which("cc") if sys.platform == "linux" else None


def weights(run: Path) -> str:
    """SHA-256 of the trained adapter."""
    return tiny.sha256(run / "adapter" / "adapter_model.safetensors")


def curve(run: Path) -> list[tuple[Any, ...]]:
    """Every line of metrics.jsonl without its times."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [(line["step"], line.get("loss"), line.get("validation_loss")) for line in lines]


def status(run: Path) -> dict[str, Any]:
    """run.json; empty when there is none."""
    file = run / "run.json"
    facts: dict[str, Any] = json.loads(file.read_text("utf-8")) if file.exists() else {}
    return facts


def differences(run: Path, whole: Path) -> list[str]:
    """What is wrong with a finished run that must equal an uninterrupted one; empty when nothing is."""
    if not (run / "adapter").is_dir():
        return ["there is no adapter"]
    wrong = []
    if weights(run) != weights(whole):
        wrong.append("the weights differ")
    if curve(run) != curve(whole):
        wrong.append("metrics.jsonl differs")
    facts, expected = status(run), status(whole)
    keys = ("status", "steps", "kept_step", "verdict")
    wrong += [f"run.json: {key} differs" for key in keys if facts.get(key) != expected.get(key)]
    if "reason" in facts:
        wrong.append("run.json keeps the reason of a pause that is over")
    if (whole / "evaluation.json").exists() and (run / "evaluation.json").read_bytes() != (
        whole / "evaluation.json"
    ).read_bytes():
        wrong.append("evaluation.json differs")
    return wrong


def left_over(run: Path) -> list[str]:
    """Unfinished things in a run's folder."""
    return [str(p.relative_to(run)) for p in run.rglob("*") if p.name.startswith(".") or p.name.endswith(".tmp")]


def record(table: str, rows: dict[str, Any]) -> None:
    """Print a table, and add it to the JSON file that TUNESMITH_FAULT_TABLE names."""
    print(f"\n{table}: {json.dumps(rows, indent=1)}")
    if path := os.environ.get("TUNESMITH_FAULT_TABLE"):
        file = Path(path)
        known = json.loads(file.read_text("utf-8")) if file.exists() else {}
        known[table] = known.get(table, {}) | rows
        file.write_text(json.dumps(known, indent=1) + "\n", "utf-8")
