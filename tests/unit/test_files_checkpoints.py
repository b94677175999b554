"""Atomic files, checkpoints that verify, the metrics log, fingerprints. Bit flips: properties/test_checkpoints.py."""

import errno
import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tunesmith.core import files, fingerprints
from tunesmith.core.errors import ConflictError, OutputError
from tunesmith.engine import checkpoint as checkpoints
from tunesmith.engine.checkpoint import MANIFEST, Checkpoint, Checkpoints, rng_state, set_rng_state
from tunesmith.engine.metrics_log import MetricsLog
from tunesmith.pipelines.rundir import RunDir


def made(step, value=1.0):
    return Checkpoint(
        step, {"w": torch.full((2, 3), value)}, {"w.exp_avg": torch.zeros(2, 3)}, rng_state(), {"step": step}
    )


def test_a_file_is_replaced_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "a.json"
    files.write_json(path, {"b": "\u00e9", "a": [1]})
    files.write_json(path, {"z": 1})
    assert path.read_text("utf-8") == '{\n  "z": 1\n}\n'
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


def test_a_failed_write_keeps_the_old_content(tmp_path, monkeypatch):
    path = tmp_path / "a.txt"
    files.write_text(path, "old")

    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(files.os, "fsync", full)
    with pytest.raises(OutputError) as refused:
        files.write_text(path, "new")
    assert refused.value.why == "the disk is full"
    assert refused.value.exit_code == 7
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_a_failed_fsync_is_not_tried_again(tmp_path, monkeypatch):
    """The system reports a lost page once; the next fsync of the same handle would succeed over it."""
    tried = []

    def lost(handle):
        tried.append(handle)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(files.os, "fsync", lost)
    with pytest.raises(OutputError, match="cannot write"):
        files.write_text(tmp_path / "a.txt", "new")
    assert len(tried) == 1
    with pytest.raises(OutputError):
        Checkpoints(tmp_path / "checkpoints").save(made(1))
    assert len(tried) == 2
    assert [p.name for p in tmp_path.rglob("*")] == ["checkpoints"]


def test_an_interrupted_write_of_a_file_leaves_no_trace(tmp_path, monkeypatch):
    def stop(handle):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, "fsync", stop)
    with pytest.raises(KeyboardInterrupt):
        files.write_text(tmp_path / "a.txt", "new")
    assert list(tmp_path.iterdir()) == []


def failing(monkeypatch, owner, name, numbers):
    """The calls of a function with these numbers (from 1) fail."""
    real, calls = getattr(owner, name), []

    def call(*arguments, **named):
        calls.append(arguments)
        if len(calls) in numbers:
            raise OSError(errno.EIO, "Input/output error")
        return real(*arguments, **named)

    monkeypatch.setattr(owner, name, call)
    return calls


