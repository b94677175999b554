"""Test rows made ready for the page: grouped by outcome, capped, long texts clipped.

Why a budget: a page of 3,000 rows must open fast on a phone; what is left out stands whole in the run's
`predictions.jsonl`, and the page says how much that is.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tunesmith.report.facts import Outcome, RowFacts

MAX_ROWS = 3_000
TEXT_BUDGET = 1_500_000
"""Characters of prompts and answers in one page, all rows together."""
CLIP_LENGTHS = (8_000, 4_000, 2_000, 1_000, 500, 250, 120)

GROUPS: tuple[tuple[Outcome, str], ...] = (
    ("loss", "Worse than the base"),
    ("win", "Better than the base"),
    ("tie_wrong", "Both wrong"),
    ("tie_right", "Both right"),
)
"""(outcome, heading), in the order of reading: first what could stop the release."""

# Control characters are invisible or harmful in a page; their pictures (U+2400...) show what the model wrote.
_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\t\n\r"} | {0x7F: 0x2421}


@dataclass(frozen=True)
class Passage:
    """A text as shown; `cut` is the number of characters left out at its end."""

    text: str
    cut: int
    code: bool


@dataclass(frozen=True)
class Row:
    """One row as shown: the fact, its clipped texts (None where there are none), and the numbers of its slices in the
    filter."""

    fact: RowFacts
    prompt: Passage | None
    reference: Passage | None
    base: Passage | None
    tuned: Passage | None
    slice_ids: str


@dataclass(frozen=True)
class Group:
    """The rows of one outcome, in the order given."""

    outcome: Outcome
    heading: str
    rows: tuple[Row, ...]


@dataclass(frozen=True)
class RowsView:
    """All that the rows section needs. `slices` are the filter's choices, "field=value"."""

    groups: tuple[Group, ...]
    slices: tuple[str, ...]
    shown: int
    left_out: int


def arrange(facts: Sequence[RowFacts]) -> RowsView:
    """Group the rows by outcome, worst first, and keep the page within its budget."""
    ordered = [fact for outcome, _ in GROUPS for fact in facts if fact.outcome == outcome][:MAX_ROWS]
    limit = _clip_length(ordered)
    names = {name: None for fact in ordered for name in _slice_names(fact)}
    slices = tuple(sorted(names))
    numbers = {name: place for place, name in enumerate(slices)}
    rows = [_row(fact, limit, numbers) for fact in ordered]
    groups = (
        Group(outcome, heading, tuple(row for row in rows if row.fact.outcome == outcome))
        for outcome, heading in GROUPS
    )
    return RowsView(tuple(group for group in groups if group.rows), slices, len(rows), len(facts) - len(rows))


def _row(fact: RowFacts, limit: int, numbers: Mapping[str, int]) -> Row:
    prompt, reference, base, tuned = (_passage(text, limit) for text in _texts(fact))
    slice_ids = " ".join(str(numbers[name]) for name in _slice_names(fact))
    return Row(fact, prompt, reference, base, tuned, slice_ids)


def _passage(text: str | None, limit: int) -> Passage | None:
    if text is None:
        return None
    shown = text[:limit].translate(_PICTURES)
    return Passage(shown, len(text) - len(text[:limit]), shown.lstrip().startswith(("{", "[")))


def _clip_length(facts: Sequence[RowFacts]) -> int:
    """The longest clip at which all texts together stay within the budget (the shortest where none does)."""
    lengths = [len(text or "") for fact in facts for text in _texts(fact)]
    for limit in CLIP_LENGTHS:
        if sum(min(length, limit) for length in lengths) <= TEXT_BUDGET:
            return limit
    return CLIP_LENGTHS[-1]


def _texts(fact: RowFacts) -> tuple[str | None, ...]:
    return fact.prompt, fact.reference, fact.base_answer, fact.tuned_answer


def _slice_names(fact: RowFacts) -> Iterator[str]:
    return (f"{field}={value}" for field, value in fact.slices.items())
