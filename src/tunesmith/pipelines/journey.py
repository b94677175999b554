"""The whole way: check, score the base, train, score the tuned model, judge, report. And the parts of it alone."""

from __future__ import annotations

import shlex
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from ..core import clock, files, ids
from ..core.errors import ConflictError, ContentError, InterruptedRunError, OutputError, TunesmithError
from ..core.events import Note, Phase, PhaseEnded, PhaseStarted, Sink, silent
from ..data.config import SourceSpec
from ..engine import distributed, guards, precision
from ..evaluation.config import GateSpec
from ..evaluation.gate import Verdict
from . import bench as benches
from . import foresee, judged, known_answers, machine, report_facts, trained_rows
from .bench import Bench
from .forecast import audited
from .foretell import Foreteller
from .known_answers import KnownAnswers
from .prepare import Prepared, prepare
from .recipe import RunSpec
from .rundir import RunDir
from .score import Score, evaluate, score
from .train import identity, require_possible, train


class Journey:
    """One run from its recipe to its verdict; each method is a stage and writes what it found."""

    def __init__(
        self, spec: RunSpec, out: Path, *, resume: bool, sink: Sink, command: Literal["run", "train"] = "run",
        folder: Path | None = None,
    ):  # fmt: skip
        self._wanted, self._folder, self._out, self._resume, self._command = spec, folder, out, resume, command
        self._new = not out.exists()
        self._world = distributed.start()
        self._sink = sink if self._world.main else silent
        self._opened = False
        self._held = ExitStack()
        """What is let go of when the run has ended: the folder, which is this process's alone."""
        self.fresh = False
        """Whether models are asked again what they have answered before."""
        self.tested_on: SourceSpec | None = None
        """Test rows in place of the recipe's."""
        self.times: dict[str, float] = {}

    def check(self, *, needs_test: bool, trains: bool = True) -> Prepared:
        """Read and check the data before anything is created, then create the run's folder."""
        self._date = self._world.from_main(self._day)
        prepared = self._world.main_first(lambda: self._prepared(trains))
        if needs_test and not prepared.test.examples:
            drawn = isinstance(prepared.spec.data.test, float)
            raise ContentError(
                "no test row could be drawn: nothing could be proved"
                if drawn
                else "the recipe names no test file: nothing could be proved",
                mend="give data.test a file, or a share of rows that can be held out, or use `tunesmith train`",
            )
        spec = prepared.spec
        number_type = precision.choose(spec.training.precision)
        training = spec.training.model_copy(update={"precision": number_type})
        self.prepared = Prepared(**vars(prepared) | {"spec": spec.model_copy(update={"training": training})})
        # Before anything is written: what a forecast is refused for (layers that the base lacks) is the recipe's fault.
        if trains:
            self._foresee()
        self._audit = audited(self.prepared.spec, self.prepared.base, self.prepared.audit)
        return self.prepared

    def _foresee(self) -> None:
        """What the training will take, told before its first step; where the recipe leaves it open, with activations
        computed again where memory would not suffice, or as the run was begun that goes on."""
        file, began = self._out / "run.json", None
        if self._resume and file.is_file():
            began = RunDir(self._out).read_json("run.json").get("forecast", {})
        self._foreseen = self._world.from_main(lambda: foresee.foresee(self.prepared, began, self._world.size))
        spec = foresee.settled(self.prepared.spec, on=self._foreseen.checkpointing)
        self.prepared = replace(self.prepared, spec=spec)
        self._goes_on, self._forecast = began is not None, began or self._foreseen.as_json()
        if self._foreseen.remark:
            self._sink(Note(self._foreseen.remark, "warning"))

    def _day(self) -> str:
        """What templates show as the date: the day of the run that goes on, else this one, in every process."""
        goes_on = self._resume and (self._out / "run.json").is_file()
        return RunDir(self._out).date() if goes_on else clock.today()

    def _prepared(self, trains: bool) -> Prepared:
        if self._world.main and self._out.exists() and not self._resume:
            RunDir.create(self._out, resume=False)  # says what is in the way, before any work is done
        with self._phase("check"):
            prepared = prepare(
                self._wanted, self._folder, date=self._date, sink=self._sink, trains=trains, tested_on=self.tested_on
            )
            prepared.require_clean()
            require_possible(prepared, self._world)
        return prepared

    def open(self) -> RunDir:
        """The run's folder with what is known before training. ConflictError where it is another's."""
        self.run = RunDir(self._out)
        self._world.only_main(self._open)
        return self.run

    def _open(self) -> None:
        RunDir.create(self._out, resume=self._resume)
        busy = f"another process is at work on the run in {self._out}"
        self._held.enter_context(files.alone(self._out, busy=busy, mend="wait until it has ended, or stop it"))
        prepared = self.prepared
        known = self._earlier()
        self.times = known.get("times", {}) | self.times
        self.run.tidy()
        self.run.write_recipe(prepared.spec)
        self.run.write_json("data-audit.json", self._audit)
        rows = prepared.trained_rows()
        self.run.write_pieces(trained_rows.FILE, rows.lines())
        self._opened = True
        self.run.reserve()
        self.run.update(
            id=known.get("id") or ids.run_id(prepared.spec.name),
            name=prepared.spec.name,
            status="running",
            reason=None,
            date=self._date,
            base=prepared.base.name,
            base_fingerprint=prepared.base.fingerprint(),
            tokenizer_fingerprint=prepared.base.tokenizer_fingerprint(),
            data_fingerprint=prepared.data_fingerprint,
            data_root=rows.root(),
            tokens_fingerprint=prepared.tokens_fingerprint,
            recipe_fingerprint=prepared.spec.training_fingerprint(),
            teacher_fingerprint=prepared.teacher,
            system_message=_shared_system_message(prepared),
            versions=machine.versions(),
            machine=machine.machine(),
            processes=self._world.size,
            forecast=self._forecast,
        )

    def load(self) -> Bench:
        """The base with a fresh adapter."""
        with self._phase("load", self.prepared.base.name):
            try:
                self.bench = self._world.together(
                    lambda: benches.build(self.prepared.spec, self.prepared.base, self.prepared.tokenizer)
                )
            except TunesmithError:
                # Nothing was trained: leave no folder that a corrected recipe would stumble over.
                if self._new and self._world.main:
                    shutil.rmtree(self.run.path, ignore_errors=True)
                raise
        return self.bench

    @property
    def base_comes_last(self) -> bool:
        """Whether the base is scored after the training: as the recipe says, where it is still there then."""
        spec = self.prepared.spec
        return spec.evaluation.base == "after" and spec.adapter.keeps_base

    def score_base(self) -> Score:
        """The base on the test rows: what an adapter puts in front of it untrained (virtual tokens) is not its own."""
        keeps = self.prepared.spec.adapter.keeps_base
        with self._phase("score base"), self.bench.as_base() if keeps else nullcontext():
            return self._score(known_answers.of_base)

    def train(self) -> None:
        """Train, or continue; the run's status tells how it ended."""
        with self._phase("train"):
            told = Foreteller(self._foreseen, self._sink, lambda found: self.run.update(forecast=found))
            _, self.bench = train(
                self.prepared, self.bench, self.run, resume=self._resume, sink=told, world=self._world,
                before=None if self._goes_on else told.before,
            )  # fmt: skip
        self._world.only_main(self._describe)

    def _describe(self) -> None:
        """What the rows are about, into the audit: no step has waited for it."""
        self._audit["diversity"] = self.prepared.audit.described().diversity
        self.run.write_json("data-audit.json", self._audit)

    def score_tuned(self) -> Score:
        """The trained model on the same rows."""
        with self._phase("score tuned"):
            return self._score(known_answers.of_tuned)

    def _score(self, known: Callable[[RunDir, RunSpec, str], KnownAnswers]) -> Score:
        def asked() -> Score:
            recall = None
            if not self.fresh:
                recall = known(self.run, self.prepared.spec, self.prepared.base.fingerprint())
            return score(self.bench, self.prepared, self._sink, recall)

        return self._world.from_main(asked)

    def conclude(self, base: Score, tuned: Score) -> Verdict:
        """evaluation.json, predictions.jsonl and the report."""
        return self._world.from_main(lambda: self._conclude(base, tuned))

    def _conclude(self, base: Score, tuned: Score) -> Verdict:
        with self._phase("report"):
            verdict = evaluate(self.prepared, self.bench, base, tuned, self.run, self._sink)
        self.run.update(
            status="finished", verdict="pass" if verdict.passed else "fail", times=self.times,
            wall_seconds=round(sum(self.times.values()), 2),
        )  # fmt: skip
        self.run.write_text("report.html", report_facts.page(self.run))
        return verdict

    def keep_times(self) -> None:
        """How long each phase took, into `run.json`."""
        self._world.only_main(lambda: self.run.update(times=self.times))

    @contextmanager
    def _phase(self, phase: Phase, detail: str = "") -> Iterator[None]:
        self._sink(PhaseStarted(phase, detail))
        started = time.monotonic()
        yield
        seconds = time.monotonic() - started
        self.times[phase] = round(seconds, 2)
        self._sink(PhaseEnded(phase, seconds))

    @contextmanager
    def status(self) -> Iterator[None]:
        """Writes into an opened run's `run.json` how the block ended, and tells how to go on.

        "interrupted" by a signal; "paused" when the output could not be written, with the reason; "failed" otherwise.
        """
        with self._held:
            try:
                with guards.interruptible():
                    yield
            except InterruptedRunError as error:
                self._ended("interrupted")
                error.mend = f"continue with: {self._again()}" if self._opened else "run the same command again"
                raise
            except OutputError as error:
                self._ended("paused", reason=error.why)
                error.mend = self._mend(error)
                raise
            except BaseException:
                self._ended("failed")
                raise
            if self._opened:
                self.run.release()

    def _ended(self, status: str, **facts: Any) -> None:
        """How the run ended, as far as it can still be written: what ended it is what counts."""
        if not self._opened:
            return
        self.run.release()
        if (self.run.path / "run.json").is_file():
            with suppress(OutputError, OSError, ValueError):
                self.run.update(status=status, **facts)

    def _mend(self, error: OutputError) -> str | None:
        """What to do about output that cannot be written, and the command that goes on then."""
        go_on = f"continue with: {self._again()}" if self._opened else "run the same command with --resume"
        if error.why in files.FULL:
            return f"free some space, then {go_on}"
        if self._opened and error.why != files.GONE:
            return f"when the folder can be written again, {go_on}"
        return error.mend

    def _earlier(self) -> dict[str, Any]:
        """`run.json` of the run that is continued; ConflictError when its training was of something else."""
        if not (self.run.path / "run.json").is_file():
            return {}
        known = self.run.read_json("run.json")
        mine = identity(self.prepared)
        named = {key: f"{key}_fingerprint" for key in mine}
        # An older version's run knows nothing of its tokens.
        differing = [key for key, name in named.items() if known.get(name, mine[key]) != mine[key]]
        if differing and self.run.holds_training():
            raise ConflictError(
                f"this run cannot be resumed: changed since it was started: {', '.join(differing)}",
                where=str(self.run.path), mend="restore what changed, or start a new run with another --out",
            )  # fmt: skip
        return {} if differing else known

    def _again(self) -> str:
        recipe, out = (shlex.quote(str(path)) for path in (self._out / "recipe.lock.yaml", self._out))
        again = f"tunesmith {self._command} {recipe} --out {out} --resume"
        return again if self._world.size == 1 else f"{again} --nproc {self._world.size}"


