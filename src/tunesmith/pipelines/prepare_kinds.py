"""Recipe to checked, tokenized data for methods that do not learn from conversations with one right answer.

The audit is `check_kinds`'; here rows are chosen, split and made into what the method learns, by a maker for each kind.
Rows of another kind than the method's are refused before anything else.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np

from ..core.errors import ContentError, UsageError
from ..core.events import Sink, counted, stage
from ..core.messages import Kind, Labelled, Preference, Row, Text
from ..data import checks
from ..data.answers import Judged, JudgedStore, Pair, PairStore, Sequences, encode_answers
from ..data.audit import Audit, Finding, TokenFacts
from ..data.batch import Item
from ..data.config import DataSpec, SourceSpec
from ..data.curriculum import Curriculum, curriculum
from ..data.fitting import LongPolicy
from ..data.hub import local
from ..data.keys import Keys, overlapping
from ..data.kinds import better
from ..data.load import METHODS, Loaded, Reader, load
from ..data.mix import mixture, repetitions
from ..data.rows import Joined, Mapped, pick
from ..data.split import split_off
from ..data.template import TemplateError
from ..data.tokens import Sizes
from ..evaluation.config import EvaluationSpec
from ..evaluation.metrics import Metric, named
from ..methods.pretrain.config import PretrainSpec
from . import prepare_text
from .check_kinds import audit_kind
from .made import Made
from .recipe import RunSpec
from .sift import trained_on

_ONLY_SUPERVISED = ("cap_per_label", "names")
"""Keys of `data` that need conversations with one right answer."""
_AS_TEXT = "; or set format: text for this file, and conversations and texts are documents alike"


class Maker(Protocol):
    """Rows of one kind to what methods learn from them."""

    def __call__(
        self, rows: Sequence[Any], counts: Sequence[int], tokenizer: Any, limit: int, policy: LongPolicy, sink: Sink
    ) -> Made:
        """Every row that fits, as often as `counts` says, no sequence longer than `limit` tokens. What does not fit,
        the audit tells."""


@dataclass(frozen=True)
class Chosen:
    """What of the files goes where; sequences of rows, and how often each training row is seen in an epoch."""

    train: Sequence[Row]
    counts: list[int]
    sources: list[int]
    """The file that each training row is from."""
    validation: Sequence[Row]
    test: Sequence[Row]


def read(spec: RunSpec, reader: Reader, sink: Sink) -> tuple[list[Loaded], Loaded | None, Loaded | None]:
    """(training files, validation file, test file). ContentError for rows of a kind that the method does not take."""
    data = spec.data
    train = [_load(source, "train", spec, reader, sink) for source in data.train]
    beside = (
        _load(source, role, spec, reader, sink) if isinstance(source, SourceSpec) else None
        for role, source in (("validation", data.validation), ("test", data.test))
    )
    validation, test = beside
    kinds = {file.kind: file for file in (*train, validation, test) if file}
    if len(kinds) > 1:
        held = ", ".join(f"{file.path.name} holds {kind} rows" for kind, file in kinds.items())
        raise ContentError("the files hold rows of different kinds", why=held, mend="name files of one kind")
    return train, validation, test


def _load(source: SourceSpec, role: str, spec: RunSpec, reader: Reader, sink: Sink) -> Loaded:
    try:
        loaded = load(
            local(source.path), format=source.format, limit=source.limit, columns=source.columns,
            assistant=source.assistant, reader=reader, sink=sink,
        )  # fmt: skip
    except UsageError as error:  # an unknown format's name: here it stands in a recipe, not on the command line
        raise ContentError(error.what, where=f"data.{role}", mend=error.mend) from None
    require_kind(loaded, spec.method.type, spec.method.kinds)
    return loaded


def require_kind(loaded: Loaded, method: str, kinds: Sequence[Kind]) -> None:
    """ContentError where the method does not learn from rows of this kind."""
    if loaded.kind not in kinds and loaded.records:
        raise ContentError(
            f"{loaded.path.name} holds rows of kind '{loaded.kind}' (format '{loaded.format}')",
            where=str(loaded.path), why=f"method '{method}' learns from {' or '.join(kinds)} rows",
            mend=f"give such rows, or a method for these: {METHODS[loaded.kind]}; docs/reference/data-formats.md"
            + _AS_TEXT * (loaded.kind == "supervised" and "text" in kinds),
        )  # fmt: skip


def refuse_unfitting(data: DataSpec, method: str) -> None:
    """ContentError for keys of `data` that have no meaning for this method's rows."""
    if data.curriculum and method == "pretrain":
        raise ContentError(
            "data.curriculum orders rows, and documents are packed in another order", where="data.curriculum",
            mend="take it out, or train on the easy files first: a run, then another from its model",
        )  # fmt: skip
    given = [name for name in _ONLY_SUPERVISED if getattr(data, name)]
    given += ["personal_data"] if data.personal_data != "report" else []
    given += ["near_duplicates"] if data.near_duplicates != "report" else []
    given += ["on_near_overlap"] if data.on_near_overlap == "drop" else []
    if given:
        raise ContentError(
            f"data.{given[0]} is for supervised rows, not for those of method '{method}'", where=f"data.{given[0]}",
            mend="take it out, and mend the file beforehand: tunesmith check FILE --fix OUT",
        )  # fmt: skip


