"""One recipe in several variants and with several seeds, each run in a process of its own; what came out, side by side.

    python benchmarks/variants.py RECIPE --out FILE.json --runs DIR --seeds 1 2 3 \
        --variant dpo method.loss=dpo --variant simpo method.loss=simpo training.learning_rate=1e-3

Runs one after the other, never two at once. Runs that are finished in DIR are read, not run again; unfinished ones are
resumed. FILE has every run's figures, and for each variant the mean over the seeds with the lowest and highest. Below
20 runs no interval is claimed for a mean over seeds; each run's own 95 % intervals are over its test rows.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from statistics import mean
from typing import Any

GATE_SAYS_NO = 10


def run(recipe: Path, folder: Path, seed: int, settings: list[str]) -> dict[str, Any]:
    """The figures of one run, from its folder."""
    known = folder / "run.json"
    if not (known.is_file() and json.loads(known.read_text())["status"] == "finished"):
        command = [sys.executable, "-m", "tunesmith", "run", str(recipe), "--out", str(folder), "--resume", "--quiet"]
        for setting in [f"seed={seed}", *settings]:
            command += ["--set", setting]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)  # noqa: S603
        if done.returncode not in (0, GATE_SAYS_NO):
            raise SystemExit(f"{folder}: exit code {done.returncode}")
    return figures(folder, seed)


def figures(folder: Path, seed: int) -> dict[str, Any]:
    """What is told of a finished run."""
    facts = json.loads((folder / "run.json").read_text())
    evaluation = json.loads((folder / "evaluation.json").read_text())
    metrics = {
        m["name"]: {"base": m["base"], "tuned": m["tuned"], "difference_ci95": m["ci95"]} for m in evaluation["metrics"]
    }
    forgetting = evaluation.get("forgetting") or {}
    return {
        "seed": seed, "metrics": metrics, "forgetting": forgetting.get("delta"), "verdict": evaluation["verdict"],
        "baselines": evaluation.get("baselines", []), "trained_parameters": facts.get("trained_parameters"),
        "train_seconds": facts["train_seconds"], "tokens_per_s": facts["tokens_per_s"],
        "peak_memory_mb": facts["peak_memory_mb"], "steps": facts["steps"], "kept_step": facts["kept_step"],
    }  # fmt: skip


def summary(runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean, lowest and highest over the seeds of the tuned model's figures."""

    def told(values: list[float]) -> dict[str, float]:
        return {"mean": round(mean(values), 4), "lowest": round(min(values), 4), "highest": round(max(values), 4)}

    names = runs[0]["metrics"]
    summed = {name: told([one["metrics"][name]["tuned"] for one in runs]) for name in names}
    if all(one["forgetting"] is not None for one in runs):
        summed["forgetting"] = told([one["forgetting"] for one in runs])
    return summed


def main() -> None:
    """Run all variants, print each as it ends, write the file anew after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipe", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--runs", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--variant", nargs="+", action="append", required=True, metavar=("NAME", "KEY=VALUE"))
    given = parser.parse_args()
    versions = {name: version(name) for name in ("tunesmith", "torch", "transformers")}
    told: dict[str, Any] = {
        "date": datetime.now(UTC).date().isoformat(),
        "command": f"python benchmarks/variants.py {' '.join(a for a in sys.argv[1:])}",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, "
        f"OMP_NUM_THREADS={os.environ.get('OMP_NUM_THREADS', 'default')}",
        "python": platform.python_version(), "versions": versions, "variants": {},
    }  # fmt: skip
    for name, *settings in given.variant:
        runs = [run(given.recipe, given.runs / f"{name}-{seed}", seed, settings) for seed in given.seeds]
        told["variants"][name] = {"settings": settings, "summary": summary(runs), "runs": runs}
        print(name, json.dumps(told["variants"][name]["summary"]), flush=True)
        given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    main()
