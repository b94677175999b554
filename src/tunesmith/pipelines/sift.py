"""Training rows against held-out rows, benchmarks and each other: what is told, and what is left out of training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from ..core.messages import Example
from ..data import checks, repeats
from ..data.audit import Audit
from ..data.config import DataSpec
from ..data.hub import local
from ..data.quality import label_counts, quality, rows_of
from ..data.repeats import Held, Repeats
from ..data.split import overlapping


@dataclass
class Training:
    """Training rows, how often each is seen, and the near-duplicates among them."""

    examples: list[Example]
    counts: list[int]
    repeats: Repeats = field(default_factory=Repeats.none)

    def without(self, indices: Iterable[int]) -> None:
        """Leave some rows out."""
        out = set(indices)
        if out:
            kept = [i for i in range(len(self.examples)) if i not in out]
            self.examples = [self.examples[i] for i in kept]
            self.counts = [self.counts[i] for i in kept]


def sift(training: Training, validation: list[Example], test: list[Example], data: DataSpec, audit: Audit) -> None:
    """Fill the audit and leave out what the recipe says; `validation` holds the rows of a file, not of a share."""
    audit.findings += checks.held_out_overlap(overlapping(validation, test), validation, test)
    known = set()
    for held, role in ((test, "test"), (validation, "validation")):
        pairs = overlapping(training.examples, held)
        audit.findings += checks.overlap(pairs, training.examples, held, role, data.on_overlap)
        if data.on_overlap == "drop":
            training.without(i for i, _ in pairs)
        else:
            known |= {i for i, _ in pairs}
    withheld = [*repeats.held(test, "test"), *repeats.held(validation, "validation"), *_benchmarks(data, audit)]
    _leaks(training, withheld, known, data, audit)
    _validation_leaks(validation, test, data, audit)
    _repeats(training, data, audit)
    audit.findings += quality(training.examples)


def _benchmarks(data: DataSpec, audit: Audit) -> list[Held]:
    questions = []
    for path in data.benchmarks:
        found, facts = repeats.benchmark(local(path))
        questions += found
        audit.files.append(facts)
    return questions


def _leaks(training: Training, withheld: Sequence[Held], known: set[int], data: DataSpec, audit: Audit) -> None:
    """`known` rows are told as exact overlaps already."""
    found = [x for x in repeats.leaks(training.examples, withheld, data.near_threshold) if x.row not in known]
    exact = [x for x in found if x.held.role == "benchmark" and x.same]
    near = [x for x in found if x.held.role != "benchmark" or not x.same]
    audit.findings += repeats.leaked_exactly(exact, training.examples, data.on_overlap)
    audit.findings += repeats.leaked(near, training.examples, data.on_near_overlap)
    dropped = [x.row for x in exact if data.on_overlap == "drop"]
    training.without([*dropped, *(x.row for x in near if data.on_near_overlap == "drop")])


def _validation_leaks(validation: list[Example], test: list[Example], data: DataSpec, audit: Audit) -> None:
    """Rows of a validation file that are nearly test rows are told, never dropped: both files are the user's choice."""
    known = {i for i, _ in overlapping(validation, test)}
    found = repeats.leaks(validation, repeats.held(test, "test"), data.near_threshold)
    policy = "error" if data.on_near_overlap == "error" else "warn"
    audit.findings += repeats.leaked([x for x in found if x.row not in known], validation, policy)


def _repeats(training: Training, data: DataSpec, audit: Audit) -> None:
    examples = training.examples
    audit.findings += checks.duplicates(examples)
    found = repeats.find_repeats(examples, data.near_threshold)
    audit.findings += repeats.near_duplicates(found, examples, data.near_threshold, data.near_duplicates)
    if label_counts(rows_of(examples)):
        audit.findings += repeats.near_conflicts(found, examples)
    if data.near_duplicates == "drop":
        training.without(found.superfluous)
    else:
        training.repeats = found
