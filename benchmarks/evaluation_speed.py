"""How long `tunesmith evaluate` takes: base and tuned model asked anew, and again where nothing has changed.

    python benchmarks/evaluation_speed.py RUN [--out results.json] [--rounds 5]

RUN is a finished run; `make demo` makes one of 300 test rows. It is evaluated in a copy. Each command is a process of
its own, with Python's start. The machine should have nothing else to do.
"""

from __future__ import annotations

import argparse
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import written

COMMAND = [sys.executable, "-m", "tunesmith", "evaluate"]


def seconds(run: Path, *options: str) -> dict[str, float]:
    """Of one evaluation, in all and by stages as the command tells them. A gate that says no (10) is an answer, too."""
    begin = time.perf_counter()
    ended = subprocess.run([*COMMAND, run, *options, "--json"], capture_output=True, text=True, check=False)  # noqa: S603
    whole = time.perf_counter() - begin
    if ended.returncode not in (0, 10):
        sys.exit(ended.stderr)
    stages = re.findall(r"^ *(\S.*): ([0-9.]+) s$", ended.stderr, re.MULTILINE)
    return {"whole": round(whole, 2)} | {name: float(figure) for name, figure in stages}


def imports_torch(run: Path) -> bool:
    """Whether an evaluation of what is known loads torch."""
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], run, "--json"]
    told = subprocess.run(command, capture_output=True, text=True, check=False).stderr  # noqa: S603
    return any(line.rpartition("|")[2].strip() == "torch" for line in told.splitlines())


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(folder) / "run"
        shutil.copytree(args.run, run)
        fresh = [seconds(run, "--fresh") for _ in range(2)]
        again = [seconds(run) for _ in range(args.rounds)]
        torch = imports_torch(run)
        rows = len((run / "predictions.jsonl").read_text("utf-8").splitlines())
    found = {
        "rows": rows,
        "seconds_fresh": fresh,
        "seconds_again": [one["whole"] for one in again],
        "seconds_again_median": statistics.median(one["whole"] for one in again),
        "again_imports_torch": torch,
    }
    written.write(found, args.out)


if __name__ == "__main__":
    main()
