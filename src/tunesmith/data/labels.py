"""Answers that are labels: how often each occurs, which are rare, which look mistyped, and whether rows suffice."""

from __future__ import annotations

import re
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from difflib import SequenceMatcher

import numpy as np

from ..core.messages import Example
from .audit import Finding
from .bigrams import candidates
from .look import Row, portions

FEWEST_ROWS, FEW_ROWS = 10, 100
ENOUGH_TO_COMPARE = 50
MOST_LABELS, LONGEST_LABEL = 0.1, 60
MOST_KINDS = 100_000
"""Different short answers from which they are no labels, however many rows there are."""
ROWS_A_LABEL = 8
OBJECTS, STYLE = 500, 1000
"""Rows that are suggested for answers that are JSON objects, and for free ones."""
ALIKE = 0.85
"""Twice the letters that match, in order, over the letters of both labels."""
_NO_LABEL = -1


class Labels:
    """Counts the answers, and remembers which row has which: 4 bytes a row."""

    def __init__(self, examples: Sequence[Example]):
        self._examples = examples
        self._codes: dict[str, int] = {}
        self._of_row = array("i")
        self._objects = 0

    def see(self, portion: Sequence[Row]) -> None:
        """The next rows."""
        for row in portion:
            label = row.answer.strip()
            self._objects += label[:1] == "{"
            if not _is_label(label) or len(self._codes) > MOST_KINDS:
                self._of_row.append(_NO_LABEL)
            else:
                self._of_row.append(self._codes.setdefault(label, len(self._codes)))

    def counts(self) -> Counter[str]:
        """How often each answer occurs, where answers are labels: short, in one line, and few different ones.

        A few long answers among thousands of labels are a defect, not another task.
        """
        rows = len(self._of_row)
        codes = np.asarray(self._of_row)
        kept = codes[codes != _NO_LABEL]
        most = min(max(2, MOST_LABELS * rows), MOST_KINDS)
        if len(kept) < 0.95 * rows or not 2 <= len(self._codes) <= most:
            return Counter()
        counts = np.bincount(kept, minlength=len(self._codes)).tolist()
        return Counter(dict(zip(self._codes, counts, strict=True)))

    def findings(self) -> Iterator[Finding]:
        """What the labels show."""
        counts = self.counts()
        yield from too_few(len(self._of_row), counts, objects=self._objects > 0.5 * len(self._of_row))
        if counts:
            yield from self._few_per_label(counts)
            yield from self._imbalance(counts)
            yield from self._mistyped(counts)

    def _few_per_label(self, counts: Counter[str]) -> Iterator[Finding]:
        """Labels with so few rows that they are hardly learned."""
        few = [label for label, count in counts.items() if count < ROWS_A_LABEL]
        if few and len(self._of_row) >= FEW_ROWS:
            yield Finding(
                "few_per_label", "info", f"{len(few)} of {len(counts)} labels have fewer than {ROWS_A_LABEL} rows",
                "give more rows of them; 8 a label is where few-shot methods begin (SetFit, Tunstall et al. 2022)",
                self._places(few),
            )  # fmt: skip

    def _imbalance(self, counts: Counter[str]) -> Iterator[Finding]:
        """One label so frequent that always saying it would look good."""
        rows = len(self._of_row)
        [(label, most)] = counts.most_common(1)
        median = float(np.median(list(counts.values())))
        if rows >= ENOUGH_TO_COMPARE and (most > 10 * median or most > 0.9 * rows):
            yield Finding(
                "label_imbalance", "warn",
                f"'{label}' is the answer of {most} of {rows} rows, the median label of {median:g}",
                "give more rows of the rare labels or fewer of this one, and score with macro averages",
            )  # fmt: skip

    def _mistyped(self, counts: Counter[str]) -> Iterator[Finding]:
        """A label seen once or twice beside a near-identical one that is frequent."""
        meant = meant_labels(counts)
        if meant:
            first = next(iter(meant))
            yield Finding(
                "typo_label", "warn", f"label looks mistyped, as '{first}' for '{meant[first]}'", "correct the label",
                self._places(meant),
            )  # fmt: skip

    def _places(self, labels: Sequence[str] | dict[str, str]) -> tuple[str, ...]:
        wanted = [self._codes[label] for label in labels]
        found = np.flatnonzero(np.isin(np.asarray(self._of_row), wanted))
        return tuple(self._examples[i].origin for i in found.tolist())


