"""Which tasks of lm-evaluation-harness are asked, and what a model makes of them. Loads neither torch nor the harness.

Figures are the harness's own. Where one is a mean over rows, base and tuned model are paired row by row, so that their
difference has an interval like any other of ours; of the rest (BLEU, perplexity) the standard errors are told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import Field

from ..core.errors import MissingError
from ..core.spec import Spec
from .stats import paired_bootstrap

if TYPE_CHECKING:
    from .harness import Harness


class HarnessSpec(Spec):
    """What is asked."""

    tasks: tuple[str, ...] = Field(min_length=1)
    """Tasks and groups by their names, or YAML files of tasks."""
    chat: bool = False
    """Put prompts into the base's chat template; published figures are mostly without."""
    limit: int | None = Field(default=None, ge=1)
    """The first so many rows of each task alone."""
    shots: int | None = Field(default=None, ge=0)
    """Examples before each question; None: as many as the task says."""

    def build(self) -> Harness:
        """The tasks, found. MissingError where the extra is not installed."""
        try:
            from .harness import Harness
        except ModuleNotFoundError as error:
            raise MissingError(
                "lm-evaluation-harness is not installed", where="--lm-eval", why=str(error),
                mend="pip install 'tunesmith[lm-eval]'",
            ) from error  # fmt: skip
        return Harness(self)


@dataclass(frozen=True)
class Loaded:
    """A model that is loaded, as it stands."""

    model: Any
    tokenizer: Any
    pad_id: int
    stop_ids: set[int]
    context: int | None
    number_type: str


@dataclass(frozen=True)
class Outcome:
    """A figure of one model. `rows` are the scores that it is the mean of, where it is one; `error` its standard
    error as the harness has it."""

    task: str
    metric: str
    filter: str
    value: float
    error: float | None
    higher_is_better: bool
    shots: int
    rows: tuple[float, ...] = ()
    count: int = 0


def beside(base: Sequence[Outcome], tuned: Sequence[Outcome], *, resamples: int, seed: int) -> list[dict[str, Any]]:
    """Entries of `lm_eval` in evaluation.json: both models' figures, with the difference's 95 % interval where rows can
    be paired."""
    known = {(one.task, one.metric, one.filter): one for one in base}
    found = []
    for after in tuned:
        before = known[after.task, after.metric, after.filter]
        ends = None
        if before.rows and len(before.rows) == len(after.rows):
            both = np.array(before.rows), np.array(after.rows)
            ends = paired_bootstrap(*both, resamples=resamples, seed=seed).delta.pair
        found.append({
            "task": after.task, "metric": after.metric, "filter": after.filter, "shots": after.shots,
            "rows": after.count or len(after.rows), "base": before.value, "tuned": after.value,
            "delta": after.value - before.value, "ci95": ends, "base_stderr": before.error,
            "tuned_stderr": after.error, "higher_is_better": after.higher_is_better,
        })  # fmt: skip
    return found
