"""A real shortage of memory: an address-space limit, a batch that does not fit, and the run that goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import tiny

LIMITED = """
import resource, sys
from pathlib import Path
import tiny, torch
from tunesmith.core.events import Note
from tunesmith.engine import memory
from tunesmith.pipelines import bench, journey
from tunesmith.pipelines.read_recipe import read_recipe

memory.keep_large_blocks = lambda: False  # freed blocks must go back, or the limit counts them for ever

def sink(event):
    if isinstance(event, Note):
        print(event.text, flush=True)

def build(*arguments):
    made = build_bench(*arguments)
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    if sys.argv[3] != "0":
        resource.setrlimit(resource.RLIMIT_AS, (size + int(sys.argv[3]) * 2**20,) * 2)
    return made

build_bench, bench.build = bench.build, build
spec = read_recipe(Path(sys.argv[1]), sys.argv[4:])
journey.train_only(spec, Path(sys.argv[2]), resume=False, sink=sink)
"""


def _train(task: Path, out: Path, megabytes: int, *settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LIMITED, str(task / "recipe.yaml"), str(out), str(megabytes), *settings],
        capture_output=True, text=True, check=False, timeout=300, cwd=Path(__file__).parents[1],
        env=dict(tiny.os.environ) | tiny.ENVIRONMENT | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )  # fmt: skip


@pytest.mark.slow
def test_a_batch_that_does_not_fit_is_halved_and_the_run_ends_as_one_with_the_smaller_batch(tmp_path: Path) -> None:
    tiny.write_task(tmp_path, tiny.base_folder(tmp_path / "base"))
    long = [
        {"messages": [*row["messages"][:1], {"role": "assistant", "content": "a cat, a dog, a hat " * 12}]}
        for row in tiny.rows(0, 600)
    ]
    tiny.write_rows(tmp_path / "train.jsonl", long)
    settings = ["data.validation=0", "data.test=null", "training.max_steps=2", "training.batch_size=512"]
    starved = _train(tmp_path, tmp_path / "starved", 400, *settings)
    assert starved.returncode == 0, starved.stderr
    assert "out of memory: each micro-batch is now computed in 2 parts" in starved.stdout
    parts = int(starved.stdout.split("computed in ")[-1].split()[0])
    settings[-1] = f"training.batch_size={512 // parts}"
    small = _train(tmp_path, tmp_path / "small", 0, *settings, f"training.gradient_accumulation={parts}")
    assert small.returncode == 0, small.stderr
    losses = [_losses(tmp_path / name) for name in ("starved", "small")]
    assert losses[0] == losses[1]
    assert len(losses[0]) == 2


def _losses(run: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]
