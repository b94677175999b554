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
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import written

RANK = 16
QUICK_ROWS, QUICK_ROUNDS = 32, 2
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


@dataclass(frozen=True)
class Task:
    """What both are given."""

    model: Path
    rows: Path
    """In the order in which they are learned."""
    adapter: Path | None
    """Where training begins; None for full fine-tuning."""
    recipes: dict[str, Path]
    """Ours, by number type."""
    operations: float


def begin(recipe: Path, folder: Path) -> None:
    """In a process of its own: write the rows in the order of our steps, the first adapter, the operations."""
    from tunesmith.data.tokenize import Encoded
    from tunesmith.engine.steps import Steps
    from tunesmith.models.size import Size
    from tunesmith.pipelines import bench
    from tunesmith.pipelines.prepare import prepare
    from tunesmith.pipelines.read_recipe import placed, read_recipe

    with placed(recipe):
        prepared = prepare(read_recipe(recipe), recipe.parent)
    train: list[Encoded] = list(prepared.train.encoded)
    steps = Steps([row.length for row in train], prepared.repeats, prepared.spec.training, prepared.spec.seed)
    order = [row for _, step in steps.after(0) for micro in step for row in micro]
    examples = [prepared.train.examples[row] for row in order]
    lines = [{"messages": [turn.model_dump(exclude_none=True) for turn in one.messages]} for one in examples]
    (folder / "rows.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), "utf-8")
    full = prepared.spec.adapter.type == "full"
    if not full:
        made = bench.build(prepared.spec, prepared.base, prepared.tokenizer)
        (folder / "adapter").mkdir()
        made.adapter.save(folder / "adapter", prepared.base.name)
    size = Size.of(prepared.base)
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


def matrix_rate(seconds: float = 3.0) -> None:
    """In a process of its own: print operations a second of 2,048 x 2,048 products in bf16 and in float32."""
    import torch

    found = {}
    for name, dtype in (("bf16", torch.bfloat16), ("fp32", torch.float32)):
        a, b = (torch.randn(2048, 2048).to(dtype) for _ in range(2))
        torch.mm(a, b)
        start, done = time.perf_counter(), 0
        while time.perf_counter() - start < seconds:
            torch.mm(a, b)
            done += 1
        found[name] = 2 * 2048**3 * done / (time.perf_counter() - start)
    print(json.dumps(found))


def child(*command: str | Path) -> Any:
    """The last line that a process prints, as JSON; ends this one where that fails."""
    ended = subprocess.run([str(word) for word in command], capture_output=True, text=True, check=False)  # noqa: S603
    if ended.returncode:
        sys.exit(ended.stderr[-4000:])
    lines = ended.stdout.strip().splitlines()
    return json.loads(lines[-1]) if lines and lines[-1].startswith("{") else None


def peer(task: Task, python: str, dtype: str, save: Path | None = None) -> dict[str, Any]:
    """One training by the peer."""
    script = Path(__file__).with_name("trl_peer.py")
    options: list[str | Path] = ["--adapter", task.adapter] if task.adapter else ["--full"]
    options += ["--save", save] if save else []
    told: dict[str, Any] = child(python, script, task.model, task.rows, "--dtype", dtype, *options)
    return told


def ours(task: Task, dtype: str, out: Path) -> dict[str, Any]:
    """One training by this project, as a user would start it."""
    command = [sys.executable, "-m", "tunesmith", "train", task.recipes[dtype], "--out", out]
    child(*command)
    facts = json.loads((out / "run.json").read_text("utf-8"))
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text("utf-8").splitlines()]
    return {
        "dtype": dtype, "steps": facts["steps"], "tokens": facts["trained_tokens"], "seconds": facts["train_seconds"],
        "tokens_per_s": facts["tokens_per_s"], "peak_mb": facts["peak_memory_mb"],
        "losses": [line["loss"] for line in lines if "loss" in line],
    }  # fmt: skip


