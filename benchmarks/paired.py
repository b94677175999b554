"""Two variants of a recipe held against each other row by row: the same test rows, the same seed.

The difference has its 95 % interval (paired bootstrap over rows), for each seed and for all seeds together.

    python benchmarks/paired.py RUNS_FOLDER ONE OTHER --seeds 1 2 3 --out FILE.json

RUNS_FOLDER is what `benchmarks/variants.py` wrote. A row of all seeds together has the mean of its seeds: rows are
drawn, not seeds. Loss is the mean over rows of each row's nats a token; lower is better.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
import written
from numpy.typing import NDArray

from tunesmith.evaluation.stats import paired_bootstrap

FIGURES = {"first metric": "tuned_score", "loss": "tuned_loss"}


def rows(folder: Path, key: str) -> NDArray[np.float64]:
    """A figure of every test row of a run."""
    lines = (folder / "predictions.jsonl").read_text("utf-8").splitlines()
    return np.array([float(json.loads(line)[key]) for line in lines])


def difference(one: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Any]:
    """Other minus one."""
    found = paired_bootstrap(one, other, resamples=2000, seed=7)
    names = {"one": found.base, "other": found.tuned, "difference": found.delta}
    return {name: [round(value, 4) for value in (got.value, got.low, got.high)] for name, got in names.items()}


def main() -> None:
    """Compare and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("one")
    parser.add_argument("other")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    told: dict[str, Any] = {}
    for name, key in FIGURES.items():
        pairs = [
            tuple(rows(args.runs / f"{variant}-{seed}", key) for variant in (args.one, args.other))
            for seed in args.seeds
        ]
        each = {str(seed): difference(*pair) for seed, pair in zip(args.seeds, pairs, strict=True)}
        together = difference(*(np.mean([pair[side] for pair in pairs], axis=0) for side in (0, 1)))
        told[name] = {"seeds": each, "together": together}
    written.write({"value_low_high": told}, args.out)


if __name__ == "__main__":
    main()
