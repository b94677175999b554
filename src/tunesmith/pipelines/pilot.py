"""`tunesmith pilot`: candidates on parts of the training rows under one budget of time, and the recipe that wins.

Trials are scored on validation rows: test rows are left for the verdict on what is chosen here. A pilot that was
stopped goes on: what is finished is not trained again, and what it took counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from ..core import clock, files
from ..core.errors import ContentError, InterruptedRunError, OutputError, TunesmithError, UsageError
from ..core.events import Event, Note, Sink
from ..evaluation.halving import Cost, rows_within, rungs
from ..evaluation.memorisation import drawn
from ..evaluation.stats import bootstrap
from . import kept_scores, pilot_state, trial
from .candidates import Candidate
from .pilot_state import State
from .prepare import Prepared, Rows, prepare
from .recipe import RunSpec
from .score import Score
from .trial import Trial, attempt, drawn_order, measured_on, score_base, with_numbers

HELD_ROWS = 200
"""Validation rows that trials are scored on."""
FEWEST_BATCHES = 2
"""Of different rows: on fewer a trial tells nothing."""
USUAL_BUDGET = 1200.0
"""Seconds, where none are given."""
_BEAT = 5.0
"""Seconds after which it is written down again how much of the budget is spent."""
_LEFT_ALONE = 0.9
"""Of the time that is left, what is planned with: no trial takes just what was foreseen."""


@dataclass(frozen=True)
class Failed:
    """A trial that ended in an error."""

    rows: int
    why: str


Rung = dict[int, Trial | Failed]
"""Trials by the number of their candidate."""


class Pilot:
    """The trials of one pilot, and what comes of them."""

    def __init__(
        self, candidates: Sequence[Candidate], out: Path, budget: float | None, sink: Sink, folder: Path | None, *,
        resume: bool = False,
    ):  # fmt: skip
        self._candidates, self._out, self._sink = candidates, out, sink
        self._begun = self._beaten = time.monotonic()
        known = pilot_state.read(out, resume=resume)
        self._date = known.date if known else clock.today()
        ready: dict[str, Prepared] = {}
        self._prepared = [self._ready(candidate, ready, folder) for candidate in candidates]
        self._first = self._prepared[0]
        self._state = self._begin(known, budget)
        self._earlier = self._state.spent
        self._order = drawn_order(self._first)
        self._rungs: list[Rung] = []
        self._stopped: str | None = None
        self._cut_short = False

    def _begin(self, known: State | None, budget: float | None) -> State:
        """A new state, or the one that was kept, under another budget where one is given."""
        now = pilot_state.identified(self._candidates, self._first)
        if known is None:
            return State(now, self._date, budget or USUAL_BUDGET)
        pilot_state.require_same(known, now, self._out)
        known.budget = budget or known.budget
        return known

    def _ready(self, candidate: Candidate, known: dict[str, Prepared], folder: Path | None) -> Prepared:
        """Data is read once for all candidates that differ in adapter and learning rate alone."""
        spec = candidate.spec
        _require_comparable(self._candidates[0].spec, candidate)
        alike = spec.model_dump(mode="json", exclude={"adapter": True, "training": {"learning_rate"}})
        key = repr((alike, spec.adapter.virtual_tokens()))
        if key not in known:
            made = prepare(spec, folder, date=self._date, sink=self._sink)
            made.require_clean()
            known[key] = with_numbers(measured_on(made, _held(made)))
            rows = [[row.origin for row in one.test.examples] for one in (known[key], next(iter(known.values())))]
            if rows[0] != rows[1]:
                raise ContentError(
                    f"'{candidate.name}' would be validated on other rows than the first candidate",
                    why="rows that are too long for one are not too long for the other", mend="set training.max_length",
                )  # fmt: skip
        return replace(known[key], spec=_resolved(known[key].spec, spec))

    def run(self) -> dict[str, Any]:
        """Measure, choose, and write `pilot.json` and the winner's `recipe.yaml`."""
        files.make_folder(self._out)
        with files.alone(self._out, busy=f"another pilot is at work in {self._out}"), _going_on():
            self._keep()
            self._base = self._scored_base()
            self._costs = self._expected()
            self._halve()
            self._keep()
        found = self._told()
        files.write_json(self._out / "pilot.json", found)
        winner = self._candidates[self._winner()].spec
        files.write_text(self._out / "recipe.yaml", _recipe_text(winner))
        return found

    def _spent(self) -> float:
        """Seconds, those before an interruption included."""
        return self._earlier + time.monotonic() - self._begun

    def _left(self) -> float:
        return self._state.budget - self._spent()

    def _keep(self) -> None:
        self._state.spent, self._beaten = self._spent(), time.monotonic()
        self._state.write(self._out)

    def _beat(self, event: Event) -> None:
        """Passes an event on; now and then writes down how much is spent, for no kill says when it comes."""
        self._sink(event)
        if time.monotonic() - self._beaten >= _BEAT:
            self._keep()

    def _scored_base(self) -> Score:
        if self._state.base is None:
            self._state.base = kept_scores.as_json(score_base(self._first, self._beat))
            self._keep()
        return kept_scores.read(self._state.base)

    def _expected(self) -> list[Cost]:
        """What trials cost, from a few rows with the first candidate."""
        if self._state.first_cost is None:
            rows, folder = self._order[: 2 * self._batch(0)], self._out / "trials" / "first"
            files.discard(folder)
            found = attempt(self._first, rows, self._base, folder, self._beat)
            self._state.first_cost = (found.seconds - found.train_seconds, found.train_seconds / len(rows))
            self._keep()
            files.discard(folder)
        return [Cost(*self._state.first_cost)] * len(self._candidates)

    def _batch(self, number: int) -> int:
        """Training rows of an optimizer step."""
        training = self._prepared[number].spec.training
        if training.batch_size:
            return training.batch_size * training.gradient_accumulation
        mean = float(self._first.train.sizes.lengths.mean())
        return max(1, round((training.batch_tokens or mean) / mean)) * training.gradient_accumulation

    def _halve(self) -> None:
        sizes, before = rungs(len(self._candidates)), 0
        alive = list(range(len(self._candidates)))
        for number, size in enumerate(sizes):
            alive = alive[:size]
            rows = self._planned(number, alive, len(sizes) - number)
            if rows <= before:
                self._stopped = (
                    "the candidates left have had all rows" if before == len(self._order) else
                    "the budget has no time for more rows"
                )  # fmt: skip
                return
            if number == len(self._state.rungs):
                self._state.rungs.append(rows)
                self._keep()
            self._sink(Note(f"rung {number + 1} of {len(sizes)}: {len(alive)} candidates, {rows:,} training rows each"))
            if not self._rung(alive, rows):
                return
            alive, before = self._ranked(self._rungs[-1]), rows
            if not alive:
                raise TunesmithError("every trial failed", why=self._failures(), mend="correct the recipe, or --try")

    def _planned(self, number: int, alive: Sequence[int], rungs_left: int) -> int:
        """The training rows of a rung: those it had before an interruption, or as many as there is time for."""
        if number < len(self._state.rungs):
            return self._state.rungs[number]
        rows = rows_within(
            _LEFT_ALONE * self._left() / rungs_left, [self._costs[i] for i in alive], len(self._order)
        )  # fmt: skip
        if number == 0:
            self._require_time(rows)
        return rows

    def _require_time(self, rows: int) -> None:
        """UsageError where the budget is too short to tell anything."""
        fewest = min(FEWEST_BATCHES * max(map(self._batch, range(len(self._candidates)))), len(self._order))
        if rows >= fewest:
            return
        first = sum(cost.fixed + fewest * cost.row for cost in self._costs) / _LEFT_ALONE
        whole = self._spent() + first * len(rungs(len(self._candidates)))
        raise UsageError(
            f"the budget is too short for {len(self._candidates)} candidates",
            why=f"each would be trained on {rows} rows, and fewer than {fewest} tell nothing",
            mend=f"give --budget {whole / 60 + 1:.0f}m or more, or fewer candidates with --try",
        )  # fmt: skip

    def _rung(self, alive: Sequence[int], rows: int) -> bool:
        """Whether all of them had their trial before the budget was used up."""
        found: Rung = {}
        for number in alive:
            if self._left() <= 0 and found and self._folder(number, rows).name not in self._state.begun:
                self._cut_short = True
                self._stopped = f"the budget ran out after {len(found)} of {len(alive)} trials of the last rung"
                break
            found[number] = self._one(number, rows)
        self._rungs.append(found)
        return len(found) == len(alive)

    def _folder(self, number: int, rows: int) -> Path:
        return self._out / "trials" / f"{number + 1:02}-{rows}"

    def _one(self, number: int, rows: int) -> Trial | Failed:
        candidate, prepared = self._candidates[number], self._prepared[number]
        folder = self._folder(number, rows)
        if why := self._state.failed.get(folder.name):
            return Failed(rows, why)
        since = self._state.begun.setdefault(folder.name, self._spent())
        self._keep()
        try:
            made = attempt(
                prepared, self._order[:rows], self._base, folder, self._beat, resume=True,
                earlier=max(0.0, self._earlier - since),
            )  # fmt: skip
        except (InterruptedRunError, OutputError):
            raise
        except TunesmithError as error:
            self._sink(Note(f"{candidate.name}: failed: {error.what}", "warning"))
            self._state.failed[folder.name] = error.what
            self._keep()
            return Failed(rows, error.what)
        self._costs[number] = Cost(made.seconds - made.train_seconds, made.train_seconds / rows)
        first = made.comparison.metrics[0]
        self._sink(Note(f"{candidate.name}: {first.name} {first.figures.tuned.value:.3f}, loss {made.loss:.3f}, "
                        f"{made.seconds:.0f} s"))  # fmt: skip
        return made

    def _ranked(self, rung: Rung) -> list[int]:
        """The candidates of a rung whose trial did not fail, the best first: who forgets too much comes last, and of
        equal quality the lower loss comes first."""
        limit = self._first.spec.gate.max_forgetting

        def place(number: int) -> tuple[bool, float, float]:
            made = done[number]
            over = limit is not None and made.forgetting is not None and made.forgetting > limit
            return over, -made.quality, made.loss

        done = {number: made for number, made in rung.items() if isinstance(made, Trial)}
        return sorted(done, key=place)

    def _deciding(self) -> Rung:
        """The last rung that can be decided by: one that was cut short is none, unless it is the only one."""
        return self._rungs[-2] if self._cut_short and len(self._rungs) > 1 else self._rungs[-1]

    def _winner(self) -> int:
        return self._ranked(self._deciding())[0]

    def _failures(self) -> str:
        return "; ".join(
            sorted({made.why for rung in self._rungs for made in rung.values() if isinstance(made, Failed)})
        )

    def _told(self) -> dict[str, Any]:
        winner, decided = self._winner(), self._deciding()
        first = trial.compared(self._first, self._base, self._base).metrics[0]
        return {
            "budget_seconds": self._state.budget, "seconds": round(self._state.spent, 1),
            "validation_rows": len(self._first.test.examples), "metric": first.name,
            "higher_is_better": not first.lower_is_better, "base": first.figures.base.value,
            "rungs": [self._rung_told(rung) for rung in self._rungs], "stopped": self._stopped,
            "winner": {"name": self._candidates[winner].name, "settings": list(self._candidates[winner].settings)},
            "not_surely_worse": self._alike(winner, decided), "recipe": str(self._out / "recipe.yaml"),
        }  # fmt: skip

    def _rung_told(self, rung: Rung) -> dict[str, Any]:
        order = [*self._ranked(rung), *(number for number, made in rung.items() if isinstance(made, Failed))]
        return {"rows": rung[order[0]].rows, "trials": [self._trial_told(number, rung[number]) for number in order]}

    def _trial_told(self, number: int, made: Trial | Failed) -> dict[str, Any]:
        named = {"name": self._candidates[number].name, "settings": list(self._candidates[number].settings)}
        if isinstance(made, Failed):
            return named | {"failed": made.why}
        return named | {
            "metrics": [one.as_json() for one in made.comparison.metrics], "forgetting": made.forgetting,
            "steps": made.steps, "seconds": round(made.seconds, 1), "train_seconds": round(made.train_seconds, 1),
            "whole_train_seconds": round(made.train_seconds / made.rows * len(self._order), 1),
            "memory_mb": made.memory, "trained_parameters": made.trained_parameters, "failed": None,
        }  # fmt: skip

    def _alike(self, winner: int, rung: Mapping[int, Trial | Failed]) -> list[str]:
        """Who is not surely worse than the winner on the same rows."""
        best = rung[winner]
        how: dict[str, Any] = {"resamples": self._first.spec.evaluation.resamples, "seed": self._first.spec.seed}
        found = []
        for number, made in rung.items():
            if number == winner or not isinstance(made, Trial) or not isinstance(best, Trial):
                continue
            name = best.comparison.metrics[0].name
            both = made.comparison.tuned[name], best.comparison.tuned[name]
            if bootstrap(*both, **how).delta.holds_zero:
                found.append(self._candidates[number].name)
        return found


