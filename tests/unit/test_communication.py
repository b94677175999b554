"""What two processes really send: gradients once an optimizer step, whatever the accumulation."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tiny

SENDS = """
import json, os, sys
from contextlib import nullcontext
from pathlib import Path

import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode
import test_loss, tiny
from tunesmith.adapters.full import Full
from tunesmith.engine import distributed
from tunesmith.engine.loop import Loop, Plan
from tunesmith.engine.metrics_log import NoLog

folder, strategy, accumulation = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
world = distributed.start()
model, adapter = tiny.model(), Full()
adapter.attach(model)
if strategy == "fsdp":
    distributed.shard(model, world)
training = test_loss._training(batch_size=2, gradient_accumulation=accumulation, max_steps=3)
plan = test_loss._plan(folder, model, adapter.parameters(), test_loss._rows(60), training)
loop = Loop(Plan(**vars(plan) | {"world": world, "log": NoLog(folder / "none")}))
sent, scattered = [], []

class Seen(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, arguments=(), named=None):
        if "reduce_scatter" in str(function):
            scattered.append(str(function))
        return function(*arguments, **named or {})

reduce = dist.all_reduce

def counted(tensor, *arguments, **named):
    if tensor.is_floating_point() and tensor.dtype != torch.float64:  # sums of figures go in float64
        sent.append(tensor.numel())
    return reduce(tensor, *arguments, **named)

dist.all_reduce = counted
with Seen() if strategy == "fsdp" else nullcontext():
    for number, step in loop._steps.after(0):
        loop._step(number, step)
size = sum(p.numel() for p in adapter.parameters().values())
print(json.dumps({"values": sum(sent), "size": size, "scattered": len(scattered)}))
distributed.stop()
"""


def _two(program: str, *arguments: str) -> list[dict[str, Any]]:
    """What each of two processes says last."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    here = Path(__file__).parent
    environment = dict(os.environ) | tiny.ENVIRONMENT | {
        "PYTHONPATH": os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")]),
        "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port),
    }  # fmt: skip
    command = [sys.executable, "-c", program, *arguments]
    ranks = [
        subprocess.Popen(command, env=environment | {"RANK": str(rank)}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for rank in (0, 1)
    ]
    said = [rank.communicate(timeout=120) for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0, 0], said
    return [json.loads(out.splitlines()[-1]) for out, _ in said]


def _sent(strategy: str, accumulation: int, folder: Path) -> dict[str, int]:
    """What rank 0 of two counts in three optimizer steps."""
    return _two(SENDS, str(folder), strategy, str(accumulation))[0]


@pytest.mark.slow
@pytest.mark.parametrize("accumulation", [2, 8])
def test_ddp_sends_every_gradient_once_a_step(accumulation: int, tmp_path: Path) -> None:
    counts = _sent("ddp", accumulation, tmp_path)
    assert counts["values"] == 3 * counts["size"]


@pytest.mark.slow
def test_fsdp_reduces_its_gradients_once_a_step(tmp_path: Path) -> None:
    once, often = _sent("fsdp", 2, tmp_path), _sent("fsdp", 8, tmp_path)
    assert once["scattered"] == often["scattered"] == 3 * 3, "two blocks and the rest, three times"


LACKING = """
import json
import torch
from torch import nn
from tunesmith.engine import distributed

world = distributed.start()
model = nn.ModuleList([nn.Linear(2, 1, bias=False) for _ in range(3)])
distributed.equalise(model, world)
drawn = [float(layer.weight.sum()) for layer in model]
parameters = [layer.weight for layer in model]
used = [0, 1] if world.main else [0]  # nobody uses the last one
sum(model[i](torch.ones(1, 2) * (world.rank + 1)).sum() for i in used).backward()
distributed.average_gradients(model, parameters, world)
gradients = [None if p.grad is None else p.grad.flatten().tolist() for p in parameters]
print(json.dumps({"gradients": gradients, "drawn": drawn}))
distributed.stop()
"""


def test_what_one_process_has_no_gradient_of_counts_as_zero_there() -> None:
    first, second = _two(LACKING)
    assert first == second, "weights drawn by each process for itself were not made equal"
    assert first["gradients"] == [[1.5, 1.5], [0.5, 0.5], None]
