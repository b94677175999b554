"""Prompt, examples, retrieval, fine-tuning: every way that can be had, on the same test rows, in one table."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ContentError
from ..core.events import Note, Progress, Sink
from ..core.messages import Example, Message, spoken
from ..data import identity
from ..data.rows import pick
from ..data.tokenize import encode_prompt
from ..evaluation.memorisation import drawn
from ..evaluation.metrics import Metric
from ..evaluation.metrics.over_rows import Scored, lower_is_better, scored
from ..evaluation.neighbour import recalled
from ..evaluation.stats import bootstrap
from ..evaluation.strategies import Fits, Plain, Shots, Strategy, Way, break_even, recommend, under
from ..inference.backends.remote import Endpoint, Question, Remote
from ..inference.generate import Sampling, generate
from ..methods.distill.config import DistillSpec
from ..retrieval.chunks import WORDS
from ..retrieval.context import Context
from ..retrieval.extract import Extractor
from ..retrieval.index import Index
from ..retrieval.update import updated
from ..retrieval.walk import walk
from . import bench as benches
from . import journey, report_facts, report_ways, trained_rows
from .bench import Bench
from .prepare import Prepared, prepare
from .recipe import RunSpec
from .rundir import RunDir

CANDIDATE_ROWS = 50
"""Validation rows on which a prompt is chosen among several."""


@dataclass(frozen=True)
class Prices:
    """Money: an hour of this machine, and a million tokens of the endpoint, in and out. None where it is not known."""

    hour: float | None = None
    tokens_in: float | None = None
    tokens_out: float | None = None


@dataclass(frozen=True)
class Wanted:
    """What is to be compared beside the plain prompt."""

    shots: int = 4
    documents: Path | None = None
    passages: int = 3
    systems: tuple[str, ...] = ()
    """System messages to choose among."""
    endpoint: Endpoint | None = None
    distilled: Path | None = None
    """The run of a smaller model that was taught this task."""
    rows: int = 100
    prices: Prices = Prices()


class WithDocuments:
    """Passages of the documents before the question, in the prompt that `data with-context` teaches."""

    def __init__(self, index: Index, passages: int, system: str | None):
        self.name = "retrieval"
        self._index, self._passages, self._system = index, passages, system

    def messages(self, row: Example, fits: Fits) -> tuple[Message, ...]:
        """As many passages as there is room for, the likeliest first."""
        *before, question = row.prompt()
        hits = self._index.ask(question.content or "", self._passages)
        for count in range(len(hits), 0, -1):
            context = Context.of([hit.chunk for hit in hits[:count]], marks="numbers")
            shown = Message(role="user", content=context.prompt(question.content or ""))
            made = under((*before, shown), self._system)
            if fits(made):
                return made
        return under(row.prompt(), self._system)


@dataclass(frozen=True)
class _Voice:
    """A model that answers on this machine. `model`: base and adapter in words; `trained`: seconds of training."""

    bench: Bench
    model: str
    trained: float = 0.0
    tuned: bool = False
    as_base: bool = False
    """Whether its adapter is switched off."""

    def speaking(self) -> AbstractContextManager[None]:
        """Inside the block the bench answers as this model."""
        return self.bench.as_base() if self.as_base else nullcontext()


@dataclass(frozen=True)
class _Said:
    """Answers of one model, with means an answer."""

    texts: list[str]
    tokens_in: float
    tokens_out: float
    seconds: float


@dataclass(frozen=True)
class Compared:
    """The table, as it was measured."""

    prepared: Prepared
    rows: Sequence[Example]
    ways: tuple[Way, ...]
    run: RunDir

    def publish(self, found: dict[str, Any]) -> bool:
        """Keep `compare.json` in the run's folder too; whether its report, where there is one, shows it now."""
        self.run.write_json(report_ways.FILE, found)
        if not (self.run.path / "evaluation.json").is_file():
            return False
        self.run.write_text("report.html", report_facts.page(self.run))
        return True

    def as_json(self) -> dict[str, Any]:
        """`compare.json`."""
        spec = self.prepared.spec
        how: dict[str, Any] = {"resamples": spec.evaluation.resamples, "seed": spec.seed}
        advice = recommend(self.ways, **how)
        by_cost = sorted((way for way in self.ways if way.cost is not None), key=lambda way: way.cost or 0.0)
        return {
            "rows": len(self.rows), "metric": next(iter(self.ways[0].scores)),
            "ways": [_told(way, by_cost, how) for way in self.ways],
            "recommendation": vars(advice),
        }  # fmt: skip