def _require_comparable(first: RunSpec, other: Candidate) -> None:
    """UsageError for a candidate that is more than another way to train on the same rows."""
    fixed = [name for name in RunSpec.model_fields if name not in ("method", "adapter", "training")]
    differing = [name for name in fixed if getattr(first, name) != getattr(other.spec, name)]
    if first.method.type != other.spec.method.type:
        differing.append("method.type")
    if differing:
        raise UsageError(
            f"a pilot tries no other {differing[0]}", where=f"--try {other.name}",
            why="its trials must be comparable row by row", mend="try keys of adapter, training and method",
        )  # fmt: skip


def _held(prepared: Prepared) -> Rows:
    """Validation rows, drawn by the seed where there are many."""
    rows = prepared.validation
    if not len(rows.examples):
        raise ContentError(
            "a pilot chooses by validation rows, and the recipe has none", where="data.validation",
            mend="set data.validation to a share, as 0.1, or a file",
        )  # fmt: skip
    return rows.pick(np.array(drawn(len(rows.examples), HELD_ROWS, prepared.spec.seed), dtype=np.int64).tolist())


def _resolved(known: RunSpec, wanted: RunSpec) -> RunSpec:
    """A prepared recipe with another adapter and learning rate."""
    rate = wanted.training.learning_rate
    if rate == "auto":
        rate = known.training.learning_rate if known.adapter == wanted.adapter else wanted.adapter.auto_rate
    training = known.training.model_copy(update={"learning_rate": rate})
    return known.model_copy(update={"adapter": wanted.adapter, "training": training})


def _recipe_text(spec: RunSpec) -> str:
    """What was given, paths absolute."""
    body = spec.model_dump(mode="json", exclude_unset=True)
    return "# Written by tunesmith pilot: the recipe under the settings that won.\n" + yaml.safe_dump(
        body, sort_keys=False, allow_unicode=True, width=100
    )


@contextmanager
def _going_on() -> Iterator[None]:
    """An interruption inside the block says how to go on."""
    try:
        yield
    except InterruptedRunError as error:
        error.mend = "go on with the same command and --resume"
        raise
    except OutputError as error:
        if error.why in files.FULL:
            error.mend = "free some space, then go on with the same command and --resume"
        raise
