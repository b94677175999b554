"""A job's files to rows for training, validation and test.

The hosted service has no test rows; ours come so, that a job's report compares base and tuned model on rows that
neither was trained on:

    a validation file with prompts of its own    half of them validate in training, half are for the test
    none, or none with prompts of its own        a tenth of the training rows, at most 200, is held out for the test

Rows with the same prompt stay on one side. Where all rows have one prompt, nothing can be held out nor compared.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ...core.messages import Example
from ...data.kinds import better
from ...data.rows import Mapped
from ...data.split import hold_out
from .validate import Valid

_TEST_SHARE, _TEST_ROWS = 0.1, 200


@dataclass(frozen=True)
class Part:
    """Some rows of a file."""

    file: Valid
    places: list[int]

    def __len__(self) -> int:
        return len(self.places)

    def lines(self) -> Iterable[bytes]:
        """As they stand in the file."""
        return self.file.lines(self.places)


@dataclass(frozen=True)
class Parts:
    """A job's rows, each in one part at most."""

    train: Part
    validation: Part
    test: Part
    warnings: tuple[str, ...] = ()

    def named(self) -> dict[str, Part]:
        """By the files that they become."""
        return {"train.jsonl": self.train, "validation.jsonl": self.validation, "test.jsonl": self.test}


def divide(training: Valid, validation: Valid | None, seed: int) -> Parts:
    """Which row is for what."""
    rows = _prompted(training)
    own: list[int] = []
    warnings: tuple[str, ...] = ()
    if validation is not None:
        known = {row.prompt_key() for row in rows}
        others = _prompted(validation)
        own = [i for i, row in enumerate(others) if row.prompt_key() not in known]
        if left := len(others) - len(own):
            warnings = (
                f"{left} of {len(others)} validation examples have a prompt that is trained on and are left out",
            )
        if own:
            kept = [others[i] for i in own]
            first, second = hold_out(kept, 0.5, seed)
            sides = (first, second) if second else ([], first)
            validating, testing = (Part(validation, [own[i] for i in side]) for side in sides)
            return Parts(Part(training, list(range(len(rows)))), validating, testing, warnings)
    inside, outside = hold_out(rows, min(_TEST_SHARE, _TEST_ROWS / len(rows)), seed)
    return Parts(Part(training, inside), Part(training, []), Part(training, outside), warnings)


def _prompted(valid: Valid) -> Sequence[Example]:
    return Mapped(valid.loaded.records, better)
