"""How long a training takes from its command to its first step, beside what torch's own import takes.

    python benchmarks/startup.py [--rows 200] [--steps 200] [--rounds 5] [--out FILE.json]

`tunesmith train` on the bundled base and the first rows of the packaged example, a process a round, in turn with a
process that imports torch and no more. The first step begins where its line appears in `metrics.jsonl`, less the
seconds that the line tells of it; then the training is stopped. One that is foreseen to take more than half a minute
tries some of its pieces before. Modules are compiled in a round before, which does not count.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import written

_RECIPE = """\
name: startup
base: bundled/tunesmith-8m
data: {{train: {rows}, validation: 0.1}}
method: {{type: sft}}
adapter: {{type: lora, r: 16, alpha: 32}}
training: {{max_steps: {steps}, epochs: 100, batch_size: 8}}
"""
_LOOK = 0.005
"""Seconds between two looks at the log."""


def environment(folder: Path) -> dict[str, str]:
    """Of both kinds of processes: compiled modules are kept, as after any first start."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PYTHONPYCACHEPREFIX": str(folder / "compiled")}


def torch_alone(folder: Path) -> float:
    """Seconds of a process that imports torch, less those of one that imports nothing."""
    took = []
    for code in ("import torch", "pass"):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], env=environment(folder), check=True)  # noqa: S603
        took.append(time.perf_counter() - begun)
    return took[0] - took[1]


def first_step(recipe: Path, folder: Path, number: int) -> tuple[float, dict[str, Any]]:
    """(seconds from the command to the first step, the run's facts)."""
    run = folder / f"run-{number}"
    command = [sys.executable, "-m", "tunesmith", "--quiet", "train", str(recipe), "--out", str(run)]
    begun, log = time.perf_counter(), run / "metrics.jsonl"
    with subprocess.Popen(command, env=environment(folder), stdout=subprocess.DEVNULL) as process:  # noqa: S603
        while not (log.is_file() and log.read_bytes().count(b"\n")):
            if process.poll() is not None:
                sys.exit("the training ended before its first step")
            time.sleep(_LOOK)
        passed = time.perf_counter() - begun
        process.terminate()
    first = json.loads(log.read_text("utf-8").splitlines()[0])
    return passed - first["seconds"], json.loads((run / "run.json").read_text("utf-8"))


def main() -> None:
    """Measure and write."""
    from tunesmith.pipelines.demo import RECIPE

    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows, recipe = folder / "rows.jsonl", folder / "recipe.yaml"
        lines = (RECIPE.parent / "train.jsonl").read_text("utf-8").splitlines()[: args.rows]
        rows.write_text("".join(f"{line}\n" for line in lines), "utf-8")
        recipe.write_text(_RECIPE.format(rows=rows, steps=args.steps), "utf-8")
        torch_alone(folder), first_step(recipe, folder, 0)
        rounds: list[dict[str, Any]] = []
        for number in range(1, args.rounds + 1):
            before = torch_alone(folder)
            seconds, facts = first_step(recipe, folder, number)
            alone = (before + torch_alone(folder)) / 2
            told = {"first_step": seconds, "torch": alone, "beyond": seconds - alone}
            rounds.append(told | {"forecast": facts["forecast"]})
    medians = {
        key: round(statistics.median(one[key] for one in rounds), 3) for key in ("first_step", "torch", "beyond")
    }
    written.write({"rows": args.rows, "steps": args.steps, "rounds": rounds, "median_seconds": medians}, args.out)


if __name__ == "__main__":
    main()
