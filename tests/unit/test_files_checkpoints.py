"""Atomic files, checkpoints that verify, the metrics log, fingerprints. Bit flips: properties/test_checkpoints.py."""

import errno
import json
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tunesmith.core import files, fingerprints
from tunesmith.core.errors import OutputError
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
    (tmp_path / ".step-9.0.tmp").mkdir()
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


def test_states_of_many_devices_keep_their_order(monkeypatch):
    given = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_rng_state_all", given.extend)
    state = {"cpu": torch.get_rng_state()} | {f"cuda.{i}": torch.tensor([i]) for i in range(12)}
    set_rng_state(state)
    assert [int(s) for s in given] == list(range(12))


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
