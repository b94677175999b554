"""Training rows that nearly repeat each other, and training rows that are nearly in held-out or benchmark files.

Here texts become rows again: `dedup` finds the pairs, this module says what they mean and which row is kept.
System turns are left out of every text: rows that share a long one would all look alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core import fingerprints
from ..core.errors import ContentError
from ..core.messages import Example, Message, Prompt, Row, Text
from . import dedup
from .audit import FileFacts, Finding
from .dedup import Pairs
from .formats import RowError, detect
from .keys import Keys
from .rows import Mapped
from .source import rows

QUESTION_KEYS = ("question", "prompt", "problem", "query", "input", "instruction", "sentence", "text")
"""Where benchmarks keep what is asked, the first that a row has."""


def row_text(example: Example) -> str:
    """Every turn but the system's."""
    return _text(example.messages)


def prompt_text(example: Example) -> str:
    """What stands before the last answer, without the system's turns."""
    return _text(example.prompt())


def _text(messages: Iterable[Message]) -> str:
    return "\n".join(m.content for m in messages if m.content and m.role not in ("system", "developer"))


@dataclass(frozen=True)
class Cluster:
    """Rows that repeat each other, exactly or nearly; indices."""

    kept: int
    """The one with the longest answer; of equally long ones the first: the cut-off variant goes, not the full one."""
    others: tuple[int, ...]


@dataclass(frozen=True)
class Repeats:
    """What near-duplicate rows a set has."""

    clusters: list[Cluster]
    differing: Pairs
    """Near rows whose answers are not near."""

    @staticmethod
    def none() -> Repeats:
        """No row repeats another."""
        nowhere = np.zeros(0, dtype=np.int64)
        return Repeats([], Pairs(nowhere, nowhere, np.zeros(0)))

    @property
    def superfluous(self) -> dict[int, int]:
        """Each row that is not kept, and the one that stands for it."""
        return {other: cluster.kept for cluster in self.clusters for other in cluster.others}


def find_repeats(examples: Sequence[Example], threshold: float) -> Repeats:
    """Clusters of rows whose whole texts and whose answers both have a Jaccard index of at least `threshold`.

    The answer counts for itself as well because rows of one template often differ in little else: "Weather in Oslo?"
    and "Weather in Rome?" with their own answers are two examples. An answer of up to three words must be the same.
    """
    pairs = dedup.near_pairs(Mapped(examples, row_text), threshold)
    answers = Mapped(examples, Example.answer)
    alike = dedup.jaccard(answers, answers, pairs.left, pairs.right) >= threshold
    both = zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)
    alike |= np.array([not answers[i] and not answers[j] for i, j in both], bool)
    labels = dedup.clusters(pairs.where(alike), len(examples))
    members: dict[int, list[int]] = {}
    for index in np.flatnonzero(np.bincount(labels, minlength=len(examples))[labels] > 1).tolist():
        members.setdefault(int(labels[index]), []).append(index)
    return Repeats([_cluster(examples, group) for group in members.values()], pairs.where(~alike))


def _cluster(examples: Sequence[Example], group: list[int]) -> Cluster:
    kept = max(group, key=lambda i: (len(examples[i].answer()), -i))
    return Cluster(kept, tuple(i for i in group if i != kept))


def near_duplicates(
    repeats: Repeats, examples: Sequence[Example], keys: Keys, threshold: float, policy: str
) -> Iterator[Finding]:
    """Rows beside which a near one is kept. Exact repetitions are told as `duplicate_rows`, unless they are dropped."""
    exact = set() if policy == "drop" else set(np.flatnonzero(keys.repeated()).tolist())
    rows_ = {i: kept for i, kept in sorted(repeats.superfluous.items()) if i not in exact and kept not in exact}
    if not rows_:
        return
    groups = [c for c in repeats.clusters if rows_.keys() & {*c.others}]
    largest = max(groups, key=lambda c: len(c.others))
    message = (
        f"row nearly repeats another (threshold {threshold:g}); {len(groups)} cluster{'s' if len(groups) > 1 else ''}, "
        f"the largest of {len(largest.others) + 1} rows; the longest answer of each is kept"
    )
    shown = ", ".join(examples[i].origin for i in sorted((largest.kept, *largest.others))[:10])
    places = tuple(f"{examples[i].origin} ~ {examples[kept].origin}" for i, kept in rows_.items())
    if policy == "drop":
        yield Finding(
            "near_duplicates_dropped", "warn", f"{message}, this one left out", "nothing to do", places, shown
        )
    else:
        mend = "look at them; data.near_duplicates: drop leaves all but one of each cluster out"
        yield Finding("near_duplicates", "warn", message, mend, places, shown)


def near_conflicts(repeats: Repeats, examples: Sequence[Example], keys: Keys) -> Iterator[Finding]:
    """Rows that are nearly the same and have different labels. Only for answers that are labels: others may differ."""
    left, right = repeats.differing.left, repeats.differing.right
    near = np.flatnonzero(keys.prompts[left] != keys.prompts[right]).tolist()
    places = [f"{examples[int(right[n])].origin} ~ {examples[int(left[n])].origin}" for n in near]
    if places:
        yield Finding(
            "near_conflicts", "warn", "row is nearly the same as another and has a different label",
            "decide on one label, unless the words that differ decide it", tuple(dict.fromkeys(places)),
        )  # fmt: skip


