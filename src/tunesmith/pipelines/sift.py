"""Training rows against held-out rows, benchmarks and each other: what is told, and what is left out of training."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..core.events import Sink, silent, stage
from ..core.messages import Example
from ..data import checks, repeats
from ..data.audit import Audit
from ..data.config import DataSpec
from ..data.hub import local
from ..data.keys import Keys, overlapping
from ..data.labels import label_counts
from ..data.look import Look
from ..data.quality import quality
from ..data.repeats import Held, Repeats
from ..data.rows import pick
from .judging import Judging


@dataclass
class Training:
    """Training rows, how often each is seen, which file each is from, and the near-duplicates among them."""

    examples: Sequence[Example]
    counts: NDArray[np.int64]
    """How often each row is seen in an epoch, int64 [rows]."""
    sources: NDArray[np.int64]
    """The place in `data.train` of the file that each row is from, int64 [rows]."""
    keys: Keys = field(init=False)
    places: NDArray[np.int64] = field(init=False)
    """Where each row stood before any was left out, int64 [rows]."""
    repeats: Repeats = field(default_factory=Repeats.none)

    def __post_init__(self) -> None:
        self.keys = Keys.of(self.examples)
        self.places = np.arange(len(self.examples))

    def without(self, indices: Iterable[int]) -> None:
        """Leave some rows out."""
        out = np.unique(np.fromiter(indices, dtype=np.int64))
        if len(out):
            kept = np.setdiff1d(np.arange(len(self.examples)), out)
            self.examples = pick(self.examples, kept)
            self.counts, self.sources, self.keys = self.counts[kept], self.sources[kept], self.keys.pick(kept)
            self.places = self.places[kept]


def sift(
    training: Training, validation: Sequence[Example], test: Sequence[Example], data: DataSpec, audit: Audit,
    looks: Sequence[Look] = (), sink: Sink = silent, judging: Judging | None = None,
) -> None:  # fmt: skip
    """Fill the audit and leave out what the recipe says; `validation` holds the rows of a file, not of a share.

    `looks` are checks of the rows that are left, besides those of quality; `judging` judges rows elsewhere meanwhile.
    """
    tested, validated = Keys.of(test), Keys.of(validation)
    audit.findings += checks.held_out_overlap(overlapping(validated, tested), validation, test)
    known: dict[str, set[int]] = {}
    for held, keys, role in ((test, tested, "test"), (validation, validated, "validation")):
        pairs = overlapping(training.keys, keys)
        audit.findings += checks.overlap(pairs, training.examples, held, role, data.on_overlap)
        if data.on_overlap == "drop":
            training.without(pairs[0])
        else:
            known[role] = set(pairs[0].tolist())
    withheld = [*repeats.held(test, "test"), *repeats.held(validation, "validation"), *benchmarks(data, audit)]
    with stage(sink, "near-duplicates"):
        _leaks(training, withheld, known, data, audit)
        same = set(overlapping(validated, tested)[0].tolist())
        _validation_leaks(validation, test, same, data, audit)
        _repeats(training, data, audit)
    with stage(sink, "looks"):
        judged = judging.of(training.places) if judging else None
        audit.findings += quality(training.examples, looks, sink, judged)


def trained_on(train: Sequence[Example], test: Sequence[Example], data: DataSpec, audit: Audit) -> None:
    """Test rows that were not chosen with the training rows: what both have blocks, what is nearly the same is told."""
    pairs = overlapping(Keys.of(train), Keys.of(test))
    audit.findings += checks.overlap(pairs, train, test, "test", "error")
    known = set(pairs[0].tolist())
    near = repeats.leaks(train, repeats.held(test, "test"), data.near_threshold)
    audit.findings += repeats.leaked([x for x in near if x.row not in known], train, "warn")


def benchmarks(data: DataSpec, audit: Audit) -> list[Held]:
    """The questions of the files that the recipe names as benchmarks; the audit counts the files."""
    questions = []
    for path in data.benchmarks:
        found, facts = repeats.benchmark(local(path))
        questions += found
        audit.files.append(facts)
    return questions


def _leaks(
    training: Training, withheld: Sequence[Held], known: Mapping[str, set[int]], data: DataSpec, audit: Audit
) -> None:
    """`known` rows are told as exact overlaps with a role's rows already."""
    found = repeats.leaks(training.examples, withheld, data.near_threshold)
    found = [x for x in found if x.row not in known.get(x.held.role, ())]
    exact = [x for x in found if x.held.role == "benchmark" and x.same]
    near = [x for x in found if x.held.role != "benchmark" or not x.same]
    audit.findings += repeats.leaked_exactly(exact, training.examples, data.on_overlap)
    audit.findings += repeats.leaked(near, training.examples, data.on_near_overlap)
    dropped = [x.row for x in exact if data.on_overlap == "drop"]
    training.without([*dropped, *(x.row for x in near if data.on_near_overlap == "drop")])


def _validation_leaks(
    validation: Sequence[Example], test: Sequence[Example], known: set[int], data: DataSpec, audit: Audit
) -> None:
    """Rows of a validation file that are nearly test rows are told, never dropped: both files are the user's choice.

    `known` rows are told as exact overlaps already.
    """
    found = repeats.leaks(validation, repeats.held(test, "test"), data.near_threshold)
    policy = "error" if data.on_near_overlap == "error" else "warn"
    audit.findings += repeats.leaked([x for x in found if x.row not in known], validation, policy)


def _repeats(training: Training, data: DataSpec, audit: Audit) -> None:
    examples = training.examples
    audit.findings += checks.duplicates(examples, training.keys)
    found = repeats.find_repeats(examples, data.near_threshold)
    audit.findings += repeats.near_duplicates(
        found, examples, training.keys, data.near_threshold, data.near_duplicates
    )  # fmt: skip
    if len(found.differing) and label_counts(examples):
        audit.findings += repeats.near_conflicts(found, examples, training.keys)
    if data.near_duplicates == "drop":
        training.without(found.superfluous)
    else:
        training.repeats = found
