"""How long `tunesmith check` takes and how much memory, by stages, on files of made rows of about 1 KB; and how long
`check --quick` and tokenizing alone take.

    python benchmarks/check_speed.py CORPUS --out results.json [ROWS ...]     100,000, 300,000 and 1,000,000 rows

CORPUS holds texts to make rows of: JSON Lines with a `text`, compressed or not. A row is a question of three random
sentences and an answer of four or five; one row in a hundred has an address and a telephone number, one an order number
and a date. Memory is the sum of what check's processes hold (resident set), looked at twice a second. The machine
should have nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from tunesmith.data.raw import LIMITS
from tunesmith.data.source import rows

SENTENCES = 400_000


def sentences(corpus: Path) -> list[str]:
    """Sentences of 30 to 300 characters."""
    found: list[str] = []
    for raw in rows(corpus, asked=None, known=lambda names: "text" in names, limits=LIMITS):
        text = raw.value.get("text", "").replace("\n", " ")
        found += [f"{part.strip()}." for part in text.split(". ") if 30 < len(part) < 300]
        if len(found) > SENTENCES:
            break
    return found


def write_rows(path: Path, known: list[str], count: int) -> None:
    """A file of chat rows."""
    draw = np.random.default_rng(1)
    with path.open("wb") as file:
        for number in range(count):
            said = [known[i] for i in draw.integers(0, len(known), 7 + number % 2)]
            odd = draw.random()
            if odd < 0.01:
                said[0] += f" Write to user{number}@example.org or call +44 20 7946 {number % 10000:04d}."
            elif odd < 0.02:
                said[1] += f" Order {draw.integers(10**9)} of 2024-03-{1 + number % 28:02d}."
            turns = {"user": " ".join(said[:3]), "assistant": " ".join(said[3:])}
            messages = [{"role": role, "content": content} for role, content in turns.items()]
            file.write(orjson.dumps({"messages": messages, "id": number}) + b"\n")


def leave_out() -> None:
    """Near-duplicates, languages and tokens do nothing from here on, here and in the workers; all else is done."""
    from tunesmith.data import repeats
    from tunesmith.data.language import Languages
    from tunesmith.pipelines import prepare

    class NoTokens:
        """In the place of `Encoding`."""

        def __init__(self, *_: object):
            """No task is given to the workers."""

        def of(self, _: object) -> Iterator[Any]:
            """No row."""
            return iter(())

    repeats.find_repeats = lambda *_: repeats.Repeats.none()
    Languages.see = lambda *_: None
    prepare.usual_languages = lambda _: None  # without which workers judge no language
    prepare.Encoding = NoTokens


def check(path: Path, everything: bool) -> None:
    """In a process of its own: check the file, print what each stage took."""
    from tunesmith.core.events import Event, StageEnded
    from tunesmith.pipelines.check import Request, check_files

    if not everything:
        leave_out()
    stages: dict[str, float] = {}

    def heard(event: Event) -> None:
        if isinstance(event, StageEnded):
            stages[event.stage] = stages.get(event.stage, 0.0) + event.seconds

    facts = check_files(Request([path]), heard).as_json()
    print(json.dumps({"rows": facts["rows"], "tokens": facts["tokens"]["tokens"], "stages": stages}))


def quick(path: Path) -> None:
    """In a process of its own: look at a sample of the file."""
    from tunesmith.pipelines.check import Request, check_files

    facts = check_files(Request([path], quick=True)).as_json()
    print(json.dumps({"rows": facts["rows"], "tokens": facts["tokens"]["tokens"], "stages": {}}))


def tokenize(path: Path) -> None:
    """In a process of its own: read the file, then make tokens of its rows on all cores and do nothing else."""
    from tunesmith.data.load import load
    from tunesmith.data.template import PLAIN_TEMPLATE
    from tunesmith.models.find import find
    from tunesmith.models.refs import DEFAULT
    from tunesmith.models.tokenizer import tokenizer
    from tunesmith.pipelines.crew import Crew
    from tunesmith.pipelines.encoding import Encoding

    loaded = load(path).examples
    words = tokenizer(find(DEFAULT), PLAIN_TEMPLATE)
    begin = time.monotonic()
    with Crew(DEFAULT) as crew:
        shown = Encoding(words, loaded, crew).of(np.arange(len(loaded)))
        made = (pieces for _, pieces in shown if isinstance(pieces, list))
        tokens = sum(len(one.input_ids) for pieces in made for _, one in pieces)
    stages = {"tokenizing": time.monotonic() - begin}
    print(json.dumps({"rows": len(loaded), "tokens": tokens, "stages": stages}))


MODES = {
    "--whole": lambda path: check(path, everything=True), "--some": lambda path: check(path, everything=False),
    "--quick": quick, "--tokens": tokenize,
}  # fmt: skip


def run(path: Path, mode: str) -> dict[str, Any]:
    """`check` on the file in a process of its own: its figures, the whole time, the highest memory."""
    begin, most = time.monotonic(), 0
    told = path.with_suffix(".told")
    with told.open("wb") as out, subprocess.Popen([sys.executable, __file__, mode, str(path)], stdout=out) as process:  # noqa: S603
        while process.poll() is None:
            most = max(most, sum(map(resident, family(process.pid))))
            time.sleep(0.5)
    figures: dict[str, Any] = json.loads(told.read_bytes())
    return figures | {"seconds": round(time.monotonic() - begin, 1), "peak_memory_mb": round(most / 1e6)}


def measured(path: Path) -> dict[str, Any]:
    """The whole check, the check without near-duplicates, languages and tokens, the quick one, tokenizing alone."""
    whole, some, sample, alone = (run(path, mode) for mode in MODES)
    return {
        "rows": whole["rows"], "bytes": path.stat().st_size, "tokens": whole["tokens"], "seconds": whole["seconds"],
        "seconds_without_near_duplicates_languages_tokens": some["seconds"],
        "seconds_quick": sample["seconds"],
        "tokens_a_minute_tokenizing": round(60 * alone["tokens"] / alone["stages"]["tokenizing"]),
        "peak_memory_mb": whole["peak_memory_mb"],
        "stages": {name: round(seconds, 1) for name, seconds in whole["stages"].items()},
    }  # fmt: skip


def family(pid: int) -> list[int]:
    """The process and all below it."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        children = []
    return [pid, *(one for child in children for one in family(int(child)))]


def resident(pid: int) -> int:
    """Bytes of memory that a process holds."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError):
        return 0


def main() -> None:
    """Make the files, check each, print and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("sizes", type=int, nargs="*", default=[100_000, 300_000, 1_000_000])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    known, figures = sentences(given.corpus), []
    with tempfile.TemporaryDirectory() as folder:
        for size in given.sizes:
            path = Path(folder) / f"{size}.jsonl"
            write_rows(path, known, size)
            figures.append(measured(path))
            print(json.dumps(figures[-1]), flush=True)
            path.unlink()
    versions = {name: version(name) for name in ("tunesmith", "tokenizers", "transformers", "pydantic", "numpy")}
    told = {
        "date": datetime.now(UTC).date().isoformat(), "command": "python benchmarks/check_speed.py CORPUS --out FILE",
        "machine": f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores", "python": platform.python_version(),
        "versions": versions, "figures": figures,
    }  # fmt: skip
    given.out.write_text(json.dumps(told, indent=1) + "\n")


if __name__ == "__main__":
    if sys.argv[1] in MODES:
        MODES[sys.argv[1]](Path(sys.argv[2]))
    else:
        main()