def task(args: argparse.Namespace, folder: Path) -> Task:
    """Rows, recipes and the first adapter, written."""
    rows = args.rows_file.read_text("utf-8").splitlines()[: args.rows]
    given = folder / "given.jsonl"
    given.write_text("".join(f"{line}\n" for line in rows), "utf-8")
    adapter = "{type: full}" if args.full else f"{{type: lora, r: {RANK}, alpha: 32}}"
    recipes = {}
    for precision in ("bf16", "fp32"):
        recipes[precision] = folder / f"{precision}.yaml"
        text = _RECIPE.format(model=args.model.resolve(), rows=given, adapter=adapter, precision=precision)
        recipes[precision].write_text(text, "utf-8")
    child(sys.executable, __file__, "--begin", recipes["fp32"], folder)
    told = json.loads((folder / "told.json").read_text("utf-8"))
    first = None if args.full else folder / "adapter"
    return Task(args.model.resolve(), folder / "rows.jsonl", first, recipes, told["operations"])


def cosine(first: Path, one: Path, other: Path) -> float:
    """Of what two trainings have changed of the same first adapter, all matrices as one vector."""
    import torch
    from safetensors.torch import load_file

    start, ends = load_file(first), [load_file(one), load_file(other)]
    moved = [
        torch.cat([(end[name].double() - start[name].double()).flatten() for name in sorted(start)]) for end in ends
    ]
    return float(torch.cosine_similarity(*moved, dim=0))


def gap(one: list[float], other: list[float]) -> float:
    """The largest difference of two loss curves, step by step."""
    if len(one) != len(other):
        sys.exit(f"{len(one)} steps here, {len(other)} there")
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def measured(given: Task, python: str, rounds: int, folder: Path) -> dict[str, Any]:
    """All rounds, and how near the two are to each other."""
    speeds: dict[str, list[dict[str, Any]]] = {"peer_fp32": [], "peer_bf16": [], "ours": []}
    rates = []
    for number in range(rounds):
        rates.append(child(sys.executable, __file__, "--matrix-rate"))
        speeds["peer_fp32"].append(peer(given, python, "fp32", folder / "peer" if not number else None))
        speeds["ours"].append(ours(given, "bf16", folder / f"ours-{number}"))
        speeds["peer_bf16"].append(peer(given, python, "bf16"))
    exact = ours(given, "fp32", folder / "ours-fp32")
    return {"rounds": speeds, "ours_fp32": exact, "matrix_rate": rates}


def figures(found: dict[str, Any], given: Task, folder: Path) -> dict[str, Any]:
    """What the rounds come to: medians, ratios, agreement."""
    rounds, exact = found["rounds"], found["ours_fp32"]
    speed = {name: statistics.median(one["tokens_per_s"] for one in runs) for name, runs in rounds.items()}
    better = max(("peer_fp32", "peer_bf16"), key=speed.__getitem__)
    peak = {name: statistics.median(one["peak_mb"] for one in runs) for name, runs in rounds.items()}
    seconds = statistics.median(one["seconds"] for one in rounds["ours"])
    rate = statistics.median(one["bf16"] for one in found["matrix_rate"])
    theirs, quick = rounds["peer_fp32"][0]["losses"], rounds["ours"][0]["losses"]
    agreement = {
        "max_loss_gap_fp32": gap(exact["losses"], theirs),
        "max_relative_loss_gap_bf16": max(abs(a - b) / b for a, b in zip(quick, exact["losses"], strict=True)),
    }
    if given.adapter:
        name = "adapter_model.safetensors"
        agreement["cosine_of_the_update"] = cosine(
            given.adapter / name, folder / "peer" / name, folder / "ours-fp32" / "adapter" / name
        )
    return {
        "tokens_per_s": speed, "peak_mb": peak, "better_peer": better, "matrix_rate_bf16": rate,
        "operations": given.operations,
        "summary": {
            "ratio_tokens_per_s": round(speed["ours"] / speed[better], 3),
            "ratio_peak_memory": round(peak["ours"] / peak[better], 3),
            "share_of_matrix_rate": round(given.operations / seconds / rate, 3),
            "max_loss_gap": agreement["max_loss_gap_fp32"],
        },
        "agreement": agreement,
    }  # fmt: skip


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
        given = task(args, folder)
        found = measured(given, args.peer, args.rounds, folder)
        told = figures(found, given, folder)
    if args.out:
        written.write(told | found, args.out)
    print(json.dumps(told["summary"]))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--begin"]:
        begin(*map(Path, sys.argv[2:4]))
    elif sys.argv[1:2] == ["--matrix-rate"]:
        matrix_rate()
    else:
        main()