def choose(
    spec: RunSpec, train: Sequence[Loaded], validation: Loaded | None, test: Loaded | None, audit: Audit
) -> Chosen:
    """Leave out what the recipe says, and draw the shares for test and validation. Prompts stay on one side."""
    data, rows = spec.data, _Rows.of(train, [source.weight for source in spec.data.train], spec.seed)
    held: Sequence[Row] = test.records if test else ()
    beside: Sequence[Row] = validation.records if validation else ()
    if data.on_overlap == "drop":
        rows = rows.without_prompts_of(held).without_prompts_of(beside)
    if isinstance(data.test, float):
        rows, held = rows.split(data.test, "test", spec, audit)
    if isinstance(data.validation, float):
        rows, beside = rows.split(data.validation, "validation", spec, audit)
    seen = [place for place, count in enumerate(rows.counts) if count]
    rows = rows.pick(seen)
    return Chosen(rows.rows, rows.counts, rows.sources, beside, held)


@dataclass(frozen=True)
class _Rows:
    rows: Sequence[Row]
    counts: list[int]
    sources: list[int]

    @staticmethod
    def of(train: Sequence[Loaded], weights: Sequence[float], seed: int) -> _Rows:
        counts, sources = list[int](), list[int]()
        for number, (file, weight) in enumerate(zip(train, weights, strict=True)):
            counts += repetitions(len(file.records), weight, seed + number)
            sources += [number] * len(file.records)
        records = [file.records for file in train]
        return _Rows(records[0] if len(records) == 1 else Joined(records), counts, sources)

    def pick(self, places: Sequence[int]) -> _Rows:
        return _Rows(pick(self.rows, places), [self.counts[i] for i in places], [self.sources[i] for i in places])

    def without_prompts_of(self, held: Sequence[Row]) -> _Rows:
        if not len(held):
            return self
        views = Mapped(self.rows, better), Mapped(held, better)
        out = set(overlapping(*map(Keys.of, views))[0].tolist())
        return self.pick([i for i in range(len(self.rows)) if i not in out])

    def split(self, share: float, role: str, spec: RunSpec, audit: Audit) -> tuple[_Rows, Sequence[Row]]:
        inside, outside = split_off(Mapped(self.rows, better), share, role, spec.data, spec.seed, audit)
        return self.pick(inside), pick(self.rows, outside)


def pairs(
    rows: Sequence[Preference], counts: Sequence[int], tokenizer: Any, limit: int, policy: LongPolicy, sink: Sink
) -> Made:
    """Pairs of answers; see `Maker`."""
    store, used = PairStore(), array("q")
    for place, found in _fitting(rows, tokenizer, limit, policy, sink):
        store.append(Pair(*found))
        used.append(place)
    return _one_for_each(store, store.sizes(), counts, used.tolist())


def judged(
    rows: Sequence[Labelled], counts: Sequence[int], tokenizer: Any, limit: int, policy: LongPolicy, sink: Sink
) -> Made:
    """Answers called good or bad; see `Maker`."""
    store, used = JudgedStore(), array("q")
    for place, found in _fitting(rows, tokenizer, limit, policy, sink):
        store.append(Judged(found[0], rows[place].label))
        used.append(place)
    return _one_for_each(store, store.sizes(), counts, used.tolist())


def texts(method: PretrainSpec, seed: int, scored: bool) -> Maker:
    """Documents as they are learned, or as they are scored; see `Maker`. None is too long."""

    def make(
        rows: Sequence[Text], counts: Sequence[int], tokenizer: Any, limit: int, policy: LongPolicy, sink: Sink
    ) -> Made:
        if scored:
            return prepare_text.whole(rows, tokenizer, method, sink)
        return prepare_text.packed(rows, counts, tokenizer, limit, method, seed, sink)

    return make


def _one_for_each(items: Sequence[Item], sizes: Sizes, counts: Sequence[int], used: list[int]) -> Made:
    return Made(items, sizes, [counts[place] for place in used], used, sizes.lengths.tolist())


