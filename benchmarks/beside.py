"""What the benchmarks beside the peer share: trainings in turn, each in a process of its own, and what they come to."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

RANK = 16
QUICK_ROWS, QUICK_ROUNDS = 32, 2
PRECISIONS = ("bf16", "fp32")


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
    told: dict[str, float]
    """`operations` of the whole training, and what else the benchmark counts by."""


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


def peer(task: Task, python: str, dtype: str, *options: str | Path) -> dict[str, Any]:
    """One training by the peer."""
    script = Path(__file__).with_name("trl_peer.py")
    start: list[str | Path] = ["--adapter", task.adapter] if task.adapter else ["--full"]
    told: dict[str, Any] = child(python, script, task.model, task.rows, "--dtype", dtype, *start, *options)
    return told


def write_task(args: Any, folder: Path, rows: list[str], recipe: str, script: str) -> Task:
    """Rows, recipes, and what `script --begin` makes of them: the rows in our order, the first adapter, counts."""
    given = folder / "given.jsonl"
    given.write_text("".join(f"{line}\n" for line in rows), "utf-8")
    adapter = "{type: full}" if args.full else f"{{type: lora, r: {RANK}, alpha: 32}}"
    recipes = {}
    for precision in PRECISIONS:
        recipes[precision] = folder / f"{precision}.yaml"
        text = recipe.format(model=args.model.resolve(), rows=given, adapter=adapter, precision=precision)
        recipes[precision].write_text(text, "utf-8")
    child(sys.executable, script, "--begin", recipes["fp32"], folder)
    told = json.loads((folder / "told.json").read_text("utf-8"))
    first = None if args.full else folder / "adapter"
    return Task(args.model.resolve(), folder / "rows.jsonl", first, recipes, told)


def planned(recipe: Path) -> tuple[Any, list[Any], list[int]]:
    """(what is prepared, its training rows, the order in which our steps take them)."""
    from tunesmith.engine.steps import Steps
    from tunesmith.pipelines.prepare import prepare
    from tunesmith.pipelines.read_recipe import placed, read_recipe

    with placed(recipe):
        prepared = prepare(read_recipe(recipe), recipe.parent)
    train = list(prepared.train.encoded)
    steps = Steps([row.length for row in train], prepared.repeats, prepared.spec.training, prepared.spec.seed)
    return prepared, train, [row for _, step in steps.after(0) for micro in step for row in micro]


def first_adapter(prepared: Any, folder: Path) -> None:
    """Write the adapter that our training begins with; nothing where all weights are trained."""
    from tunesmith.pipelines import bench

    if prepared.spec.adapter.type != "full":
        made = bench.build(prepared.spec, prepared.base, prepared.tokenizer)
        (folder / "adapter").mkdir()
        made.adapter.save(folder / "adapter", prepared.base.name)


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


def measured(
    given: Task, rounds: int, folder: Path, ours: Callable[[Task, str, Path], dict[str, Any]],
    theirs: Callable[..., dict[str, Any]],
) -> dict[str, Any]:  # fmt: skip
    """All rounds, and one training of ours in float32 to be held against the peer's."""
    speeds: dict[str, list[dict[str, Any]]] = {"peer_fp32": [], "peer_bf16": [], "ours": []}
    rates = []
    for number in range(rounds):
        rates.append(child(sys.executable, __file__, "--matrix-rate"))
        save = ["--save", folder / "peer"] if not number else []
        speeds["peer_fp32"].append(theirs(given, "fp32", *save))
        speeds["ours"].append(ours(given, "bf16", folder / f"ours-{number}"))
        speeds["peer_bf16"].append(theirs(given, "bf16"))
    return {"rounds": speeds, "ours_fp32": ours(given, "fp32", folder / "ours-fp32"), "matrix_rate": rates}


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
        "operations": given.told["operations"],
        "summary": {
            "ratio_tokens_per_s": round(speed["ours"] / speed[better], 3),
            "ratio_peak_memory": round(peak["ours"] / peak[better], 3),
            "share_of_matrix_rate": round(given.told["operations"] / seconds / rate, 3),
            "max_loss_gap": agreement["max_loss_gap_fp32"],
        },
        "agreement": agreement,
    }  # fmt: skip


if __name__ == "__main__":
    matrix_rate()