@dataclass(frozen=True)
class Held:
    """A text that must not be trained on."""

    text: str
    origin: str
    role: str


@dataclass(frozen=True)
class Leak:
    """A training row (index) whose prompt is, or nearly is, a held-out one: the nearest of them."""

    row: int
    held: Held
    jaccard: float

    @property
    def same(self) -> bool:
        """Whether the two have the same shingles: they differ at most in case, punctuation and white space."""
        return self.jaccard >= 1


def held(examples: Sequence[Example], role: str) -> list[Held]:
    """The prompts of held-out rows."""
    return [Held(prompt_text(e), e.origin, role) for e in examples]


def leaks(examples: Sequence[Example], withheld: Sequence[Held], threshold: float) -> list[Leak]:
    """At most one for each row and role."""
    if not withheld or not examples:
        return []
    texts = Mapped(examples, prompt_text)
    signed = dedup.sign(texts, threshold)
    found: list[Leak] = []
    for role in dict.fromkeys(h.role for h in withheld):
        mine = [h for h in withheld if h.role == role]
        pairs = dedup.near_between(texts, [h.text for h in mine], threshold, signed)
        best: dict[int, Leak] = {}
        for i, j, near in zip(pairs.left.tolist(), pairs.right.tolist(), pairs.jaccard.tolist(), strict=True):
            if i not in best or near > best[i].jaccard:
                best[i] = Leak(i, mine[j], near)
        found += best.values()
    return found


def leaked(found: Sequence[Leak], examples: Sequence[Example], policy: str) -> Iterator[Finding]:
    """Findings of near leaks, one for each role, under `data.on_near_overlap`."""
    for role in dict.fromkeys(leak.held.role for leak in found):
        mine = [leak for leak in found if leak.held.role == role]
        places = tuple(f"{examples[leak.row].origin} ~ {leak.held.origin}" for leak in mine)
        message = f"the prompt of this row is nearly that of a {role} row"
        if policy == "drop":
            yield Finding("near_leakage_dropped", "warn", f"{message}; left out", "nothing to do", places)
        else:
            mend = "remove these rows from one side, or set data.on_near_overlap: drop"
            yield Finding("near_leakage", "block" if policy == "error" else "warn", message, mend, places)


def leaked_exactly(found: Sequence[Leak], examples: Sequence[Example], policy: str) -> Iterator[Finding]:
    """Training rows that ask what a benchmark asks, under `data.on_overlap`."""
    if not found:
        return
    places = tuple(f"{examples[leak.row].origin} = {leak.held.origin}" for leak in found)
    message = "the prompt of this training row is also in a benchmark file"
    if policy == "drop":
        yield Finding("overlap_dropped", "warn", f"{message}; left out", "nothing to do", places)
    else:
        yield Finding("overlap", "block", message, "remove these rows, or set data.on_overlap: drop", places)


def near_validation(
    repeats: Repeats, examples: Sequence[Example], inside: set[int], held_out: set[int]
) -> Iterator[Finding]:
    """Rows drawn for validation that nearly repeat one that is trained on: their loss says less about new rows."""
    places = []
    for cluster in repeats.clusters:
        members = {cluster.kept, *cluster.others}
        trained = sorted(members & inside)
        places += [
            f"{examples[i].origin} ~ {examples[trained[0]].origin}" for i in sorted(members & held_out) if trained
        ]
    if places:
        yield Finding(
            "near_validation", "info", "this row, drawn for validation, nearly repeats one that is trained on",
            "set data.near_duplicates: drop, or give a validation file", tuple(places),
        )  # fmt: skip


def benchmark(path: Path) -> tuple[list[Held], FileFacts]:
    """The questions of a benchmark file: rows of a known format, or JSON objects with one of QUESTION_KEYS.

    Raises MissingError, and ContentError for a file in which no row has a question.
    """
    found: list[Held] = []
    count = 0
    for raw in rows(path, asked=None, known=lambda names: bool(set(names) & set(QUESTION_KEYS))):
        count += 1
        text = "" if raw.reason else _question(raw.value)
        if text:
            found.append(Held(text, f"{path.name}:{raw.line}", "benchmark"))
    if not found:
        raise ContentError(
            f"no question found in the benchmark file {path}",
            mend="give JSON Lines in a known row format, or with one of the keys " + ", ".join(QUESTION_KEYS),
        )
    facts = FileFacts(str(path), "benchmark", "questions", count, len(found), fingerprints.of_file(path))
    return found, facts


def _asked(row: Row) -> str:
    """What a row of any kind asks."""
    if isinstance(row, Text) and not row.messages:
        return row.text
    if isinstance(row, Example):
        return prompt_text(row)
    messages = row.messages if isinstance(row, Prompt | Text) else row.prompt
    return _text(messages)


def _question(row: Any) -> str:
    known = detect(row)
    if known:
        try:
            return _asked(known.parse(row))
        except RowError:
            return ""
    if isinstance(row, str):
        return row
    texts = (row[key] for key in QUESTION_KEYS if isinstance(row.get(key), str)) if isinstance(row, dict) else ()
    return next(iter(texts), "")
