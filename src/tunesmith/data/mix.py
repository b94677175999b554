"""Several sources under weights: how often a row is seen, at most how many of a label, and what that comes to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ..core.messages import Example
from .audit import CapFacts, Finding, SourceShare
from .config import CapSpec
from .values import labels

CAP_DRAW = 2
"""What tells the draw of rows under a cap from other draws under one seed."""
_SHOWN = 10


def repetitions(rows: int, weight: float, seed: int) -> list[int]:
    """How often each of `rows` rows is seen in an epoch, so that the sum is round(rows * weight).

    The whole part of the weight goes to every row; the rest goes to a seeded sample of them.
    """
    whole, part = divmod(round(rows * weight), rows) if rows else (0, 0)
    counts = np.full(rows, whole, dtype=np.int64)
    counts[np.random.default_rng(seed).permutation(rows)[:part]] += 1
    return [int(count) for count in counts]


def over_cap(
    examples: Sequence[Example], trained: Sequence[int], spec: CapSpec, seed: int
) -> tuple[set[int], CapFacts]:
    """The rows among `trained` (indices, each once) that exceed the cap on their label, and what that comes to.

    Which ones is drawn from the seed. ContentError where answers are no labels, or no row has the key.
    """
    column = labels(examples, spec.by, "data.cap_per_label.by")
    rows = np.array(trained, dtype=np.int64)[np.random.default_rng([seed, CAP_DRAW]).permutation(len(trained))]
    rows = rows[np.argsort(column.codes[rows], kind="stable")]
    codes = column.codes[rows]
    place = np.arange(len(codes)) - np.searchsorted(codes, codes)  # the how many-th of its label
    out = (codes >= 0) & (place >= spec.rows)
    counts = np.bincount(codes[out], minlength=len(column.names)).tolist()
    left = {name: n for name, n in sorted(zip(column.names, counts, strict=True), key=lambda x: -x[1]) if n}
    kept, unlabelled = int(np.count_nonzero(~out)), int(np.count_nonzero(codes < 0))
    return set(rows[out].tolist()), CapFacts(spec.by, spec.rows, kept, left, unlabelled)


def capped(facts: CapFacts, places: Sequence[str]) -> Iterator[Finding]:
    """What a cap left out of training: rows by their places, and how many of each label."""
    if not places:
        return
    shown = [f"{label} {count:,}" for label, count in list(facts.left_out.items())[:_SHOWN]]
    more = ["..."] if len(facts.left_out) > _SHOWN else []
    yield Finding(
        "capped", "info", f"row is not trained on, for no label may have more than {facts.at_most:,}; left out: "
        f"{', '.join(shown + more)}", "raise data.cap_per_label to train on more", tuple(places),
    )  # fmt: skip


def mixture(
    paths: Sequence[str], source: NDArray[np.int64], repeats: Sequence[int], lengths: Sequence[int]
) -> list[SourceShare]:
    """What each file is to an epoch, from each trained row's place in `paths`, repetitions and tokens [rows]."""
    seen = np.bincount(source, weights=repeats, minlength=len(paths))
    tokens = np.bincount(source, weights=np.multiply(repeats, lengths), minlength=len(paths))
    rows = np.bincount(source, minlength=len(paths))
    every_row, every_token = max(1, seen.sum()), max(1, tokens.sum())
    parts = zip(paths, rows.tolist(), seen.tolist(), tokens.tolist(), strict=True)
    return [SourceShare(path, n, int(s), int(t), s / every_row, t / every_token) for path, n, s, t in parts]