def _told(way: Way, by_cost: Sequence[Way], how: dict[str, Any]) -> dict[str, Any]:
    figures = {}
    for name, one in way.scores.items():
        interval = bootstrap(one, one, **how).tuned
        figures[name] = {"value": interval.value, "ci95": interval.pair}
    dearer = [other for other in by_cost if way.cost is not None and (other.cost or 0.0) > way.cost]
    return {
        "name": way.name, "metrics": figures, "tokens_in": way.tokens_in, "tokens_out": way.tokens_out,
        "seconds_per_answer": way.seconds, "cost_per_1000": way.cost, "set_up_cost": way.set_up,
        "set_up_seconds": way.set_up_seconds, "model": way.model, "memory_mb": way.memory,
        "break_even": {"against": dearer[0].name, "answers": break_even(way, dearer[0])} if dearer else None,
    }  # fmt: skip


def compare(
    spec: RunSpec, out: Path, wanted: Wanted, *, run: Path | None, sink: Sink, folder: Path | None = None
) -> Compared:
    """Measure every way on the same test rows. Without a `run` one is trained into `out/run`, or gone on with."""
    if run is None:
        run = journey.train_only(spec, out / "run", resume=True, sink=sink, folder=folder).path
    opened = RunDir.open(run)
    prepared = prepare(opened.recipe(), date=opened.date(), sink=sink, trains=False)
    prepared.require_clean()
    rows = _rows(prepared, wanted.rows)
    smaller = None
    if wanted.distilled:  # refused before the others are measured, opened when its turn has come
        smaller = RunDir.open(wanted.distilled)
        _require_answers(smaller, rows)
    table = _Table(prepared, rows, wanted, _own(opened, prepared.spec), sink)
    ways = [*table.ways()]
    if smaller:
        ways.append(table.distilled(_tuned(smaller, smaller.recipe())))
    return Compared(prepared, rows, tuple(ways), opened)


def _own(run: RunDir, spec: RunSpec) -> tuple[_Voice, _Voice]:
    """The base and the tuned model of a run; one bench where an adapter can be switched off."""
    tuned = _tuned(run, spec)
    keeps = spec.adapter.keeps_base
    bench = tuned.bench if keeps else benches.open_base(run, spec)
    return _Voice(bench, bench.base.name, as_base=keeps), tuned


def _tuned(run: RunDir, spec: RunSpec) -> _Voice:
    bench = benches.open_run(run)
    return _Voice(bench, f"{bench.base.name}, {spec.adapter.told()}", _trained(run, spec), tuned=True)


def _trained(run: RunDir, spec: RunSpec) -> float:
    """Seconds of a run's training, and of its teacher's where that is a run: without it there were no student."""
    own = float(run.read_json("run.json").get("train_seconds", 0.0))
    teacher = spec.method.teacher if isinstance(spec.method, DistillSpec) else None
    if not isinstance(teacher, str) or not (Path(teacher) / "run.json").is_file():
        return own
    taught = RunDir.open(Path(teacher))
    return own + _trained(taught, taught.recipe())


def _require_answers(run: RunDir, rows: Sequence[Example]) -> None:
    """ContentError for a run whose model writes no answers, or has been trained on a test row."""
    spec = run.recipe()
    if spec.method.head:
        raise ContentError(
            f"the model of {run.path} writes no answers: it is {spec.method.wording()}", where="--distilled",
            mend="name the run of a model that answers",
        )  # fmt: skip
    known = trained_rows.seen(run)
    found = [row.origin for row in rows if identity.digest(row).hex() in known]
    if found:
        raise ContentError(
            f"{len(found)} of the test rows were among the training rows of {run.path}", where=found[0],
            mend="train it without them, or compare on other rows (data.test of the recipe)",
        )  # fmt: skip


