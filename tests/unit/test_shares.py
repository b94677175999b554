"""Shares of several processes in files: put together in the order of ranks, whatever their number."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tunesmith.core import fingerprints
from tunesmith.engine.checkpoint import Checkpoint, Checkpoints, rng_state
from tunesmith.engine.shares import SharedTensors, file_name


def made(step: int, value: float) -> Checkpoint:
    """A checkpoint whose tensors tell their place."""
    rows = value * torch.arange(1.0, 13.0).reshape(4, 3)
    return Checkpoint(step, {"w": rows}, {"exp_avg|w": 0.5 * rows}, rng_state(), {"step": step})


def test_shares_lie_behind_each_other_in_the_order_of_ranks(tmp_path: Path) -> None:
    whole = torch.arange(33.0).reshape(11, 3)
    for rank, piece in enumerate(whole.chunk(11)):
        more = {"step": torch.tensor(4.0)} if rank == 0 else {}
        save_file({"w": piece.contiguous()} | more, tmp_path / file_name("optimizer", rank))
    found = SharedTensors(tmp_path, "optimizer")
    assert dict(found.items()).keys() == {"w", "step"}
    assert len(found) == 2
    assert torch.equal(found["w"], whole), "10 must not stand before 2"
    assert float(found["step"]) == 4


def _write_two_shares(folder: Path, step: int) -> None:
    """A checkpoint as two processes write it, through the same functions: each its files, rank 0 the manifest."""
    whole = made(step, float(step))
    final = folder / f"step-{step}"
    temporary = Checkpoints(folder)._begin(final, whole)
    listed = {}
    for rank in (0, 1):
        share = {name: tensor.chunk(2)[rank] for name, tensor in whole.trainable.items()}
        state = {name: tensor.chunk(2)[rank] for name, tensor in whole.optimizer.items()}
        for kind, tensors in (("trainable", share), ("optimizer", state), ("rng", whole.rng)):
            save_file({name: t.contiguous() for name, t in tensors.items()}, temporary / file_name(kind, rank))
            listed[file_name(kind, rank)] = _facts(temporary / file_name(kind, rank))
    (temporary / "state.json").write_text(json.dumps(whole.state), "utf-8")
    listed["state.json"] = _facts(temporary / "state.json")
    Checkpoints(folder)._finish(temporary, final, step, listed)


def _facts(path: Path) -> dict[str, int | str]:
    return {"size": path.stat().st_size, "sha256": fingerprints.of_file(path)}


def _delete(folder: Path, name: str) -> None:
    (folder / "step-2" / name).unlink()


def _flip(folder: Path, name: str) -> None:
    content = bytearray((folder / "step-2" / name).read_bytes())
    content[-3] ^= 16
    (folder / "step-2" / name).write_bytes(bytes(content))


def _swap_with_an_older_one(folder: Path, name: str) -> None:
    (folder / "step-2" / name).write_bytes((folder / "step-1" / name).read_bytes())


def _swap_ranks(folder: Path, name: str) -> None:
    mine, other = folder / "step-2" / name, folder / "step-2" / name.replace(".1.", ".")
    content = mine.read_bytes()
    mine.write_bytes(other.read_bytes())
    other.write_bytes(content)


def test_two_shares_are_one_checkpoint(tmp_path: Path) -> None:
    for step in (1, 2):
        _write_two_shares(tmp_path, step)
    found, complaints = Checkpoints(tmp_path).newest_valid()
    assert found is not None
    assert (found.step, complaints) == (2, [])
    assert torch.equal(found.trainable["w"], made(2, 2.0).trainable["w"])


@pytest.mark.parametrize("name", ["trainable.1.safetensors", "optimizer.1.safetensors"])
@pytest.mark.parametrize("damage", [_delete, _flip, _swap_with_an_older_one, _swap_ranks])
def test_a_damaged_share_is_found_out(damage: Callable[[Path, str], None], name: str, tmp_path: Path) -> None:
    for step in (1, 2):
        _write_two_shares(tmp_path, step)
    damage(tmp_path, name)
    found, complaints = Checkpoints(tmp_path).newest_valid()
    assert found is not None
    assert found.step == 1
    assert len(complaints) == 1
    assert "checkpoint step-2 is damaged and was set aside" in complaints[0]
    assert name.replace(".1", "") in complaints[0].replace(".1", "")
