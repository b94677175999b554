"""A run that was interrupted and continued ends in the same weights as one that was not, byte for byte.

Real processes, real signals, dropout on, one thread.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import processes
import tiny
from processes import Running
from tunesmith.core.errors import ConflictError

Start = Callable[..., Running]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Starts a command line as a process."""
    numbers = itertools.count()
    return lambda *arguments: processes.start(tmp_path / f"log-{next(numbers)}", *arguments)


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a base, data and a recipe. Do not change it."""
    folder = tmp_path_factory.mktemp("task")
    tiny.write_task(folder, tiny.base_folder(folder / "base"))
    return folder


@pytest.fixture(scope="module")
def whole(task: Path) -> str:
    """The hash of the adapter of an uninterrupted run."""
    done = tiny.tunesmith("run", task / "recipe.yaml", "--out", task / "whole", "--quiet")
    assert done.returncode == 0, done.stderr
    return _weights(task / "whole")


@pytest.fixture(scope="module")
def killed(task: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run killed in the middle, with at least two checkpoints. Copy it before use."""
    folder = tmp_path_factory.mktemp("killed")
    running = processes.start(folder / "log", "run", task / "recipe.yaml", "--out", folder / "run")
    assert running.kill(signal.SIGKILL, _steps(folder / "run", 14)) == -signal.SIGKILL
    assert len(list((folder / "run" / "checkpoints").glob("step-*"))) >= 2
    return folder / "run"


def _weights(run: Path) -> str:
    return tiny.sha256(run / "adapter" / "adapter_model.safetensors")


def _steps(run: Path, count: int) -> Callable[[], bool]:
    """Whether at least so many optimizer steps are written."""

    def reached() -> bool:
        try:
            return (run / "metrics.jsonl").read_bytes().count(b'"learning_rate"') >= count
        except FileNotFoundError:
            return False

    return reached


def _there(path: Path) -> Callable[[], bool]:
    return path.exists


def _same_record(a: Path, b: Path) -> None:
    """Equal curves and equal verdicts: a reader of the run sees no seam."""

    def losses(run: Path) -> list[tuple[Any, ...]]:
        lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
        return [(line["step"], line.get("loss"), line.get("validation_loss")) for line in lines]

    assert losses(a) == losses(b)
    assert (a / "evaluation.json").read_bytes() == (b / "evaluation.json").read_bytes()
    facts = [json.loads((run / "run.json").read_text("utf-8")) for run in (a, b)]
    for key in ("status", "steps", "kept_step", "trained_tokens", "labelled_tokens", "data_fingerprint"):
        assert facts[0][key] == facts[1][key], key


MOMENTS: dict[str, Callable[[Path], Callable[[], bool]]] = {
    "while the base is scored": lambda run: _there(run / "run.json"),
    "before the first checkpoint": lambda run: _steps(run, 1),
    "in the middle": lambda run: _steps(run, 17),
    "after the last checkpoint": lambda run: _there(run / "checkpoints" / "step-30"),
    "while the tuned model is scored": lambda run: _there(run / "adapter"),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_and_resumed_equals_uninterrupted(
    moment: str, task: Path, whole: str, start: Start, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    first = start("run", task / "recipe.yaml", "--out", run)
    assert first.kill(signal.SIGKILL, MOMENTS[moment](run)) == -signal.SIGKILL
    assert not (run / "evaluation.json").exists()
    second = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert second.wait() == 0, second.said()
    assert _weights(run) == whole
    _same_record(run, task / "whole")
    assert [p.name for p in run.rglob("*.tmp")] == []


@pytest.mark.parametrize(
    ("number", "code", "moment"),
    [
        (signal.SIGINT, 130, "in the middle"),
        (signal.SIGTERM, 75, "in the middle"),
        (signal.SIGINT, 130, "while the tuned model is scored"),
        (signal.SIGTERM, 75, "while the base is scored"),
    ],
)
def test_a_signal_ends_with_its_code_and_the_command_that_goes_on(
    number: int, code: int, moment: str, task: Path, whole: str, start: Start, tmp_path: Path
) -> None:
    run = tmp_path / "a run"  # a space in the path: the command must still be right
    first = start("run", task / "recipe.yaml", "--out", run)
    assert first.kill(number, MOMENTS[moment](run)) == code, first.said()
    assert "Traceback" not in first.said()
    assert json.loads((run / "run.json").read_text("utf-8"))["status"] == "interrupted"
    command = _resume_command(first.said())
    assert command[0] == "tunesmith"
    second = start(*command[1:])
    assert second.wait() == 0, second.said()
    assert _weights(run) == whole
    _same_record(run, task / "whole")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 75)])
