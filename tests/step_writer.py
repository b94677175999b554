"""A training that trains nothing: one line a step into `metrics.jsonl`, going on where it stopped.

    step_writer.py RUN STEPS SECONDS_A_STEP

Like a real one it knows its folder by name alone, ends with 75 at SIGTERM, and with 7 when its folder is gone.
"""

import json
import signal
import sys
import time
from pathlib import Path


def replace(path: Path, content: bytes) -> None:
    beside = path.with_name(path.name + ".tmp")
    beside.write_bytes(content)
    beside.rename(path)


def done(path: Path) -> int:
    """Steps that are there; a torn last line is cut off."""
    if not path.exists():
        return 0
    content = path.read_bytes()
    whole = content[: content.rfind(b"\n") + 1]
    if whole != content:
        replace(path, whole)
    return whole.count(b"\n")


def main(run: Path, steps: int, seconds: float) -> int:
    stop = []
    signal.signal(signal.SIGTERM, lambda *_: stop.append(1))
    run.mkdir(exist_ok=True)
    replace(run / "run.json", json.dumps({"planned_steps": steps}).encode())
    for step in range(done(run / "metrics.jsonl") + 1, steps + 1):
        if stop:
            return 75
        time.sleep(seconds)
        with (run / "metrics.jsonl").open("ab") as file:
            file.write(json.dumps({"step": step, "loss": 1 / step}).encode() + b"\n")
    return 0


try:
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])))
except FileNotFoundError:
    sys.exit(7)