def _shared_system_message(prepared: Prepared) -> str:
    """The system message that every training row has; empty where they differ. Chats start with it."""
    found = {
        next((m.content or "" for m in example.messages if m.role == "system"), "")
        for example in prepared.train.conversations
    }
    return found.pop() if len(found) == 1 else ""


def run(
    spec: RunSpec, out: Path, *, resume: bool, sink: Sink, folder: Path | None = None
) -> tuple[RunDir, Verdict]:  # fmt: skip
    """Check, score the base, train, score again, judge, report. `folder` is that of the recipe's file.

    With `evaluation.base: after` the base is scored when the training is done, by switching the adapter off.
    """
    journey = Journey(spec, out, resume=resume, sink=sink, folder=folder)
    with journey.status():
        journey.check(needs_test=True)
        opened = journey.open()
        journey.load()
        early = None if journey.base_comes_last else journey.score_base()
        journey.train()
        base = early or journey.score_base()
        return opened, journey.conclude(base, journey.score_tuned())


def train_only(spec: RunSpec, out: Path, *, resume: bool, sink: Sink, folder: Path | None = None) -> RunDir:
    """Check and train."""
    journey = Journey(spec, out, resume=resume, sink=sink, command="train", folder=folder)
    with journey.status():
        journey.check(needs_test=False)
        opened = journey.open()
        journey.load()
        journey.train()
        journey.keep_times()
    return opened