def label_counts(examples: Sequence[Example]) -> Counter[str]:
    """How often each label occurs; empty where answers are no labels."""
    labels = Labels(examples)
    for portion in portions(examples):
        labels.see(portion)
    return labels.counts()


def meant_labels(counts: Counter[str]) -> dict[str, str]:
    """Each label that looks mistyped, and the frequent one that it is nearly."""
    rare = [label for label, count in counts.items() if count <= 2]
    frequent = [(label, count, _bare(label)) for label, count in counts.most_common() if count >= 5]
    near = candidates([_bare(label) for label in rare], [bare for _, _, bare in frequent], ALIKE)
    found = {}
    for label, places in zip(rare, near, strict=True):
        if other := _nearly(label, counts[label], [frequent[place] for place in places]):
            found[label] = other
    return found


def too_few(rows: int, labels: Counter[str], *, objects: bool = False) -> Iterator[Finding]:
    """A training set too small to learn from, or to trust; `objects` where the answers are JSON."""
    enough, suggestion = _suggestion(labels, objects)
    if not 0 < rows < max(FEW_ROWS, enough):
        return
    if rows >= FEW_ROWS:
        mend = f"more rows may help, and the report's interval says whether these were enough; {suggestion}"
        yield Finding("few_rows", "info", f"{rows:,} training rows, where some {enough:,} are suggested", mend)
        return
    least = rows < FEWEST_ROWS
    yield Finding(
        "too_few_rows" if least else "few_rows", "block" if least else "warn",
        f"only {rows} training row{'s' if rows > 1 else ''}",
        f"give at least {FEWEST_ROWS}, better {FEW_ROWS} or more; {suggestion}",
    )  # fmt: skip


def _suggestion(labels: Counter[str], objects: bool) -> tuple[int, str]:
    """How many rows the literature found to be enough for such a task, and where it says so."""
    if labels:
        enough = 30 * len(labels)
        return enough, (
            f"for the {len(labels)} labels here some {10 * len(labels)} to {enough}: with 10 rows a label 85 % of "
            "banking77 came out right, with 30 91 %, with all 93 % (Casanueva et al. 2020)"
        )
    if objects:
        return OBJECTS, (
            f"for objects with slots some {OBJECTS}: 70 for each of 7 intents are the small training set of Snips, "
            "2,000 for each the full one (Coucke et al. 2018)"
        )
    return STYLE, f"for free answers {STYLE:,} careful rows taught a large model its style (LIMA, Zhou et al. 2023)"


def _is_label(answer: str) -> bool:
    return 0 < len(answer) <= LONGEST_LABEL and "\n" not in answer and answer[0] not in "{["


def _nearly(label: str, count: int, frequent: Sequence[tuple[str, int, str]]) -> str:
    """The frequent label that `label` is nearly, or "".

    `frequent` holds (label, count, bare letters), the most frequent first.
    """
    match = SequenceMatcher(None, autojunk=False)
    match.set_seq2(_bare(label))
    for other, often, bare in frequent:
        if often < max(5, 5 * count):
            return ""
        match.set_seq1(bare)
        if match.real_quick_ratio() >= ALIKE and match.quick_ratio() >= ALIKE and match.ratio() >= ALIKE:
            return other
    return ""


def _bare(label: str) -> str:
    return re.sub(r"[\W_]+", "", label.casefold())