def _rows(prepared: Prepared, most: int) -> Sequence[Example]:
    if prepared.kind != "supervised" or not prepared.metrics:
        raise ContentError("only models that answer are compared", mend="name a recipe with method: {type: sft}")
    first = prepared.metrics[0]
    if lower_is_better(first):
        raise ContentError(
            f"'{first.name}' is better the lower it is: the metric that counts most must be one that rises",
            where="evaluation.metrics", mend="name another metric first",
        )  # fmt: skip
    examples = prepared.test.examples
    if not len(examples):
        raise ContentError("the recipe names no test rows", mend="set data.test")
    return list(pick(examples, np.array(drawn(len(examples), most, prepared.spec.seed), dtype=np.int64)))


class _Table:
    """Measures the ways one after the other on one loaded base."""

    def __init__(
        self, prepared: Prepared, rows: Sequence[Example], wanted: Wanted, own: tuple[_Voice, _Voice], sink: Sink
    ):  # fmt: skip
        self._prepared, self._rows, self._wanted, self._sink = prepared, rows, wanted, sink
        self._base, self._tuned = own
        self._longest = int(prepared.spec.evaluation.max_tokens)
        self._system = self._chosen() if wanted.systems else None

    def ways(self) -> Iterator[Way]:
        """Each as it is measured."""
        asking = self._strategies()
        for strategy in asking:
            yield self._answered(strategy, strategy.name, self._base)
        for strategy in asking:
            if not isinstance(strategy, Shots):  # examples in the prompt of a model that has learned from them
                name = "fine-tuned" if isinstance(strategy, Plain) else f"fine-tuned + {strategy.name}"
                yield self._answered(strategy, name, self._tuned)
        if self._wanted.endpoint:
            for strategy in asking:
                yield self._asked(strategy, self._wanted.endpoint)

    def distilled(self, voice: _Voice) -> Way:
        """The smaller model, which is asked as the tuned one is."""
        return self._answered(Plain(system=self._system), "distilled", voice)

    def _strategies(self) -> list[Strategy]:
        train, wanted, seed = self._prepared.train.examples, self._wanted, self._prepared.spec.seed
        found: list[Strategy] = [Plain(system=self._system)]
        if wanted.shots and len(train):
            found += [
                Shots(train, wanted.shots, nearest=nearest, seed=seed, system=self._system) for nearest in (False, True)
            ]
        if wanted.documents:
            with Extractor() as extractor:
                index, _ = updated(
                    Index.of(()), walk(wanted.documents), words=WORDS, embedding=None, extractor=extractor
                )
            found.append(WithDocuments(index, wanted.passages, self._system))
        return found

    def _chosen(self) -> str | None:
        """The system message that does best on validation rows; the rows' own where none does better."""
        held = self._prepared.validation.examples or self._prepared.train.examples
        places = np.array(drawn(len(held), CANDIDATE_ROWS, self._prepared.spec.seed), dtype=np.int64)
        rows, metric = list(pick(held, places)), self._prepared.metrics[0]
        tried: dict[str | None, float] = {}
        for system in (None, *self._wanted.systems):
            said = self._local(Plain(system=system), self._base, rows)
            tried[system] = scored(metric, said.texts, rows).value
        best = max(tried, key=lambda system: tried[system])
        self._sink(Note("of the prompts given, " + ("none does better" if best is None else f"the best is: {best}")))
        return best

    def _local(self, strategy: Strategy, voice: _Voice, rows: Sequence[Example]) -> _Said:
        bench = voice.bench
        prompts = [
            encode_prompt(bench.tokenizer, strategy.messages(row, self._room(bench, row)), row.tools) for row in rows
        ]
        begin = time.monotonic()
        with voice.speaking():
            answers = generate(
                bench.model, prompts, Sampling(max_tokens=self._longest), pad_id=bench.pad_id,
                stop_ids=bench.stop_ids, context=bench.context,
                on_progress=lambda done: self._sink(Progress(done, len(rows), strategy.name)),
            )  # fmt: skip
        seconds = (time.monotonic() - begin) / len(rows)
        texts = [spoken(bench.tokenizer.decode(a.token_ids, skip_special_tokens=True)).strip() for a in answers]
        asked, said = (_mean_length(parts) for parts in (prompts, [answer.token_ids for answer in answers]))
        return _Said(texts, asked, said, seconds)

    def _room(self, bench: Bench, row: Example) -> Fits:
        """Whether a conversation leaves room for the longest answer."""

        def fits(messages: Sequence[Message]) -> bool:
            context = bench.context
            size = len(encode_prompt(bench.tokenizer, messages, row.tools))
            return context is None or size + self._longest <= context

        return fits

    def _remote(self, strategy: Strategy, endpoint: Endpoint) -> _Said:
        """Tokens are counted with the base's tokenizer: the endpoint's own may count otherwise."""
        asked = [strategy.messages(row, lambda _: True) for row in self._rows]
        both = enumerate(zip(asked, self._rows, strict=True))
        questions = ((number, Question(messages, row.tools)) for number, (messages, row) in both)
        begin, texts = time.monotonic(), [""] * len(self._rows)
        with Remote(endpoint) as remote:
            for number, said in remote.answers(questions, Sampling(max_tokens=self._longest)):
                texts[number] = spoken(said.text).strip()
        tokenizer = self._base.bench.tokenizer
        sizes_in = [len(encode_prompt(tokenizer, m, row.tools)) for m, row in zip(asked, self._rows, strict=True)]
        sizes_out = [len(tokenizer(text, add_special_tokens=False)["input_ids"]) for text in texts]
        seconds = (time.monotonic() - begin) / len(self._rows)
        return _Said(texts, float(np.mean(sizes_in)), float(np.mean(sizes_out)), seconds)

    def _answered(self, strategy: Strategy, name: str, voice: _Voice) -> Way:
        """The test rows, answered on this machine."""
        said, hour = self._local(strategy, voice, self._rows), self._wanted.prices.hour
        scores = self._scores(said)
        return Way(
            name, scores, said.tokens_in, said.tokens_out, said.seconds,
            cost=None if hour is None else 1000 * said.seconds * hour / 3600,
            set_up=None if hour is None else hour * voice.trained / 3600, set_up_seconds=voice.trained,
            tuned=voice.tuned, documents=isinstance(strategy, WithDocuments), model=voice.model,
            memory=round(voice.bench.weights_mb(base=voice.as_base), 3),
            outdated=self._outdated(said, next(iter(scores.values()))) if voice.tuned else 0,
        )  # fmt: skip

    def _outdated(self, said: _Said, first: Scored) -> int:
        learned = recalled(self._prepared.train.conversations, self._rows, said.texts)
        return int((learned & (first.rows < 1)).sum())

    def _asked(self, strategy: Strategy, endpoint: Endpoint) -> Way:
        """The test rows, answered by the endpoint."""
        said, prices = self._remote(strategy, endpoint), self._wanted.prices
        cost = None
        if prices.tokens_in is not None and prices.tokens_out is not None:
            cost = (said.tokens_in * prices.tokens_in + said.tokens_out * prices.tokens_out) / 1000
        return Way(
            f"{endpoint.model}, {strategy.name}", self._scores(said), said.tokens_in, said.tokens_out, said.seconds,
            cost=cost, set_up=None if prices.hour is None else 0.0, documents=isinstance(strategy, WithDocuments),
            model=endpoint.model,
        )  # fmt: skip

    def _scores(self, said: _Said) -> dict[str, Scored]:
        metrics: Sequence[Metric] = self._prepared.metrics
        return {metric.name: scored(metric, said.texts, self._rows) for metric in metrics}


def _mean_length(parts: Sequence[Sequence[int]]) -> float:
    return float(np.mean([len(part) for part in parts]))