def _fitting(
    rows: Sequence[Preference | Labelled], tokenizer: Any, limit: int, policy: LongPolicy, sink: Sink
) -> Iterable[tuple[int, Any]]:
    """(place, sequences) of the rows that can be shown and that keep a part of each answer within the limit."""
    for place, found in enumerate(counted(encode_answers(tokenizer, rows), sink, "rows tokenized", len(rows))):
        if not isinstance(found, TemplateError) and _fits(found, limit, policy):
            cut = tuple(one.cut(limit) for one in found)
            if all(one.labelled for one in cut):
                yield place, cut


def _fits(found: Sequences, limit: int, policy: LongPolicy) -> bool:
    return not isinstance(found, TemplateError) and (policy != "drop" or all(one.length <= limit for one in found))


def measured(spec: EvaluationSpec, measures: Sequence[str], kind: Kind) -> tuple[tuple[str, ...], list[Metric]]:
    """(names of all that is compared, the one that counts most first; those of them that score generated answers).

    "auto" is what the method measures, without answers. ContentError for metrics of answers that such rows do not have.
    """
    if spec.metrics == "auto":
        return tuple(measures), []
    names = spec.metric_names()
    metrics = [named(entry) for entry, name in zip(spec.metrics, names, strict=True) if name not in measures]
    if metrics and kind != "preference":
        raise ContentError(
            f"evaluation.metrics: '{metrics[0].name}' needs rows with right answers, and these are {kind} rows",
            where="evaluation.metrics", mend=f"name {', '.join(measures) or 'none'}; loss and perplexity always count",
        )  # fmt: skip
    return names, metrics


MAKERS: dict[Kind, Maker] = {"preference": pairs, "labelled": judged}


@dataclass(frozen=True)
class Part:
    """One of training, validation and test: what is learned or scored, and the rows that it is made of."""

    made: Made
    rows: Sequence[Row]
    counts: list[int]


@dataclass(frozen=True)
class Ready:
    """What `prepare` makes a Prepared of."""

    kind: Kind
    train: Part
    validation: Part
    test: Part
    audit: Audit
    order: Curriculum | None


def ready(
    spec: RunSpec, tokenizer: Any, limit: int, reader: Reader, sink: Sink, tested_on: SourceSpec | None = None
) -> Ready:
    """Read, check, choose and tokenize the rows of a method of another kind; test rows of another file if need be."""
    refuse_unfitting(spec.data, spec.method.type)
    with stage(sink, "reading"):
        train, validation, test = read(spec, reader, sink)
    kind = train[0].kind
    with stage(sink, "looks"):
        audit = audit_kind(spec, train, test, tokenizer, limit, validation=validation, wanted=True)
    chosen = choose(spec, train, validation, test, audit)
    if tested_on:
        chosen = replace(chosen, test=_other_test(tested_on, chosen.train, spec, reader, sink, audit))

    def made(rows: Sequence[Row], counts: Sequence[int], *, scored: bool = False) -> Part:
        maker = texts(spec.method, spec.seed, scored) if isinstance(spec.method, PretrainSpec) else MAKERS[kind]
        found = maker(rows, counts, tokenizer, limit, spec.data.on_long, sink)
        return Part(found, pick(rows, found.used), [counts[place] for place in found.used])

    with stage(sink, "tokens"):
        trained = made(chosen.train, chosen.counts)
        validated = made(chosen.validation, [1] * len(chosen.validation))
        tested = made(chosen.test, [1] * len(chosen.test), scored=True)
    _tell(spec, audit, trained, [chosen.sources[place] for place in trained.made.used])
    order, findings = curriculum(spec.data.curriculum, Mapped(trained.rows, better), trained.made.lengths)
    audit.findings += findings
    audit.waive(spec.data.waive)
    return Ready(kind, trained, validated, tested, audit, order)


def _other_test(
    source: SourceSpec, train: Sequence[Row], spec: RunSpec, reader: Reader, sink: Sink, audit: Audit
) -> Sequence[Row]:
    """Test rows that the recipe does not name. One that was trained on blocks; one that nearly was is told."""
    loaded = _load(source, "test", spec, reader, sink)
    audit.findings += checks.bad_rows(loaded)
    trained_on(Mapped(train, better), Mapped(loaded.records, better), spec.data, audit)
    return loaded.records


def _tell(spec: RunSpec, audit: Audit, train: Part, sources: Sequence[int]) -> None:
    """What is trained on, in figures."""
    audit.tokens = TokenFacts.of(train.made.sizes)
    paths = [source.path for source in spec.data.train]
    audit.mixture = mixture(paths, np.array(sources, dtype=np.int64), train.counts, train.made.lengths)
    if not len(train.made.items) and not audit.blocking:
        audit.add(Finding("no_rows", "block", "no training row is left", "give more rows"))
