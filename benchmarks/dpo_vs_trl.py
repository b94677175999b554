"""Direct preference optimisation beside the peer, TRL's DPOTrainer, in turn, in one run: speed, memory, loss curves.

    python benchmarks/dpo_vs_trl.py MODEL PAIRS.jsonl --peer peer/bin/python [--rows 96] [--rounds 3] [--quick]

As `sft_vs_trl.py`, with four pairs an optimizer step. PAIRS has `prompt` (messages), `chosen` and `rejected` (texts);
those above 1,200 characters, or with an empty answer, are left out. Tokens are those of both answers with the prompt
before each, for both; that we compute the prompt once is part of the speed. So is that the reference is asked once: our
seconds begin with it. What must be computed: as there, over the prompt once and both answers, and forward once more for
the reference.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import beside
import written
from beside import QUICK_ROUNDS, QUICK_ROWS, Task
from sft_vs_trl import operations

_LONGEST = 1200
_RECIPE = """\
name: beside-the-peer
seed: 7
base: {model}
data: {{train: {rows}, validation: 0.0}}
method: {{type: preference, loss: {{type: dpo, beta: 0.1}}}}
adapter: {adapter}
training:
  epochs: 1
  batch_size: 4
  learning_rate: 2.0e-4
  schedule: constant
  warmup: 0
  max_length: 1024
  precision: {precision}
  early_stopping: null
  checkpoint_every: 1000000
"""


def begin(recipe: Path, folder: Path) -> None:
    """In a process of its own: write the pairs in the order of our steps, the first adapter, operations and tokens."""
    from tunesmith.models.size import Size

    prepared, train, order = beside.planned(recipe)
    names = ("prompt", "chosen", "rejected")
    lines = [
        {name: [turn.model_dump(exclude_none=True) for turn in getattr(prepared.train.examples[row], name)]
         for name in names}
        for row in order
    ]  # fmt: skip
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    beside.first_adapter(prepared, folder)
    size, lengths = Size.of(prepared.base), [row.length for row in train]
    labelled = sum(one.labelled for row in train for one in row.family().sequences)
    reference = 2 * sum(lengths) * size.body + 2 * labelled * size.head
    told = {
        "operations": operations(size, lengths, labelled, False) + reference,
        "tokens": sum(one.length for row in train for one in row.family().sequences),
    }
    (folder / "told.json").write_text(json.dumps(told), "utf-8")


def train(recipe: Path, out: Path) -> None:
    """In a process of its own: one training; print the seconds from when the reference is asked to the last step."""
    from tunesmith.core.events import Event, Note, StepDone
    from tunesmith.pipelines import journey
    from tunesmith.pipelines.read_recipe import placed, read_recipe

    at: list[float] = []

    def sink(event: Event) -> None:
        if isinstance(event, StepDone) or (isinstance(event, Note) and event.text.startswith("the base scores")):
            at.append(time.perf_counter())

    with placed(recipe):
        journey.train_only(read_recipe(recipe), out, resume=False, sink=sink)
    print(json.dumps({"seconds": at[-1] - at[0]}))


def ours(task: Task, dtype: str, out: Path) -> dict[str, Any]:
    """One training by this project."""
    seconds = beside.child(sys.executable, __file__, "--train", task.recipes[dtype], out)["seconds"]
    facts = json.loads((out / "run.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "dtype": dtype, "steps": facts["steps"], "tokens": task.told["tokens"], "seconds": round(seconds, 2),
        "tokens_per_s": round(task.told["tokens"] / seconds, 1), "peak_mb": facts["peak_memory_mb"],
        "losses": [line["loss"] for line in lines if "loss" in line],
    }  # fmt: skip


def _theirs(python: str, task: Task, dtype: str, *options: str | Path) -> dict[str, Any]:
    return beside.peer(task, python, dtype, "--dpo", *options)


def pairs(file: Path, most: int) -> list[str]:
    """The first lines that are not too long and whose answers both say something."""
    lines = (json.loads(line) for line in file.read_text("utf-8").splitlines())
    usable = (line for line in lines if all(_text(line[side]).strip() for side in ("chosen", "rejected")))
    return [json.dumps(line) for line in usable if len(json.dumps(line)) <= _LONGEST][:most]


def _text(answer: Any) -> str:
    """Of an answer, given as a text or as messages."""
    return answer if isinstance(answer, str) else "".join(turn["content"] for turn in answer)


def main() -> None:
    """Measure, write, and print one line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("pairs", type=Path)
    parser.add_argument("--peer", default=sys.executable, help="the peer's Python")
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.set_defaults(full=False)
    args = parser.parse_args()
    if args.quick:
        args.rows, args.rounds = QUICK_ROWS, QUICK_ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        given = beside.write_task(args, folder, pairs(args.pairs, args.rows), _RECIPE, __file__)
        found = beside.measured(given, args.rounds, folder, ours, partial(_theirs, args.peer))
        told = beside.figures(found, given, folder)
    if args.out:
        written.write(told | found, args.out)
    print(json.dumps(told["summary"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--begin"]:
        begin(*map(Path, sys.argv[2:4]))
    elif sys.argv[1:2] == ["--train"]:
        train(*map(Path, sys.argv[2:4]))
    else:
        main()