def test_what_is_discarded_is_whole_or_gone_under_its_name(tmp_path, monkeypatch):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b").write_text("x")
    failing(monkeypatch, files.shutil, "rmtree", {1})
    failing(monkeypatch, Path, "rename", {1})
    files.discard(tmp_path / "a")
    assert (tmp_path / "a" / "b").exists(), "its renaming failed: it stays as it was"
    files.discard(tmp_path / "a")
    assert not (tmp_path / "a").exists()
    [left] = files.leftovers(tmp_path)
    files.discard(left)
    files.discard(tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fails", [{1}, {2}, {2, 3}], ids=["aside", "into place", "and back"])
def test_a_checkpoint_that_cannot_be_replaced_is_not_lost(tmp_path, monkeypatch, fails):
    store = Checkpoints(tmp_path)
    store.save(made(1, 1.0))
    with monkeypatch.context() as broken:
        failing(broken, Path, "rename", fails)
        with pytest.raises(OutputError, match="cannot write"):
            store.save(made(1, 2.0))
    found, complaints = store.newest_valid()
    assert (found.trainable["w"][0, 0], complaints) == (1, [])
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_a_kill_between_two_renames_loses_no_checkpoint(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        store.save(made(step))
    store.path(4).rename(tmp_path / ".step-4.0123abcd.tmp")  # whole, its name still to come
    (tmp_path / ".step-5.0123abcd.tmp").mkdir()  # begun
    store.path(1).rename(tmp_path / ".step-1.0123abcd.tmp")  # on its way out, half of it gone
    (tmp_path / ".step-1.0123abcd.tmp" / "state.json").unlink()
    store.path(2).rename(tmp_path / ".step-3.0123abcd.tmp")  # another's
    assert store.newest_valid()[0].step == 4
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-3", "step-4"]


def test_a_damaged_checkpoint_that_cannot_be_set_aside_counts_for_nothing(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    for step in (1, 2, 3):
        store.save(made(step))
    (store.path(3) / "state.json").unlink()
    with monkeypatch.context() as broken:
        failing(broken, Path, "rename", {1})
        found, [complaint] = store.newest_valid()
    assert found.step == 2
    assert "step-3 is damaged and could not be set aside (Input/output error)" in complaint
    assert store.steps() == [1, 2]
    store.prune(2, set())
    assert store.steps() == [1, 2], "it takes no good one's place"
    store.save(made(3))
    assert store.steps() == [1, 2, 3]
    assert store.newest_valid()[0].step == 3


def test_pruning_is_no_reason_to_fail(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    for step in (1, 2, 3, 4):
        store.save(made(step))
    with monkeypatch.context() as broken:
        failing(broken, files.shutil, "rmtree", {1, 3})
        failing(broken, Path, "rename", {2})
        store.prune(1, set())
    assert store.steps() == [2, 3, 4] or store.steps() == [1, 3, 4]
    for step in store.steps():
        assert store.load(step).step == step
    store.prune(1, set())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-3", "step-4"], "two at least"


def room(free, total=10**12):
    return lambda folder: (total, total - free, free)


NEEDED = 4 * 2 * 6 + len(rng_state()["cpu"]) + 2**20


def test_a_checkpoint_that_has_no_room_is_not_begun(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", room(NEEDED - 1))
    with pytest.raises(OutputError, match=r"cannot write .*: 1\.1 MB are needed, 1\.1 MB are free") as refused:
        store.save(made(1))
    assert refused.value.why == "the disk is full"
    assert list(tmp_path.iterdir()) == []
    monkeypatch.setattr(files.shutil, "disk_usage", room(NEEDED))
    store.save(made(1))
    assert store.steps() == [1]


def test_a_file_system_that_tells_no_size_is_tried(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    monkeypatch.setattr(files.shutil, "disk_usage", room(0, total=0))
    store.save(made(1))
    failing(monkeypatch, files.shutil, "disk_usage", {1})
    store.save(made(2))
    assert store.steps() == [1, 2]


def test_a_deleted_run_does_not_come_back(tmp_path):
    with pytest.raises(OutputError) as refused:
        Checkpoints(tmp_path / "run" / "checkpoints").save(made(1))
    assert refused.value.why == files.GONE
    run = RunDir.create(tmp_path / "run", resume=False)

    def fill(folder):
        run.path.rename(tmp_path / "elsewhere")
        folder.mkdir(parents=True)  # as transformers' save_pretrained does

    with pytest.raises(OutputError) as refused:
        run.write_folder("adapter", fill)
    assert refused.value.why == files.GONE
    assert [p.name for p in tmp_path.iterdir()] == ["elsewhere"]


def test_a_folder_of_leftovers_is_a_run_s_and_one_of_other_things_is_not(tmp_path):
    (tmp_path / ".probe.0123abcd.tmp").touch()
    (tmp_path / ".adapter.0123abcd.tmp").mkdir()
    run = RunDir.create(tmp_path, resume=True)
    assert len(list(tmp_path.iterdir())) == 2, "a run that is refused leaves all as it was"
    run.tidy()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / ".mine.tmp").touch()
    with pytest.raises(ConflictError, match="holds other things"):
        RunDir.create(tmp_path, resume=True)
    assert [p.name for p in tmp_path.iterdir()] == [".mine.tmp"]


def test_facts_of_none_are_taken_away(tmp_path):
    run = RunDir(tmp_path)
    run.update(status="paused", reason="the disk is full")
    run.update(status="running", reason=None)
    assert run.read_json("run.json").keys() == {"created", "status", "updated", "pid"}


@pytest.mark.parametrize("place", ["file/below", "file/a/b"])
def test_a_folder_below_a_file_is_an_output_error(tmp_path, place):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="cannot write"):
        files.make_folder(tmp_path / place)
    with pytest.raises(OutputError):
        files.write_text(tmp_path / "file" / "x", "y")
    with pytest.raises(OutputError):
        files.make_folder(tmp_path / "file")


def test_writing_over_a_folder_is_an_output_error(tmp_path):
    (tmp_path / "a").mkdir()
    with pytest.raises(OutputError):
        files.write_text(tmp_path / "a", "x")
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_fingerprints(tmp_path):
    assert fingerprints.of_object({"a": 1, "b": [2]}) == fingerprints.of_object({"b": [2], "a": 1})
    assert fingerprints.of_object({"a": 1}) != fingerprints.of_object({"a": "1"})
    (tmp_path / "x").write_bytes(b"12")
    assert fingerprints.of_file(tmp_path / "x") == fingerprints.of_bytes(b"12")
    both = fingerprints.of_folder(tmp_path, ["x", "absent"])
    assert both == fingerprints.of_folder(tmp_path, ["x"])
    (tmp_path / "x").rename(tmp_path / "y")
    assert fingerprints.of_folder(tmp_path, ["y"]) != both


def test_a_checkpoint_comes_back_as_it_was(tmp_path):
    store = Checkpoints(tmp_path / "checkpoints")
    assert (store.steps(), store.newest_valid()) == ([], (None, []))
    store.save(made(3, 0.5))
    loaded = store.load(3)
    assert torch.equal(loaded.trainable["w"], torch.full((2, 3), 0.5))
    assert torch.equal(loaded.rng["cpu"], torch.get_rng_state())
    assert (loaded.step, loaded.state) == (3, {"step": 3})
    assert [p.name for p in store.folder.iterdir()] == ["step-3"]


def test_steps_are_ordered_as_numbers_and_other_names_left_alone(tmp_path):
    store = Checkpoints(tmp_path)
    for step in (9, 10, 100):
        store.save(made(step))
    for name in ("step-011", "step-x", "damaged-4-abc", ".step-12.0.tmp", "step-7.old"):
        (tmp_path / name).mkdir()
    assert store.steps() == [9, 10, 100]
    assert store.newest_valid()[0].step == 100


def test_saving_a_step_again_replaces_it(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(made(1, 1.0))
    store.save(made(1, 2.0))
    assert store.load(1).trainable["w"][0, 0] == 2
    assert store.steps() == [1]


def test_pruning_keeps_the_newest_and_the_best(tmp_path):
    store = Checkpoints(tmp_path)
    for step in range(1, 7):
        store.save(made(step))
    (tmp_path / ".step-9.0123abcd.tmp").mkdir()
    store.prune(2, {2})
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-2", "step-5", "step-6"]


DAMAGE = {
    "no manifest": lambda d: (d / MANIFEST).unlink(),
    "empty manifest": lambda d: (d / MANIFEST).write_bytes(b""),
    "binary manifest": lambda d: (d / MANIFEST).write_bytes(b"\xff\xfe\x00"),
    "manifest is a list": lambda d: (d / MANIFEST).write_text("[]"),
    "manifest is null": lambda d: (d / MANIFEST).write_text("null"),
    "files is a list": lambda d: (d / MANIFEST).write_text('{"step": 2, "files": []}'),
    "files hold numbers": lambda d: (d / MANIFEST).write_text('{"step": 2, "files": {"state.json": 3}}'),
    "no step": lambda d: (d / MANIFEST).write_text('{"files": {}}'),
    "a file gone": lambda d: (d / "rng.safetensors").unlink(),
    "a file more": lambda d: (d / "extra").write_text(""),
    "a file cut short": lambda d: (d / "optimizer.safetensors").write_bytes(
        (d / "optimizer.safetensors").read_bytes()[:-1]
    ),
    "a file emptied": lambda d: (d / "state.json").write_bytes(b""),
    "another step's": lambda d: (d / MANIFEST).write_text((d / MANIFEST).read_text().replace('"step": 2', '"step": 1')),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_taken(tmp_path, damage):
    store = Checkpoints(tmp_path)
    store.save(made(1))
    store.save(made(2))
    damage(tmp_path / "step-2")
    with pytest.raises(ValueError):  # noqa: PT011 - the documented kind, whatever the damage
        store.load(2)
    found, complaints = store.newest_valid()
    assert found.step == 1
    assert len(complaints) == 1
    assert "step-2 is damaged" in complaints[0]
    assert sorted(p.name.split("-")[0] for p in tmp_path.iterdir()) == ["damaged", "step"]
    assert store.newest_valid()[1] == []


def test_a_file_in_place_of_a_checkpoint_is_set_aside(tmp_path):
    store = Checkpoints(tmp_path)
    store.save(made(1))
    (tmp_path / "step-2").write_text("x")
    assert store.newest_valid()[0].step == 1


def test_an_interrupted_write_leaves_no_trace(tmp_path, monkeypatch):
    store = Checkpoints(tmp_path)
    store.save(made(1))

    def stop(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints, "_sync_file", stop)
    with pytest.raises(KeyboardInterrupt):
        store.save(made(2))
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


FULL = """
import resource, sys, torch
from pathlib import Path
from tunesmith.core.errors import OutputError
from tunesmith.engine.checkpoint import Checkpoint, Checkpoints, rng_state
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))
try:
    Checkpoints(Path(sys.argv[1])).save(Checkpoint(2, {"w": torch.zeros(100_000)}, {}, rng_state(), {}))
except OutputError as error:
    print(error.why)
    sys.exit(error.exit_code)
"""


def test_tensors_that_find_no_room_are_an_output_error(tmp_path):
    """A file size limit stands in for the full disk: safetensors reports both in an error of its own."""
    assert resource.RLIMIT_FSIZE
    store = Checkpoints(tmp_path)
    store.save(made(1))
    done = subprocess.run([sys.executable, "-c", FULL, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip()) == (7, "File too large"), done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["step-1"]


def test_random_numbers_go_on_where_they_were():
    torch.manual_seed(5)
    state = rng_state()
    first = torch.rand(4)
    set_rng_state(state)
    assert torch.equal(torch.rand(4), first)


def test_the_state_of_this_processes_device_is_put_back_where_there_is_one(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "set_rng_state", given.append)
    state = {"cpu": torch.get_rng_state(), "cuda": torch.tensor([7])}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    set_rng_state(state)
    assert given == []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    set_rng_state(state)
    assert [int(s) for s in given] == [7]


def log_steps(path: Path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def test_the_log_is_taken_back_to_the_checkpoint(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.rewind(3)
    assert not log.path.exists()
    for step in (1, 2, 3):
        log.append({"step": step, "loss": 1.0})
    log.append({"step": 3, "validation_loss": 1.0})
    log.append({"step": 4, "loss": 1.0})
    log.path.write_bytes(log.path.read_bytes() + b'{"step": 5, "lo')
    log.rewind(3)
    assert log_steps(log.path) == [1, 2, 3, 3]
    log.append({"step": 4})
    assert log_steps(log.path) == [1, 2, 3, 3, 4]
    log.rewind(-1)
    assert log.path.read_bytes() == b""


def test_lines_that_a_checkpoint_knows_of_and_the_log_lost_are_written_again(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "loss": 3.0, "learning_rate": 0.5})
    log.path.write_bytes(log.path.read_bytes() + b'{"step": 2, "lo\0\0\0\0')
    train, validation = [(1, 3.0), (2, 2.5), (3, float("nan"))], [(2, 2.75)]
    log.rewind(3, train, validation)
    assert [json.loads(line) for line in log.path.read_text().splitlines()] == [
        {"step": 1, "loss": 3.0, "learning_rate": 0.5}, {"step": 2, "loss": 2.5}, {"step": 2, "validation_loss": 2.75},
        {"step": 3, "loss": None},
    ]  # fmt: skip
    whole = log.path.read_bytes()
    log.rewind(3, train, validation)
    assert log.path.read_bytes() == whole
    log.path.unlink()
    log.rewind(3, train, validation)
    assert log_steps(log.path) == [1, 2, 2, 3]


def test_a_checkpoint_holds_no_number_that_json_has_no_word_for(tmp_path):
    bad = Checkpoint(1, {"w": torch.zeros(2)}, {}, rng_state(), {"loss": float("nan")})
    with pytest.raises(ValueError, match="JSON compliant"):
        Checkpoints(tmp_path / "checkpoints").save(bad)
    assert list((tmp_path / "checkpoints").iterdir()) == []


def test_a_log_that_cannot_be_written_is_an_output_error(tmp_path):
    log = MetricsLog(tmp_path / "gone" / "metrics.jsonl")
    with pytest.raises(OutputError, match="cannot write"):
        log.append({"step": 1})


def test_a_step_that_is_not_finite_leaves_a_readable_log(tmp_path):
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append({"step": 1, "loss": None})
    log.append({"step": 2, "loss": 0.5})
    log.append({"step": 2, "validation_loss": 0.25})
    assert RunDir(tmp_path).curves() == ([(2, 0.5)], [(2, 0.25)])


def test_a_result_can_be_read_by_whom_the_user_lets_read(tmp_path):
    def fill(folder):
        save_file({"w": torch.zeros(2)}, folder / "w.safetensors")

    before = os.umask(0o022)
    try:
        made_folder = RunDir(tmp_path).write_folder("adapter", fill)
    finally:
        os.umask(before)
    assert (made_folder / "w.safetensors").stat().st_mode & 0o777 == 0o644
