"""How far a run's forecast is from what the run then takes: ten different recipes, each trained once.

    python benchmarks/forecast_error.py [--base FOLDER] [--only NAME ...] [--part FILE.json ...] [--out FILE.json]

Rows are made of the packaged example; `--base` is a second, larger base for one of the recipes (the bundled one where
it is not given). Each training is a process of its own, `tunesmith train`, and all is read from its `run.json`: the
seconds forecast before the first step and after the first ones, `train_seconds` of the run (its steps: validations,
checkpoints and what a method computes before the first step are not in them), the time of the whole phase, and memory.
An error is forecast / real - 1. With `--only` some of the recipes are run, and `--part` adds what such runs have
written, so that a machine need not be had alone for ten minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import written

ROWS = 1500
TRAINING = {"learning_rate": 1e-4, "early_stopping": None, "evaluate_every": 60, "epochs": 20}
LORA = {"type": "lora", "r": 8, "alpha": 16}
RECIPES: dict[str, dict[str, Any]] = {
    "lora-8": {"adapter": LORA, "training": {"batch_size": 8, "max_steps": 240}},
    "lora-32-rehearsal": {
        "adapter": {"type": "lora", "r": 32, "alpha": 64},
        "method": {"type": "sft", "rehearsal": {"rows": 64}},
        "training": {"batch_size": 16, "max_steps": 120},
    },
    "lora-8-fp32": {"adapter": LORA, "training": {"batch_size": 4, "max_steps": 240, "precision": "fp32"}},
    "long-rows": {"adapter": LORA, "rows": "long", "training": {"batch_tokens": 6000, "max_steps": 60}},
    "full": {"adapter": {"type": "full"}, "training": {"batch_size": 8, "max_steps": 240}},
    "last-layers-fp32": {
        "adapter": {"type": "layers", "last": 3}, "training": {"batch_size": 16, "max_steps": 100, "precision": "fp32"},
    },
    "ia3": {"adapter": {"type": "ia3"}, "training": {"batch_size": 32, "max_steps": 100}},
    "dpo": {
        "adapter": LORA, "method": {"type": "preference", "loss": {"type": "dpo", "beta": 0.1}}, "rows": "pairs",
        "training": {"batch_size": 8, "max_steps": 160},
    },
    "reward-second-base": {
        "adapter": LORA, "method": {"type": "reward"}, "rows": "pairs", "second": True,
        "training": {"batch_size": 4, "max_steps": 40, "evaluate_every": 60, "epochs": 20},
    },
    "classify": {
        "adapter": LORA, "method": {"type": "classify"}, "rows": "labels",
        "training": {"batch_size": 16, "max_steps": 240},
    },
}  # fmt: skip
"""Parts of a recipe; `rows` names the kind of rows, `second` asks for the second base."""


def rows_of(kind: str) -> list[dict[str, Any]]:
    """Rows of the packaged example in another form."""
    from tunesmith.pipelines.demo import RECIPE

    lines = (RECIPE.parent / "train.jsonl").read_text("utf-8").splitlines()
    told = [json.loads(line)["messages"] for line in lines]
    if kind == "chat":
        return [{"messages": messages} for messages in told[:ROWS]]
    if kind == "long":
        return [
            {"messages": [told[at][0], *(m for one in told[at : at + 2 + at % 4] for m in one[1:])]}
            for at in range(0, len(told) - 10, 5)
        ]
    if kind == "labels":
        return [
            {"messages": [*m[1:2], {"role": "assistant", "content": json.loads(m[2]["content"])["intent"]}]}
            for m in told[:ROWS]
        ]
    return [
        {"prompt": one[1]["content"], "chosen": one[2]["content"], "rejected": other[2]["content"]}
        for one, other in pairwise(told[: ROWS + 1])
        if one[2]["content"] != other[2]["content"]
    ]


def measure(name: str, second: str, folder: Path) -> dict[str, Any]:
    """One recipe's training, and how far its forecasts were."""
    asked = dict(RECIPES[name])
    data, run = folder / f"{name}.jsonl", folder / name
    rows = rows_of(asked.pop("rows", "chat"))
    data.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    base = second if asked.pop("second", False) else "bundled/tunesmith-8m"
    recipe = asked | {
        "name": name, "base": base, "training": TRAINING | asked["training"],
        "data": {"train": str(data), "validation": 0.06},
    }  # fmt: skip
    path = folder / f"{name}.yaml"
    path.write_text(json.dumps(recipe), "utf-8")
    command = [sys.executable, "-m", "tunesmith", "--quiet", "train", str(path), "--out", str(run), "--json"]
    environment = os.environ | {"TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)  # noqa: S603
    if done.returncode:
        sys.exit(f"{name}: {done.stderr[-3000:]}")
    return told(json.loads(done.stdout))


def told(facts: dict[str, Any]) -> dict[str, Any]:
    """Of a run's facts: forecasts, what came, and errors."""
    before, real = facts["forecast"], facts["train_seconds"]
    after = before.get("after_steps", before)
    phase = facts["times"]["train"]
    memory = facts.get("peak_gpu_memory_mb", facts["peak_memory_mb"])
    return {
        "steps": facts["steps"], "tokens": facts["trained_tokens"], "train_seconds": real, "train_phase": phase,
        "peak_memory_mb": memory, "forecast": before,
        "error": {
            "seconds": round(before["seconds"] / real - 1, 3),
            "seconds_after_steps": round(after["seconds"] / real - 1, 3),
            "phase": round((before["seconds"] + before["validation_seconds"]) / phase - 1, 3),
            "phase_after_steps": round((after["seconds"] + after["validation_seconds"]) / phase - 1, 3),
            "peak_memory": round(before["peak_memory_mb"] / memory - 1, 3),
        },
    }  # fmt: skip


def median_errors(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Of each kind, without its sign."""
    kinds = next(iter(found.values()))["error"]
    return {kind: round(statistics.median(abs(one["error"][kind]) for one in found.values()), 3) for kind in kinds}


def main() -> None:
    """Measure, gather and write."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--base", default="bundled/tunesmith-8m")
    parser.add_argument("--only", nargs="+", choices=RECIPES, metavar="NAME")
    parser.add_argument("--part", nargs="+", type=Path, default=[])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    found: dict[str, dict[str, Any]] = {}
    for part in args.part:
        found |= json.loads(part.read_text("utf-8"))["recipes"]
    with tempfile.TemporaryDirectory() as name:
        for recipe in args.only or [one for one in RECIPES if one not in found]:
            found[recipe] = measure(recipe, args.base, Path(name))
            print(recipe, json.dumps(found[recipe]["error"]), file=sys.stderr)
    written.write({"recipes": found, "median_error": median_errors(found)}, args.out)


if __name__ == "__main__":
    main()