def test_a_signal_writes_the_very_checkpoint_that_its_message_promises(
    number: int, code: int, task: Path, start: Start, tmp_path: Path
) -> None:
    run, seldom = tmp_path / "run", ("training.checkpoint_every=1000", "training.evaluate_every=1000")
    settings = [word for setting in seldom for word in ("--set", setting)]
    first = start("train", task / "recipe.yaml", "--out", run, *settings)
    assert first.kill(number, _steps(run, 7)) == code
    [step] = re.findall(r"stopped after step (\d+) of 30; a checkpoint is written", first.said())
    assert [path.name for path in (run / "checkpoints").glob("step-*")] == [f"step-{step}"]
    second = start(*_resume_command(first.said())[1:])
    assert second.wait() == 0, second.said()
    assert f"resumed after step {step} of 30" in second.said()


def test_a_run_is_one_process_s_alone(task: Path, whole: str, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start("run", task / "recipe.yaml", "--out", run)
    while not _steps(run, 3)():
        assert first.process.is_alive(), first.said()
    assert first.process.pid
    os.kill(first.process.pid, signal.SIGSTOP)
    second = start("run", task / "recipe.yaml", "--out", run, "--resume")
    code, said = second.wait(), second.said()
    os.kill(first.process.pid, signal.SIGCONT)
    assert code == ConflictError.exit_code, said
    assert "another process is at work on the run" in said
    assert first.wait() == 0, first.said()
    assert _weights(run) == whole


def test_killed_and_resumed_with_the_lower_layers_computed_once(task: Path, start: Start, tmp_path: Path) -> None:
    last = ("--set", "adapter.last=1", "--set", "data.test=null")
    done = tiny.tunesmith("train", task / "recipe.yaml", "--out", tmp_path / "whole", *last)
    assert done.returncode == 0, done.stderr
    assert "the lower 1 of 2 layers are computed once: 60 rows, " in done.stderr
    first = start("train", task / "recipe.yaml", "--out", tmp_path / "run", *last)
    assert first.kill(signal.SIGKILL, _steps(tmp_path / "run", 17)) == -signal.SIGKILL
    second = start("train", task / "recipe.yaml", "--out", tmp_path / "run", *last, "--resume")
    assert second.wait() == 0, second.said()
    assert "layers are computed once" in second.said()
    assert _weights(tmp_path / "run") == _weights(tmp_path / "whole")


def _resume_command(said: str) -> list[str]:
    [line] = [line for line in said.splitlines() if "continue with: " in line]
    return shlex.split(line.partition("continue with: ")[2])


def test_an_interrupted_train_names_train_and_goes_on(task: Path, whole: str, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    first = start("train", task / "recipe.yaml", "--out", run, "--set", "data.test=null")
    assert first.kill(signal.SIGTERM, _steps(run, 8)) == 75
    command = _resume_command(first.said())
    assert command[1] == "train"
    assert start(*command[1:]).wait() == 0
    assert _weights(run) == whole


def test_the_same_recipe_twice_gives_the_same_bytes(task: Path, whole: str, start: Start, tmp_path: Path) -> None:
    again = start("run", task / "recipe.yaml", "--out", tmp_path / "run")
    assert again.wait() == 0, again.said()
    assert _weights(tmp_path / "run") == whole
    other = start("run", task / "recipe.yaml", "--out", tmp_path / "other", "--set", "seed=4")
    assert other.wait() == 0
    assert _weights(tmp_path / "other") != whole, "the hash tells nothing"


def test_resuming_a_finished_run_changes_nothing(task: Path, whole: str, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(task / "whole", run)
    before = json.loads((run / "run.json").read_text("utf-8"))
    again = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert again.wait() == 0, again.said()
    assert _weights(run) == whole
    _same_record(run, task / "whole")
    after = json.loads((run / "run.json").read_text("utf-8"))
    assert (after["id"], after["created"]) == (before["id"], before["created"])


def _other_data(task: Path) -> list[str]:
    with (task / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(tiny.rows(500, 1)[0]) + "\n")
    return []


def _other_base(task: Path) -> list[str]:
    tiny.model(seed=9, vocabulary=len(tiny.tokenizer())).save_pretrained(task / "base")
    return []


def _other_tokenizer(task: Path) -> list[str]:
    """A setting in one of its files that changes no token of these rows."""
    path = task / "base" / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | {"model_max_length": 12345}), "utf-8")
    return []


CHANGES: dict[str, Callable[[Path], list[str]]] = {
    "data": _other_data,
    "base": _other_base,
    "tokenizer": _other_tokenizer,
    "recipe": lambda task: ["--set", "training.learning_rate=0.004"],
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_resume_of_something_else_is_refused(
    what: str, task: Path, killed: Path, start: Start, tmp_path: Path
) -> None:
    shutil.copytree(task, tmp_path / "task", ignore=shutil.ignore_patterns("whole"))
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    recipe = tmp_path / "task" / "recipe.yaml"
    recipe.write_text(recipe.read_text("utf-8").replace(str(task), str(tmp_path / "task")), "utf-8")
    more = CHANGES[what](tmp_path / "task")
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    refused = start("run", recipe, "--out", run, "--resume", *more)
    assert refused.wait() == 6, refused.said()
    [first] = [line for line in refused.said().splitlines() if line.startswith("error:")]
    named = first.rpartition(": ")[2].split(", ")
    assert [name for name in named if name != "tokens"] == [what]
    assert ("tokens" in named) == (what == "data"), "other rows are other tokens, another base or rate is not"
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before, "a refusal must change nothing"


def test_a_checkpoint_refuses_another_tokenizer_by_itself(
    task: Path, killed: Path, start: Start, tmp_path: Path
) -> None:
    shutil.copytree(task, tmp_path / "task", ignore=shutil.ignore_patterns("whole"))
    run, recipe = tmp_path / "run", tmp_path / "task" / "recipe.yaml"
    shutil.copytree(killed, run)
    recipe.write_text(recipe.read_text("utf-8").replace(str(task), str(tmp_path / "task")), "utf-8")
    (run / "run.json").unlink()
    _other_tokenizer(tmp_path / "task")
    before = {p: p.read_bytes() for p in (run / "checkpoints").rglob("*") if p.is_file()}
    refused = start("run", recipe, "--out", run, "--resume")
    assert refused.wait() == 6, refused.said()
    assert "this run cannot be resumed: changed since its checkpoint: tokenizer\n" in refused.said()
    assert {p: p.read_bytes() for p in (run / "checkpoints").rglob("*") if p.is_file()} == before


def test_another_version_of_a_library_is_told(task: Path, killed: Path, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    for checkpoint in (run / "checkpoints").glob("step-*"):
        state = json.loads((checkpoint / "state.json").read_text("utf-8"))
        assert set(state["versions"]) >= {"torch", "transformers", "tokenizers"}
        state["versions"]["tokenizers"] = "0.1.2"
        _rewritten(checkpoint, "state.json", json.dumps(state).encode())
    resumed = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert resumed.wait() == 0, resumed.said()
    assert "tokenizers 0.1.2 is now " in resumed.said()
    assert "torch" not in re.findall(r"since the checkpoint was written, (.*): last digits", resumed.said())[0]


def _rewritten(checkpoint: Path, name: str, content: bytes) -> None:
    """A checkpoint with another file in it, and a manifest that knows of it."""
    (checkpoint / name).write_bytes(content)
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text("utf-8"))
    manifest["files"][name] = {"size": len(content), "sha256": tiny.sha256(checkpoint / name)}
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest), "utf-8")


