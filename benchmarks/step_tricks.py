"""What each trick of a training step brings by itself: steps with all of them and steps without one, in turn.

    python benchmarks/step_tricks.py MODEL ROWS.jsonl [--rows 96] [--rounds 5] [--out FILE.json]

MODEL and ROWS as for `sft_vs_trl.py`; LoRA r=16 on every linear layer, bf16, eight rows a step, forward and backward
without the optimizer. In every round each way computes the same step once; a step's ratio is its seconds without the
trick over those with all, and the median over rounds and steps is told. The C library's habits are set for a whole
process, so `--without memory` measures them: run it beside a run without the option.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

import written

_RECIPE = """\
name: tricks
seed: 7
base: {model}
data: {{train: {rows}, validation: 0.0}}
method: {{type: sft}}
adapter: {{type: lora, r: 16, alpha: 32}}
training: {{epochs: 1, batch_size: 8, learning_rate: 2.0e-4, max_length: 1024, precision: bf16, early_stopping: null}}
"""
STEPS = 4
"""Different ones, spread over the lengths of the rows."""


def prepared(model: Path, rows: list[str], folder: Path) -> tuple[Any, list[list[Any]]]:
    """(the bench, the rows of each step)."""
    from tunesmith.engine.steps import Steps
    from tunesmith.pipelines import bench
    from tunesmith.pipelines.prepare import prepare
    from tunesmith.pipelines.read_recipe import placed, read_recipe

    recipe, data = folder / "recipe.yaml", folder / "rows.jsonl"
    data.write_text("".join(f"{line}\n" for line in rows), "utf-8")
    recipe.write_text(_RECIPE.format(model=model.resolve(), rows=data), "utf-8")
    with placed(recipe):
        made = prepare(read_recipe(recipe), folder)
    train = list(made.train.encoded)
    steps = Steps([row.length for row in train], made.repeats, made.spec.training, made.spec.seed)
    every = [[train[row] for micro in step for row in micro] for _, step in steps.after(0)]
    every.sort(key=lambda step: sum(row.length for row in step))
    some = [every[round(at * (len(every) - 1) / (STEPS - 1))] for at in range(STEPS)]
    return bench.build(made.spec, made.base, made.tokenizer), some


def ways(model: Any) -> dict[str, Callable[[], Any]]:
    """Each trick's name with what leaves it out."""
    from tunesmith.adapters.lora import LoraLinear
    from tunesmith.engine import gradients
    from tunesmith.models import head, line
    from tunesmith.models.kernels import attention, native, products
    from tunesmith.models.kernels.norm import _Forward

    @contextmanager
    def plain_norms() -> Iterator[None]:
        ours = {layer: layer.forward for layer in model.modules() if isinstance(layer.forward, _Forward)}
        for layer in ours:
            del layer.forward
        yield
        for layer, forward in ours.items():
            layer.forward = forward

    @contextmanager
    def rows() -> Iterator[None]:
        line.forget(model)
        yield
        line.note(model)

    @contextmanager
    def plain_attention() -> Iterator[None]:
        model.set_attn_implementation("sdpa")
        with rows():
            yield
            model.set_attn_implementation(attention.NAME)

    @contextmanager
    def no_blocks() -> Iterator[None]:
        with rows(), patch.object(native, "attention_by", return_value=0):
            yield

    @contextmanager
    def no_c() -> Iterator[None]:
        with no_blocks(), patch.object(native, "library", return_value=None):
            yield

    return {
        "batches as lines": rows,
        "attention in C, and lines": no_blocks,
        "all that is in C, and lines": no_c,
        "attention, and lines": plain_attention,
        "norms": plain_norms,
        "losses without logits": lambda: patch.object(head, "_is_bare", return_value=False),
        "LoRA layers": lambda: patch.object(LoraLinear, "_plain", return_value=False),
        "products in parts": lambda: patch.object(products, "FEW", 1 << 30),
        "pieces of a batch": lambda: patch.object(gradients, "AT_ONCE", 1 << 60),
    }


def step(bench: Any, rows: list[Any]) -> float:
    """Seconds of one step."""
    import torch

    from tunesmith.data.batch import collate, within
    from tunesmith.engine.gradients import tokens_at_once
    from tunesmith.engine.objective import TorchBatch
    from tunesmith.models.head import labelled

    began = time.perf_counter()
    weight = sum(row.weight for row in rows)
    for piece in within(range(len(rows)), [row.length for row in rows], tokens_at_once(bench.model)):
        batch = TorchBatch.of(collate([rows[at] for at in piece], bench.pad_id), torch.device("cpu"))
        said = labelled(bench.model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
        torch.autograd.backward((said.losses() * said.weight_N).sum() / weight)
    for parameter in bench.adapter.parameters().values():
        parameter.grad = None
    return time.perf_counter() - began


def measure(bench: Any, steps: list[list[Any]], rounds: int) -> dict[str, Any]:
    """Medians over rounds and steps."""
    bench.model.train()
    known = ways(bench.model)
    seconds: list[float] = []
    ratios: dict[str, list[float]] = {name: [] for name in known}
    for rows in steps:
        step(bench, rows)  # memory is touched for the first time
    for _ in range(rounds):
        for rows in steps:
            seconds.append(step(bench, rows))
            for name, without in known.items():
                with without():
                    ratios[name].append(step(bench, rows) / seconds[-1])
    tokens = sum(row.length for rows in steps for row in rows)
    return {
        "tokens_of_each_step": [sum(row.length for row in rows) for rows in steps],
        "tokens_per_s": round(rounds * tokens / sum(seconds), 1),
        "times_as_long_without": {
            name: {"median": round(statistics.median(found), 3), "quartiles": _quartiles(found)}
            for name, found in ratios.items()
        },
    }  # fmt: skip


def _quartiles(found: list[float]) -> list[float]:
    low, _, high = statistics.quantiles(found, n=4)
    return [round(low, 3), round(high, 3)]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("rows_file", type=Path)
    parser.add_argument("--rows", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--without", choices=["memory"])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    if args.without:
        os.environ["TUNESMITH_MALLOC"] = "default"
    with tempfile.TemporaryDirectory() as name:
        rows = args.rows_file.read_text("utf-8").splitlines()[: args.rows]
        bench, steps = prepared(args.model, rows, Path(name))
        found = measure(bench, steps, args.rounds)
    written.write(found, args.out)
    print(json.dumps(found["times_as_long_without"]))


if __name__ == "__main__":
    main()
