"""Two processes train what one would: the curve, the checkpoints, and what happens when one of them dies.

Real processes over gloo, started by `--nproc` and by torchrun.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import tiny

FULL = {"adapter": {"type": "full"}}
FSDP = ("--set", "training.devices.strategy=fsdp")


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, data and recipes without dropout: the masks of two processes are others than those of one."""
    folder = tmp_path_factory.mktemp("task")
    base = tiny.base_folder(folder / "base")
    recipe = tiny.recipe(base)
    recipe["adapter"]["dropout"] = 0.0
    recipe["training"] |= {"max_steps": 20, "learning_rate": 0.002}
    for name, changes in {"lora": {}, "full": FULL}.items():
        tiny.write_task(folder, base)
        (folder / f"{name}.yaml").write_text(json.dumps(recipe | changes), "utf-8")
    return folder


class Command:
    """A command as a process group of its own, killed at the end of the test."""

    def __init__(self, folder: Path, *arguments: object, launcher: tuple[str, ...] = ("-m", "tunesmith")):
        self.log = folder / f"log-{time.monotonic_ns()}"
        self._file = self.log.open("w", encoding="utf-8")
        environment = {**os.environ, "TOKENIZERS_PARALLELISM": "false", "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            [sys.executable, *launcher, *map(str, arguments)], env=environment, stdout=self._file,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def ranks(self) -> list[psutil.Process]:
        """The processes that train, by rank."""
        found = psutil.Process(self.process.pid).children()
        return sorted(found, key=lambda p: int(p.environ()["RANK"]))

    def after(self, run: Path, steps: int) -> Command:
        """Wait until so many optimizer steps are written."""
        until = time.monotonic() + 120
        while not _written(run, steps):
            assert self.process.poll() is None, self.said()
            assert time.monotonic() < until, self.said()
            time.sleep(0.002)
        return self

    def wait(self) -> int:
        """The exit code."""
        return self.process.wait(120)

    def said(self) -> str:
        """stdout and stderr."""
        return self.log.read_text("utf-8")

    def end(self) -> None:
        """Kill what is left."""
        if self.process.poll() is None:
            for child in psutil.Process(self.process.pid).children(recursive=True):
                child.kill()
            self.process.kill()
        self._file.close()


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Starts commands and clears them away."""
    started: list[Command] = []

    def begin(*arguments: object, **options: Any) -> Command:
        started.append(Command(tmp_path, *arguments, **options))
        return started[-1]

    yield begin
    for command in started:
        command.end()


def _written(run: Path, steps: int) -> bool:
    try:
        return (run / "metrics.jsonl").read_bytes().count(b'"learning_rate"') >= steps
    except FileNotFoundError:
        return False


def _curve(run: Path) -> dict[tuple[int, str], float]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
    keys = [(line["step"], key) for line in lines for key in ("loss", "validation_loss") if key in line]
    assert len(keys) == len(set(keys)), "a step stands there twice"
    return {(line["step"], key): line[key] for line in lines for key in ("loss", "validation_loss") if key in line}


def _same_curve(a: Path, b: Path) -> None:
    mine, theirs = _curve(a), _curve(b)
    assert mine.keys() == theirs.keys()
    assert len(mine) >= 20
    assert max(abs(mine[key] - theirs[key]) for key in mine) < 1e-4


@pytest.fixture(scope="module")
def alone(task: Path) -> dict[str, Path]:
    """Uninterrupted runs of one process."""
    for name in ("lora", "full"):
        done = tiny.tunesmith("train", task / f"{name}.yaml", "--out", task / f"{name}-alone")
        assert done.returncode == 0, done.stderr
    return {name: task / f"{name}-alone" for name in ("lora", "full")}


def test_two_processes_run_the_whole_way_as_one_does(
    task: Path, alone: dict[str, Path], start: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = start("run", task / "lora.yaml", "--out", run, "--nproc", 2)
    assert command.wait() == 0, command.said()
    _same_curve(run, alone["lora"])
    facts = json.loads((run / "run.json").read_text("utf-8"))
    assert (facts["status"], facts["processes"], facts["steps"]) == ("finished", 2, 20)
    assert (run / "report.html").is_file()
    assert command.said().count("checking the data\n") == 1, "both processes speak"
    assert not [p.name for p in run.rglob("*.tmp")]


@pytest.fixture(scope="module")
def together(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted run of two processes."""
    run = tmp_path_factory.mktemp("together") / "run"
    done = tiny.tunesmith("train", task / "lora.yaml", "--out", run, "--nproc", 2)
    assert done.returncode == 0, done.stderr
    return run


@pytest.mark.parametrize("victim", [1, pytest.param(0, marks=pytest.mark.slow)])
def test_a_rank_that_is_killed_ends_the_run_cleanly_and_it_resumes(
    victim: int, task: Path, together: Path, start: Any, tmp_path: Path
) -> None:
    whole, run = together, tmp_path / "run"
    command = start("train", task / "lora.yaml", "--out", run, "--nproc", 2).after(run, 8)
    command.ranks()[victim].kill()
    assert command.wait() == 75, command.said()
    assert "Traceback" not in command.said()
    assert "--resume" in command.said()
    if victim != 0:  # who is killed writes no status
        assert json.loads((run / "run.json").read_text("utf-8"))["status"] == "interrupted"
    assert start("train", task / "lora.yaml", "--out", run, "--nproc", 2, "--resume").wait() == 0
    assert _curve(run) == _curve(whole)
    weights = "adapter/adapter_model.safetensors"
    assert tiny.sha256(run / weights) == tiny.sha256(whole / weights)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["lora", "full"])