def _flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-5] ^= 4
    path.write_bytes(bytes(content))


DAMAGE: dict[str, Callable[[Path], None]] = {
    "a bit of the weights": lambda c: _flip(c / "trainable.safetensors"),
    "a bit of the optimizer": lambda c: _flip(c / "optimizer.safetensors"),
    "cut state": lambda c: (c / "state.json").write_bytes((c / "state.json").read_bytes()[:-9]),
    "no manifest": lambda c: (c / "MANIFEST.json").unlink(),
    "a file too much": lambda c: (c / "more.json").write_text("{}"),
    "an empty folder": lambda c: [p.unlink() for p in c.iterdir()] and None,
}


@pytest.mark.parametrize(
    "damage", [pytest.param(d, marks=pytest.mark.slow) if i > 1 else d for i, d in enumerate(DAMAGE)]
)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_taken(
    damage: str, task: Path, whole: str, killed: Path, start: Start, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    *_, before, newest = sorted((run / "checkpoints").glob("step-*"), key=lambda p: int(p.name[5:]))
    DAMAGE[damage](newest)
    resumed = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert resumed.wait() == 0, resumed.said()
    assert f"checkpoint {newest.name} is damaged" in resumed.said()
    assert list((run / "checkpoints").glob(f"damaged-{newest.name[5:]}-*"))
    assert f"resumed after step {before.name[5:]} of 30" in resumed.said()
    assert _weights(run) == whole


def test_a_log_that_lost_lines_is_whole_again(
    task: Path, whole: str, killed: Path, start: Start, tmp_path: Path
) -> None:
    """As after a power loss: the checkpoint was synced, the log was not."""
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    log = run / "metrics.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:5]) + b'{"step": 6, "l')
    resumed = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert resumed.wait() == 0, resumed.said()
    assert _weights(run) == whole
    _same_record(run, task / "whole")


def test_with_every_checkpoint_damaged_the_run_begins_again(
    task: Path, whole: str, killed: Path, start: Start, tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(killed, run)
    for checkpoint in (run / "checkpoints").glob("step-*"):
        _flip(checkpoint / "rng.safetensors")
    resumed = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert resumed.wait() == 0, resumed.said()
    assert "resumed after" not in resumed.said()
    assert _weights(run) == whole
    _same_record(run, task / "whole")


@pytest.mark.slow
@pytest.mark.parametrize("step", range(1, 30))
def test_killed_at_every_step(step: int, task: Path, whole: str, start: Start, tmp_path: Path) -> None:
    run = tmp_path / "run"
    assert start("run", task / "recipe.yaml", "--out", run).kill(signal.SIGKILL, _steps(run, step)) == -9
    resumed = start("run", task / "recipe.yaml", "--out", run, "--resume")
    assert resumed.wait() == 0, resumed.said()
    assert _weights(run) == whole
