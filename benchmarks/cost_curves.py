"""What a training step costs over the number of its rows and over their length, as figures and as curves.

    python benchmarks/cost_curves.py MODEL [--rounds 5] [--out FILE.json] [--folder docs/]

MODEL is a folder in Hugging Face's layout; LoRA r=16 on every linear layer, in the number type that the machine is
fast in, forward and backward without the optimizer. Rows are words drawn at random, all of them labelled. First steps
of 1 to 16 rows of 256 tokens: seconds should lie on a line. Then steps of 4,096 tokens in rows of 64 to 2,048: what
rises with length is attention, whose part of a token's operations grows with the tokens that it sees. In every round
each step is computed once; medians are told, with a line fitted to each. `cost-rows.svg` and `cost-length.svg` go into
the folder.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import written

_RECIPE = """\
name: cost
seed: 7
base: {model}
data: {{train: {rows}, validation: 0.0}}
method: {{type: sft}}
adapter: {{type: lora, r: 16, alpha: 32}}
training: {{epochs: 1, learning_rate: 2.0e-4, early_stopping: null}}
"""
ROWS, LENGTH_OF_ROWS = (1, 2, 4, 6, 8, 12, 16), 256
LENGTHS, TOKENS = (64, 128, 256, 512, 1024, 2048), 4096


def bench_of(model: Path, folder: Path) -> Any:
    """The base with a fresh adapter."""
    from tunesmith.pipelines import bench
    from tunesmith.pipelines.prepare import prepare
    from tunesmith.pipelines.read_recipe import placed, read_recipe
    from tunesmith.pipelines.trial import with_numbers

    row = {"messages": [{"role": "user", "content": "Say it."}, {"role": "assistant", "content": "It."}]}
    (folder / "rows.jsonl").write_text(json.dumps(row) + "\n", "utf-8")
    recipe = folder / "recipe.yaml"
    recipe.write_text(_RECIPE.format(model=model.resolve(), rows=folder / "rows.jsonl"), "utf-8")
    with placed(recipe):
        made = with_numbers(prepare(read_recipe(recipe), folder))
    return bench.build(made.spec, made.base, made.tokenizer)


def seconds(bench: Any, rows: int, length: int) -> float:
    """Of one step, in the pieces that a training would take."""
    import torch

    from tunesmith.data.batch import within
    from tunesmith.engine.gradients import tokens_at_once
    from tunesmith.models.head import labelled

    vocabulary = bench.model.get_input_embeddings().num_embeddings
    ids = torch.randint(vocabulary, (rows, length), generator=torch.Generator().manual_seed(length))
    begun = time.perf_counter()
    for piece in within(range(rows), [length] * rows, tokens_at_once(bench.model)):
        some = ids[list(piece)]
        said = labelled(bench.model, some, torch.ones_like(some), torch.ones(some.shape))
        torch.autograd.backward(said.losses().sum() / ids.numel())
    for parameter in bench.adapter.parameters().values():
        parameter.grad = None
    return time.perf_counter() - begun


def measured(bench: Any, rounds: int) -> dict[str, dict[int, float]]:
    """Median seconds of a step by its rows, and of a thousand tokens by their rows' length."""
    bench.model.train()
    points = [("rows", rows, rows, LENGTH_OF_ROWS) for rows in ROWS]
    points += [("length", length, TOKENS // length, length) for length in LENGTHS]
    found: dict[tuple[str, int], list[float]] = {}
    for number in range(rounds + 1):
        for name, at, rows, length in points:
            took = seconds(bench, rows, length)
            if number:  # the first touches memory
                found.setdefault((name, at), []).append(took if name == "rows" else 1000 * took / TOKENS)
    told: dict[str, dict[int, float]] = {"rows": {}, "length": {}}
    for (name, at), values in found.items():
        told[name][at] = statistics.median(values)
    return told


def line(points: dict[int, float]) -> dict[str, float]:
    """The line through the points by least squares, and the share of their variance that it explains."""
    fitted = statistics.linear_regression(list(points), list(points.values()))
    explained = statistics.correlation(list(points), list(points.values())) ** 2
    return {"at_zero": fitted.intercept, "slope": fitted.slope, "explained": explained}


def draw(points: dict[int, float], fitted: dict[str, float], across: str, up: str, out: Path) -> None:
    """One curve: what was measured, and the line."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot as plt

    mpl.rcParams["svg.hashsalt"] = out.name  # the same figures give the same bytes
    figure, axes = plt.subplots(figsize=(6, 3.4), layout="constrained")
    ends = [0, max(points)]
    axes.plot(
        ends, [fitted["at_zero"] + fitted["slope"] * end for end in ends], color="#9aa5b1", label="line through them"
    )
    axes.plot(list(points), list(points.values()), "o", color="#2563eb", label="measured (median)")
    axes.set(xlabel=across, ylabel=up, xlim=(0, None), ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, loc="upper left")
    figure.savefig(out, metadata={"Date": None})


def main() -> None:
    """Measure, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--folder", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        bench = bench_of(args.model, Path(name))
    points = measured(bench, args.rounds)
    lines = {name: line(one) for name, one in points.items()}
    if args.folder:
        rows = f"rows of {LENGTH_OF_ROWS} tokens in a step"
        draw(points["rows"], lines["rows"], rows, "seconds of a step", args.folder / "cost-rows.svg")
        up = "seconds of 1,000 tokens"
        draw(points["length"], lines["length"], "tokens in a row", up, args.folder / "cost-length.svg")
    written.write({"number_type": bench.number_type, "points": points, "lines": lines}, args.out)


if __name__ == "__main__":
    main()
