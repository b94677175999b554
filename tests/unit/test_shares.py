"""Shares of several processes in files: put together in the order of ranks, whatever their number."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file

from tunesmith.engine.checkpoint import Checkpoints
from tunesmith.engine.shares import SharedTensors, file_name


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


def test_a_missing_share_is_found_out(tmp_path: Path) -> None:
    from test_files_checkpoints import made

    store = Checkpoints(tmp_path)
    store.save(made(1))
    store.save(made(2))
    (tmp_path / "step-2" / "trainable.1.safetensors").write_bytes(b"")
    found, complaints = store.newest_valid()
    assert found is not None
    assert found.step == 1
    assert "trainable.1.safetensors" in complaints[0]
