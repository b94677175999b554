"""Near-duplicates: speed and memory on made rows of about 1 KB, and recall beside brute force on real rows.

PYTHONPATH=src python benchmarks/near_duplicates.py                        speed at 10,000, 30,000 and 100,000 rows
PYTHONPATH=src python benchmarks/near_duplicates.py FILE.jsonl ...         the first 5,000 different rows of each
"""

from __future__ import annotations

import re
import resource
import sys
import time
from pathlib import Path

import numpy as np

from tunesmith.core.messages import Example, Message
from tunesmith.data.dedup import near_pairs
from tunesmith.data.load import load
from tunesmith.data.quality import quality
from tunesmith.data.repeats import row_text

SIZES = (10_000, 30_000, 100_000)
WORDS = 160
ROWS = 5000


def made(count: int) -> list[str]:
    """Random texts with the frequencies of natural words; each twenty-fifth is an earlier one without two words."""
    draw = np.random.default_rng(0)
    vocabulary = np.array([f"word{i}" if i % 3 else f"w{i:x}" for i in range(30_000)])
    shares = 1 / np.arange(1, len(vocabulary) + 1)
    bounds = np.cumsum(shares / shares.sum())
    texts: list[str] = []
    for number in range(count):
        if number % 25 == 24:
            texts.append(texts[number // 2].rsplit(" ", 2)[0])
        else:
            texts.append(" ".join(vocabulary[np.searchsorted(bounds, draw.random(WORDS))]))
    return texts


def speed() -> None:
    """Rows a second of the near-duplicates and of the quality checks; the highest memory so far."""
    for count in SIZES:
        texts = made(count)
        begin = time.process_time()
        pairs = near_pairs(texts)
        near = time.process_time() - begin
        rows = [
            Example(messages=(Message(role="user", content=t[:500]), Message(role="assistant", content=t[500:])))
            for t in texts
        ]
        begin = time.process_time()
        list(quality(rows))
        checks = time.process_time() - begin
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        size = sum(map(len, texts)) / count
        print(
            f"{count:,} rows of {size:.0f} bytes: near-duplicates {near:.1f} s ({count / near:,.0f} rows/s, "
            f"{len(pairs)} pairs), quality {checks:.1f} s ({count / checks:,.0f} rows/s), {memory} MiB"
        )


def word_sets(text: str) -> set[tuple[str, ...]]:
    """The shingles by plain Python."""
    words = re.findall(r"\w+", text.casefold())
    return {tuple(words[i : i + 3]) for i in range(max(1, len(words) - 2))} if words else set()


def recall(path: Path, threshold: float) -> None:
    """Pairs that all-against-all finds beside ours."""
    texts = {" ".join(re.findall(r"\w+", row_text(e).casefold())): None for e in load(path).examples}
    sets = [word_sets(text) for text in list(texts)[:ROWS]]
    wanted = set()
    for right, mine in enumerate(sets):
        for left in range(right):
            other = sets[left]
            small, large = sorted((len(mine), len(other)))
            if small >= threshold * large and len(mine & other) >= threshold * len(mine | other):
                wanted.add((left, right))
    pairs = near_pairs(list(texts)[:ROWS], threshold)
    found = set(zip(pairs.left.tolist(), pairs.right.tolist(), strict=True))
    print(
        f"{path.parent.name}, {len(sets)} rows, threshold {threshold}: brute force {len(wanted)} pairs, "
        f"found {len(found & wanted)}, false {len(found - wanted)}"
    )


if __name__ == "__main__":
    files = [Path(name) for name in sys.argv[1:]]
    for file in files:
        for threshold in (0.5, 0.7, 0.8, 0.9):
            recall(file, threshold)
    if not files:
        speed()