def evaluate_run(
    path: Path, *, sink: Sink, data: Path | None = None, gate: GateSpec | None = None, fresh: bool = False
) -> tuple[dict[str, Any], Verdict]:
    """Score base and tuned model of a trained run again, on the test file of its recipe or on `data`, under its gate or
    another; evaluation.json and the verdict.

    What is found on other rows goes to `evaluations/NAME/` in the run's folder, and the run's own figures stay. With
    `fresh` known answers are not used.
    """
    opened = RunDir.open(path)
    spec = opened.recipe()
    if gate is not None:
        spec = spec.model_copy(update={"gate": gate})
    journey = Journey(spec, path, resume=True, sink=sink)
    journey.tested_on = SourceSpec(path=str(data.absolute())) if data else None
    journey.check(needs_test=True, trains=False)
    journey.run, journey.fresh = opened, fresh
    journey.times = opened.read_json("run.json").get("times", {}) | journey.times
    _require_same_data(journey.prepared, opened, data)
    journey.bench = benches.open_run(opened)
    if not spec.adapter.keeps_base:
        tuned_bench, journey.bench = journey.bench, benches.open_base(opened, spec)
        base = journey.score_base()
        journey.bench = tuned_bench
    else:
        base = journey.score_base()
    tuned = journey.score_tuned()
    if data is None:
        verdict = journey.conclude(base, tuned)
        return opened.read_json("evaluation.json"), verdict
    verdict = evaluate(journey.prepared, journey.bench, base, tuned, opened, sink, data)
    return opened.read_json(f"{judged.place(data)}/evaluation.json"), verdict


def _require_same_data(prepared: Prepared, run: RunDir, data: Path | None) -> None:
    """ContentError where the run was trained on other rows, or its test file has changed."""
    known = run.read_json("run.json")
    if data is None:
        same = identity(prepared)["data"] == known["data_fingerprint"]
    else:
        root = prepared.trained_rows().root()
        same = known.get("data_root", root) == root
    if not same:
        raise ContentError(
            "the data files have changed since this run was trained", where=str(run.path),
            mend="restore them, or train again: the figures would not be comparable",
        )  # fmt: skip
