"""How long an index takes to make, to bring up to date and to ask, at several numbers of chunks. By words alone.

    PYTHONPATH=src python benchmarks/retrieval_speed.py --out results.json [CHUNKS ...]     5,000, 10,000, 20,000

Documents are made: Markdown files of twenty sections with 120 words each, of 30,000 words by Zipf's law. Each figure is
the best of three; what is asked is loaded anew each time, as the command does. The machine should have nothing else to
do.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tunesmith.pipelines.index import ask, build

SECTIONS, WORDS, VOCABULARY = 20, 120, 30_000


def documents(folder: Path, chunks: int) -> list[str]:
    """Write them; the words they are made of."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghijklmnopqrstuvwxyz"))
    words = ["".join(rng.choice(letters, size=rng.integers(3, 10))) for _ in range(VOCABULARY)]
    shares = 1 / np.arange(1, VOCABULARY + 1)
    for number in range(chunks // SECTIONS):
        drawn = rng.choice(VOCABULARY, size=(SECTIONS, WORDS), p=shares / shares.sum())
        sections = [f"## Section {i}\n\n" + " ".join(words[w] for w in row) for i, row in enumerate(drawn)]
        (folder / f"{number}.md").write_text(f"# Document {number}\n\n" + "\n\n".join(sections))
    return words


def best(act: Callable[[], object], before: Callable[[], object] = lambda: None) -> float:
    """Seconds, the least of three times."""
    times = []
    for _ in range(3):
        before()
        begin = time.perf_counter()
        act()
        times.append(time.perf_counter() - begin)
    return round(min(times), 3)


def measured(chunks: int) -> dict[str, Any]:
    """The figures for one number of chunks."""
    with tempfile.TemporaryDirectory() as place:
        docs, count = Path(place, "docs"), iter(range(100))
        docs.mkdir()
        words = documents(docs, chunks)
        made = best(lambda: build(docs, Path(place, f"index{next(count)}")))
        index, changes = Path(place, "index0"), iter(range(100))
        same = best(lambda: build(docs, index))

        def change() -> None:
            (docs / "0.md").write_text(f"# Changed\n\n{words[next(changes)]} is new")

        one = best(lambda: build(docs, index), change)
        question = " ".join(words[i] for i in (3, 50, 700, 9000))
        found = len(build(docs, index).index.chunks)
        return {
            "chunks": found, "make_s": made, "nothing_changed_s": same, "one_file_changed_s": one,
            "load_and_ask_s": best(lambda: ask(index, question, 5)),
        }  # fmt: skip


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("chunks", nargs="*", type=int, default=[5_000, 10_000, 20_000])
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    facts = {
        "date": datetime.now(UTC).date().isoformat(), "machine": platform.processor() or platform.machine(),
        "cores": os.cpu_count(), "load_before": os.getloadavg()[0], "python": platform.python_version(),
        "versions": {name: version(name) for name in ("bm25s", "numpy")},
        "figures": [measured(chunks) for chunks in given.chunks],
    }  # fmt: skip
    given.out.write_text(json.dumps(facts, indent=2) + "\n")
    print(given.out.read_text())


if __name__ == "__main__":
    main()
