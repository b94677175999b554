"""The loss curve of LoRA beside a base held in 4 and in 8 bits, and how many bytes the frozen weights then take.

    python benchmarks/qlora_curve.py BASE ROWS.jsonl --out results.json [--steps 24]

BASE is a model folder, ROWS chat rows. Same rows, order, initial adapter and rate for all: LoRA r = 16 on every linear
layer, 8 rows a step, constant 2e-4, no dropout.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import torch

from tunesmith.models.find import find
from tunesmith.models.load import model as load
from tunesmith.models.nf4 import Nf4Linear
from tunesmith.models.quantize import Int8Linear, QuantizedLinear, quantize

KINDS = ("lora", "nf4", "int8")
ROWS_A_STEP = 8


def curve(base: Path, rows: Path, kind: str, steps: int, folder: Path) -> list[float]:
    """The loss of each step, in nats a labelled token."""
    recipe = {
        "name": kind, "seed": 0, "base": str(base.absolute()),
        "data": {"train": {"path": str(rows.absolute()), "limit": ROWS_A_STEP * steps}, "validation": 0},
        "adapter": {"type": "lora", "r": 16, "alpha": 32, "targets": "all-linear"}
        | ({} if kind == "lora" else {"quantize": kind}),
        "training": {
            "epochs": 1, "batch_size": ROWS_A_STEP, "learning_rate": 2e-4, "schedule": "constant", "warmup": 0,
            "max_length": 1024, "checkpoint_every": steps,
        },
    }  # fmt: skip
    file = folder / f"{kind}.yaml"
    file.write_text(json.dumps(recipe), "utf-8")
    command = [sys.executable, "-m", "tunesmith", "train", str(file), "--out", str(folder / kind), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # noqa: S603
    lines = (folder / kind / "metrics.jsonl").read_text("utf-8").splitlines()
    return [json.loads(line)["loss"] for line in lines]


def bytes_held(base: Path, kind: str) -> float:
    """The frozen linear weights in bytes, as a share of what bf16 takes."""
    model = load(find(str(base)), torch.bfloat16)
    head = model.get_output_embeddings()
    weights = sum(m.weight.numel() for m in model.modules() if isinstance(m, torch.nn.Linear) and m is not head)
    quantize(model, {"nf4": Nf4Linear, "int8": Int8Linear}[kind])
    return sum(m.stored_bytes() for m in model.modules() if isinstance(m, QuantizedLinear)) / (2 * weights)


def main() -> None:
    """Train three times, print and write what differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("base", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=24)
    given = parser.parse_args()
    held = {kind: round(bytes_held(given.base, kind), 4) for kind in KINDS[1:]}
    print(json.dumps(held), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        curves = {kind: curve(given.base, given.rows, kind, given.steps, Path(folder)) for kind in KINDS}
    plain = curves["lora"]
    found = {
        kind: {
            "bytes_of_bf16": held[kind],
            "largest_gap": round(max(abs(a - b) / b for a, b in zip(curves[kind], plain, strict=True)), 5),
        }
        for kind in KINDS[1:]
    }
    print(json.dumps(found))
    told = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python benchmarks/qlora_curve.py {given.base.name} {given.rows.name} --steps {given.steps}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'default')}",
        "python": platform.python_version(),
        "versions": {name: version(name) for name in ("tunesmith", "torch", "transformers", "bitsandbytes")},
        "found": found, "curves": curves,
    }  # fmt: skip
    given.out.write_text(json.dumps(told, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