def test_one_then_two_sharded_then_one_process(
    name: str, task: Path, alone: dict[str, Path], start: Any, tmp_path: Path
) -> None:
    run, recipe = tmp_path / "run", task / f"{name}.yaml"
    parts = [(("--set", "training.devices.strategy=ddp"), 1, 5), (FSDP, 2, 12), ((), 1, None)]
    for number, (settings, processes, until) in enumerate(parts):
        more = ("--resume",) if number else ()
        command = start("train", recipe, "--out", run, "--nproc", processes, *settings, *more)
        if until is None:
            assert command.wait() == 0, command.said()
            break
        command.after(run, until).process.send_signal(signal.SIGTERM)
        assert command.wait() == 75, command.said()
        newest = max((run / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
        shares = sorted(p.name for p in newest.glob("trainable*"))
        assert shares == ["trainable.1.safetensors", "trainable.safetensors"][2 - processes :]
    assert f"resumed after step {newest.name[5:]}" in command.said()
    _same_curve(run, alone[name])


@pytest.mark.slow
@pytest.mark.parametrize("settings", [(), FSDP], ids=["ddp", "fsdp"])
def test_full_fine_tuning_in_two_processes(
    settings: tuple[str, ...], task: Path, alone: dict[str, Path], start: Any, tmp_path: Path
) -> None:
    from safetensors.torch import load_file

    run = tmp_path / "run"
    command = start("run", task / "full.yaml", "--out", run, "--nproc", 2, *settings)
    assert command.wait() == 0, command.said()
    _same_curve(run, alone["full"])
    mine, theirs = (load_file(r / "model" / "model.safetensors") for r in (run, alone["full"]))
    assert mine.keys() == theirs.keys()
    assert max(float((mine[name] - theirs[name]).abs().max()) for name in mine) < 1e-3
    assert json.loads((run / "evaluation.json").read_text("utf-8"))["rows"] == 8


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_to_the_launcher_writes_one_checkpoint(
    number: int, code: int, task: Path, start: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = start("train", task / "lora.yaml", "--out", run, "--nproc", 2).after(run, 7)
    command.process.send_signal(number)
    assert command.wait() == code, command.said()
    assert "--nproc 2" in command.said()
    assert command.said().count("a checkpoint is written") == 1


@pytest.mark.slow
def test_the_processes_of_a_killed_launcher_end(task: Path, start: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    command = start("train", task / "lora.yaml", "--out", run, "--nproc", 2).after(run, 3)
    ranks = command.ranks()
    command.process.kill()
    _, alive = psutil.wait_procs(ranks, timeout=60)
    assert alive == []


@pytest.mark.slow
def test_torchrun_starts_it_too(task: Path, alone: dict[str, Path], start: Any, tmp_path: Path) -> None:
    run = tmp_path / "run"
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29871", "-m", "tunesmith")
    command = start("train", task / "lora.yaml", "--out", run, launcher=torchrun)
    assert command.wait() == 0, command.said()
    _same_curve(run, alone["lora"])


@pytest.mark.slow
def test_what_is_wrong_is_told_once(task: Path, start: Any, tmp_path: Path) -> None:
    unknown = start("train", task / "lora.yaml", "--out", tmp_path / "a", "--nproc", 2, "--set", "base=bundled/x")
    assert unknown.wait() == 4, unknown.said()
    assert unknown.said().count("error:") == 1
    muon = ("--set", "training.optimizer=muon", *FSDP)
    refused = start("train", task / "lora.yaml", "--out", tmp_path / "b", "--nproc", 2, *muon)
    assert refused.wait() == 3, refused.said()
    assert "FSDP" in refused.said()
    assert refused.said().count("error:") == 1
    assert not (tmp_path / "b").exists()


OUT_OF_MEMORY = """
import os
from pathlib import Path
told = Path(__file__).with_name("told")
if os.environ.get("RANK") == "1" and not told.exists():
    import torch
    from tunesmith.methods.sft.method import Sft

    plain, calls = Sft.loss_sum, []

    def loss_sum(self, model, batch):
        calls.append(1)
        if len(calls) == 5:
            told.touch()
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return plain(self, model, batch)

    Sft.loss_sum = loss_sum
"""


@pytest.fixture
def short_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The second of two processes runs out of memory once, in its fifth pass; the program that sees to it."""
    program = tmp_path / "site" / "sitecustomize.py"
    program.parent.mkdir()
    program.write_text(OUT_OF_MEMORY, "utf-8")
    paths = [str(tmp_path / "site"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(p for p in paths if p))
    return program


@pytest.mark.usefixtures("short_of_memory")
def test_where_one_process_runs_out_of_memory_all_halve_and_the_curve_stays(
    task: Path, alone: dict[str, Path], start: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    command = start("train", task / "lora.yaml", "--out", run, "--nproc", 2)
    assert command.wait() == 0, command.said()
    assert "each micro-batch is now computed in 2 parts" in command.said()
    _same_curve(run, alone["lora"])


@pytest.mark.slow
@pytest.mark.usefixtures("short_of_memory")
@pytest.mark.parametrize("by_torchrun", [False, True], ids=["nproc", "torchrun"])
def test_under_fsdp_all_start_again_with_halves_and_the_curve_stays(
    by_torchrun: bool, task: Path, alone: dict[str, Path], start: Any, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    train = ("train", task / "lora.yaml", "--out", run, *FSDP)
    torchrun = ("-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", "29873", "--max-restarts", "1")
    if by_torchrun:
        command = start(*train, "--resume", launcher=(*torchrun, "-m", "tunesmith"))
    else:
        command = start(*train, "--nproc", 2)
    assert command.wait() == 0, command.said()
    assert "memory ran out before: each micro-batch is now computed in 2 parts" in command.said()
    _same_curve(run, alone["lora"])
    assert json.loads((run / "run.json").read_text("utf-8"))["steps"] == 20


@pytest.mark.slow
def test_under_fsdp_a_row_that_fits_nowhere_ends_the_command_and_is_not_resumed_for_ever(
    task: Path, start: Any, tmp_path: Path, short_of_memory: Path
) -> None:
    short_of_memory.write_text(OUT_OF_MEMORY.replace("told.touch()", "pass"), "utf-8")
    command = start("train", task / "lora.yaml", "--out", tmp_path / "run", "--nproc", 2, *FSDP)
    assert command.wait() == 1, command.said()
    assert "one row alone finds no memory" in command.said()
    assert "Traceback" not in command.said()
