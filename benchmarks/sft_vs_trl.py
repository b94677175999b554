"""Supervised fine-tuning beside the peer, TRL's SFTTrainer, in turn, in one run: speed, memory, and both loss curves.

    python -m venv peer && peer/bin/pip install torch==2.13.0 trl peft datasets
    python benchmarks/sft_vs_trl.py MODEL ROWS.jsonl --peer peer/bin/python [--rows 96] [--rounds 3] [--full] [--quick]

MODEL is a folder in Hugging Face's layout whose template marks the assistant's turns, ROWS has `messages`. Both learn
the same rows in the same order, eight an optimizer step, from the same weights and the same first adapter (LoRA r=16,
alpha=32, every linear layer), AdamW at 2e-4. The peer runs as it is installed, in float32 and in bf16; the faster of
the two is what we are held against. Each training is a process of its own, never two at once; the machine should have
nothing else to do. `--quick` is 32 rows and two rounds.

What must be computed is counted in multiplications and additions, two for each weight that a token passes: forward
through all layers; backward as much for what the layers were given, but for the first layer's queries, keys and values
when the embedding is frozen; as much once more for each weight that is trained; the vocabulary head for the labelled
tokens alone; and attention's two products over the causal half of each row's length squared. The share of the matrix
rate is these operations over the seconds, held against what large matrix products in bf16 reach through torch on this
machine between the rounds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

import beside
import written
from beside import QUICK_ROUNDS, QUICK_ROWS, RANK, Task

_RECIPE = """\
name: beside-the-peer
seed: 7
base: {model}
data: {{train: {rows}, validation: 0.0}}
method: {{type: sft}}
adapter: {adapter}
training:
  epochs: 1
  batch_size: 8
  learning_rate: 2.0e-4
  schedule: constant
  warmup: 0
  max_length: 1024
  precision: {precision}
  early_stopping: null
  checkpoint_every: 1000000
"""


def begin(recipe: Path, folder: Path) -> None:
    """In a process of its own: write the rows in the order of our steps, the first adapter, the operations."""
    from tunesmith.models.size import Size

    prepared, train, order = beside.planned(recipe)
    examples = [prepared.train.examples[row] for row in order]
    lines = [{"messages": [turn.model_dump(exclude_none=True) for turn in one.messages]} for one in examples]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    beside.first_adapter(prepared, folder)
    full, size = prepared.spec.adapter.type == "full", Size.of(prepared.base)
    told = {"operations": operations(size, [row.length for row in train], sum(row.labelled for row in train), full)}
    (folder / "told.json").write_text(json.dumps(told), "utf-8")


def operations(size: Any, lengths: list[int], labelled: int, full: bool) -> float:
    """Multiplications and additions of one pass over rows of these lengths, forward and backward."""
    tokens, squared = sum(lengths), sum(length**2 for length in lengths)
    attention = 2 * size.layers * size.hidden * squared  # two products, half of each
    first = sum(out * into for name, out, into in size.linear if ".0." in name and name.split(".")[-2][0] in "qkv")
    added = 0 if full else RANK * sum(out + into for _, out, into in size.linear)
    forward = 2 * tokens * (size.body + added) + 2 * labelled * size.head + attention
    through = forward + attention - (0 if full else 2 * tokens * first)
    trained = 2 * tokens * (size.body if full else added) + (2 * labelled * size.head if full else 0)
    return float(forward + through + trained)


def ours(task: Task, dtype: str, out: Path) -> dict[str, Any]:
    """One training by this project, as a user would start it."""
    command = [sys.executable, "-m", "tunesmith", "train", task.recipes[dtype], "--out", out]
    beside.child(*command)
    facts = json.loads((out / "run.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "dtype": dtype, "steps": facts["steps"], "tokens": facts["trained_tokens"], "seconds": facts["train_seconds"],
        "tokens_per_s": facts["tokens_per_s"], "peak_mb": facts["peak_memory_mb"],
        "losses": [line["loss"] for line in lines if "loss" in line],
    }  # fmt: skip


def _theirs(python: str, task: Task, dtype: str, *options: str | Path) -> dict[str, Any]:
    return beside.peer(task, python, dtype, *options)


def main() -> None:
    """Measure, write, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--peer", default=sys.executable, help="the peer's Python")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = QUICK_ROWS, QUICK_ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        rows = args.rows_file.read_text("utf-8").splitlines()[: args.rows]
        given = beside.write_task(args, folder, rows, _RECIPE, __file__)
        found = beside.measured(given, args.rounds, folder, ours, partial(_theirs, args.peer))
        told = beside.figures(found, given, folder)
    if args.out:
        written.write(told | found, args.out)
    print(json.dumps(told["summary"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--begin"]:
        begin(*map(Path, sys.argv[2:4]))
    else:
        main()
