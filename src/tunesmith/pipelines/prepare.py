"""Recipe to checked, tokenized data. Nothing is trained while a finding blocks, and nothing is dropped unsaid."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from pathlib import Path
from typing import Any

import numpy as np

from ..core import clock
from ..core.errors import ContentError, UsageError
from ..core.events import Sink, counted, silent, stage
from ..core.messages import Example, Kind
from ..data import checks, identity, places
from ..data.audit import Audit, Finding, TokenFacts
from ..data.canaries import canaries, require_plain
from ..data.check_privacy import Privacy
from ..data.check_special import SpecialTokens
from ..data.check_system import SystemPrompts
from ..data.config import SourceSpec
from ..data.curriculum import Curriculum, curriculum
from ..data.diversity import DiversityLook
from ..data.fitting import Fitting
from ..data.hub import local
from ..data.illustrate import Shelf, illustrated
from ..data.kinds import better
from ..data.language import Languages, usual_languages
from ..data.lengths import Lengths
from ..data.load import Loaded, Reader, load
from ..data.mix import capped, mixture, over_cap, repetitions
from ..data.packing import pack_sequences
from ..data.repeats import near_validation
from ..data.rows import Joined, Mapped, RowStore, pick
from ..data.source import rows as source_rows
from ..data.split import split_off
from ..data.supervision import Prompts
from ..data.template import PLAIN_TEMPLATE, TemplateError, learning_last
from ..data.tokenize import Encoded, encode, encode_rows
from ..data.tokens import Sizes, TokenStore
from ..data.tokens import fingerprint as tokens_fingerprint
from ..engine.steps import DEFAULT_BATCH_SIZE, Steps
from ..evaluation import gate
from ..evaluation.compare import LOSSES, resolve_metrics
from ..evaluation.metrics import Metric, over_rows
from ..methods.classify.config import ClassifySpec
from ..methods.distill.config import DistillSpec
from ..methods.distill.teacher import fingerprint, require_fit
from ..methods.reward.config import RewardSpec
from ..methods.sft.config import SftSpec
from ..models.find import find
from ..models.refs import Base
from ..models.scratch.config import learning_rate
from ..models.size import Size
from ..models.tokenizer import tokenizer as load_tokenizer
from . import compatible, data_identity, prepare_heads, prepare_kinds
from .crew import Crew
from .encoding import Encoding, Shown
from .judging import Judging
from .recipe import RunSpec
from .searched import SearchedRows
from .sift import Training, sift, trained_on
from .trained_rows import TrainedRows

LONGEST_AUTO = 4096


def _held_up(row: Any) -> Example:
    """The row with the answer that it holds up, and what it says besides."""
    return better(row).model_copy(update={"metadata": row.metadata})


@dataclass(frozen=True)
class Rows:
    """Rows as they were read and as the method learns them: in the same order, unless they are packed."""

    examples: Sequence[Any]
    """`Example`s, or the rows of the method's own kind."""
    encoded: Sequence[Any]
    """`Encoded`s, or the method's own items."""
    sizes: Sizes

    @property
    def conversations(self) -> Sequence[Example]:
        """The rows as conversations that end in the answer they hold up."""
        supervised = not len(self.examples) or isinstance(self.examples[0], Example)
        return self.examples if supervised else Mapped(self.examples, _held_up)

    def pick(self, indices: Sequence[int]) -> Rows:
        """Some of the rows."""
        return Rows(pick(self.examples, indices), pick(self.encoded, indices), self.sizes.pick(indices))


@dataclass(frozen=True)
class Prepared:
    """All that a training and an evaluation need, but the model."""

    spec: RunSpec
    """The recipe without "auto"."""
    base: Base
    tokenizer: Any
    train: Rows
    repeats: list[int]
    validation: Rows
    test: Rows
    metrics: list[Metric]
    audit: Audit
    data_fingerprint: str
    curriculum: Curriculum | None = None
    """The order of the first epochs, where it is known without the model."""
    kind: Kind = "supervised"
    counts: list[int] | None = None
    """How often each row is seen in an epoch, where that is not `repeats`."""
    tokens_fingerprint: str = ""
    """Of the training rows as they are learned: whatever makes other tokens or weights of them changes it."""
    teacher: str | None = None
    """Fingerprint of who teaches, where a teacher does."""

    def trained_rows(self) -> TrainedRows:
        """The training rows as they are used, after masking, choice and weights: what each is, and how often."""
        counts = self.repeats if self.counts is None else self.counts
        return TrainedRows(identity.digests(self.train.examples), counts, self.train.examples)

    def references(self) -> Sequence[Encoded]:
        """The test rows as the sequences whose loss is told: of pairs the chosen answers."""
        part = {"preference": "chosen", "labelled": "answer"}.get(self.kind)
        return Mapped(self.test.encoded, attrgetter(part)) if part else self.test.encoded

    def require_clean(self) -> None:
        """ContentError with every blocking finding."""
        blocking = self.audit.blocking
        if blocking:
            raise blocked(blocking)


def prepare(
    spec: RunSpec, folder: Path | None = None, *, keep_tokens: bool = True, reader: Reader = source_rows,
    sink: Sink = silent, date: str | None = None, trains: bool = True, tested_on: SourceSpec | None = None,
) -> Prepared:  # fmt: skip
    """Read, check, split and tokenize. Findings are in the audit; call `require_clean` before training.

    `folder` is that of the recipe's file, where there is one: sources outside it are told. Without `keep_tokens` the
    rows' tokens are counted and not kept: for an audit of more than fits on the disk twice. `reader` gives the rows of
    the files, all of them or a sample. `sink` hears how far it is and how long each stage took. Templates show `date`
    (YYYY-MM-DD), or today, where they show a date. Without `trains` no teacher need be there.
    With `tested_on` the test rows are another file's; training rows stay those that the recipe chooses.
    """
    base, date = find(spec.base), date or clock.today()
    compatible.require(spec, base)
    tokenizer = load_tokenizer(base, PLAIN_TEMPLATE, date)
    remarks, teacher = _teacher(spec, base, tokenizer) if trains else ([], None)
    if tested_on and not spec.data.test_chooses():
        spec, tested_on = _with_test(spec, tested_on), None
    if "supervised" not in spec.method.kinds:
        return _other_kind(spec, base, tokenizer, folder, reader, sink, tested_on)
    workbench = _Preparation(spec, base, tokenizer, folder, keep_tokens, reader, sink, date)
    workbench.audit.findings += remarks
    train, repeats, validation, test = workbench.rows(tested_on)
    if isinstance(spec.method, ClassifySpec):
        spec, (train, validation, test) = _classes(spec, spec.method, (train, validation, test), workbench.audit)
        metrics, names = [], [*prepare_heads.measured(spec.evaluation, spec.method.measures, spec.method.type)]
    else:
        metrics = resolve_metrics(spec.evaluation, [e.answer() for e in test.examples])
        names = [metric.name for metric in metrics]
        over_rows.require(metrics, test.examples)
    gate.check_names(spec.gate, [*names, *LOSSES])
    counts = repeats if getattr(spec.method, "packing", False) else None
    if counts is not None:
        train = _packed(train, counts, workbench.max_length, spec.seed)
        repeats = [1] * len(train.encoded)
    resolved = _resolve(spec, base, workbench.max_length, train, repeats, test, names, workbench.curriculum)
    return Prepared(
        resolved, base, tokenizer, train, repeats, validation, test, metrics, workbench.audit,
        data_identity.fingerprint(workbench.audit, resolved.data, spec.seed), workbench.curriculum,
        counts=counts, tokens_fingerprint=tokens_fingerprint(train.encoded) if keep_tokens else "", teacher=teacher,
    )  # fmt: skip


def _with_test(spec: RunSpec, source: SourceSpec) -> RunSpec:
    """The recipe with another test file."""
    changed = {"test": source, "on_overlap": "error", "on_near_overlap": "warn"}
    return spec.model_copy(update={"data": spec.data.model_copy(update=changed)})


def _packed(train: Rows, counts: Sequence[int], limit: int, seed: int) -> Rows:
    """The same rows, put side by side into rows of `limit` tokens."""
    rows = pack_sequences(train.encoded, counts, train.sizes, limit, seed)
    return Rows(train.examples, rows, rows.sizes)


def _classes(spec: RunSpec, method: ClassifySpec, parts: Sequence[Rows], audit: Audit) -> tuple[RunSpec, list[Rows]]:
    """The recipe with its labels, and the rows of training, validation and test as classes."""
    known = prepare_heads.with_labels(method, parts[0].examples, audit)
    made = []
    for role, rows in zip(("train", "validation", "test"), parts, strict=True):
        items, sizes = prepare_heads.classes(rows.examples, rows.encoded, known.labels, role, audit)
        made.append(Rows(rows.examples, items, sizes))
    return spec.model_copy(update={"method": known, "gate": prepare_heads.gate(spec.gate)}), made


def _other_kind(
    spec: RunSpec, base: Base, tokenizer: Any, folder: Path | None, reader: Reader, sink: Sink,
    tested_on: SourceSpec | None,
) -> Prepared:  # fmt: skip
    """`prepare` for rows that are no conversations with one right answer."""
    limit = length_limit(spec, base)
    ready = prepare_kinds.ready(spec, tokenizer, limit, reader, sink, tested_on)
    ready.audit.findings += places.outside((f.path for f in ready.audit.files), folder)
    train, validation, test = (
        Rows(part.rows, part.made.items, part.made.sizes) for part in (ready.train, ready.validation, ready.test)
    )
    names, metrics = prepare_kinds.measured(spec.evaluation, spec.method.measures, ready.kind)
    over_rows.require(metrics, test.conversations)
    if isinstance(spec.method, RewardSpec):
        method = spec.method
        names, metrics = prepare_heads.measured(spec.evaluation, method.measures, method.type), []
        train, validation = (
            replace(rows, encoded=prepare_heads.with_margins(method, rows.examples, rows.encoded))
            for rows in (train, validation)
        )
        spec = spec.model_copy(update={"gate": prepare_heads.gate(spec.gate)})
    gate.check_names(spec.gate, [*names, *LOSSES])
    repeats = ready.train.made.repeats
    resolved = _resolve(spec, base, limit, train, repeats, test, names, ready.order)
    return Prepared(
        resolved, base, tokenizer, train, repeats, validation, test, metrics, ready.audit,
        data_identity.fingerprint(ready.audit, resolved.data, spec.seed), ready.order, ready.kind, ready.train.counts,
        tokens_fingerprint(train.encoded),
    )  # fmt: skip


def _teacher(spec: RunSpec, base: Base, tokenizer: Any) -> tuple[list[Finding], str | None]:
    """Remarks on who teaches and their fingerprint; see `require_fit` for errors."""
    if not isinstance(spec.method, DistillSpec):
        return [], None
    return require_fit(spec.method, base, tokenizer, length_limit(spec, base)), fingerprint(spec.method)


class _Preparation:
    """The steps from files to rows, and the audit they fill."""

    def __init__(
        self, spec: RunSpec, base: Base, tokenizer: Any, folder: Path | None, keep_tokens: bool, reader: Reader,
        sink: Sink, date: str,
    ):  # fmt: skip
        self.reader, self.sink, self.crew = reader, sink, Crew(spec.base, date)
        self.spec, self.tokenizer, self.folder, self.keep_tokens = spec, tokenizer, folder, keep_tokens
        self.audit, self.shelf = Audit(), Shelf()
        names = spec.data.names.build() if spec.data.names else None
        self.privacy = Privacy(spec.data.personal_data, spec.data.subject, names)
        self.max_length = length_limit(spec, base)
        self.curriculum: Curriculum | None = None

    def rows(self, tested_on: SourceSpec | None = None) -> tuple[Rows, list[int], Rows, Rows]:
        """(training rows, how often each is seen, validation rows, test rows); test rows of another file if need be."""
        with self.crew:
            made = self._rows()
            if tested_on:
                made = (*made[:3], self._other_test(tested_on, made[0]))
        self.audit.findings = illustrated(self.audit.findings, self.shelf, self.privacy.find)
        return made

    def _rows(self) -> tuple[Rows, list[int], Rows, Rows]:
        """`rows`, where the crew may be begun."""
        data = self.spec.data
        read = [self._one_file(source, "train") for source in data.train]
        test, separate = (
            self._one_file(source, role) if isinstance(source, SourceSpec) else ()
            for source, role in ((data.test, "test"), (data.validation, "validation"))
        )
        examples = read[0] if len(read) == 1 else Joined(read)
        usual = usual_languages(examples)  # behind all reading, for a crew does one thing after the other
        judging, encoding = Judging(examples, usual, self.crew), Encoding(self.tokenizer, examples, self.crew)
        training = self._training(examples, [len(part) for part in read])
        if not isinstance(data.test, SourceSpec):
            test = self._drawn_test(training)
        diversity = DiversityLook(self.privacy.find)
        looks = (Languages(usual), SystemPrompts(), SpecialTokens(self.tokenizer), diversity)
        sift(training, separate, test, data, self.audit, looks, self.sink, judging)
        self.audit.describe = lambda: diversity.told(self.sink)
        self.audit.findings += places.outside((f.path for f in self.audit.files), self.folder)
        train = training.examples
        with stage(self.sink, "tokens"):
            rows, kept = self._fit(train, encoding.of(training.places), check_prompts=True)
        validation_rows, _ = self._fit(separate, encode_rows(self.tokenizer, separate))
        test_rows, _ = self._fit(test, encode_rows(self.tokenizer, test), last_only=True)
        if isinstance(data.validation, float):
            inside, held_out = self._held_out(train, kept, data.validation)
            sides = {kept[i] for i in inside}, {kept[i] for i in held_out}
            self.audit.findings += near_validation(training.repeats, train, *sides)
            rows, validation_rows = rows.pick(inside), rows.pick(held_out)
            kept = [kept[i] for i in inside]
        rows, repeats = self._planted(*self._seen(training, rows, kept))
        return rows, repeats, validation_rows, test_rows

    def _other_test(self, source: SourceSpec, train: Rows) -> Rows:
        """Test rows that the recipe does not name. One that was trained on blocks; one that nearly was is told."""
        test = self._one_file(source, "test")
        trained_on(train.examples, test, self.spec.data, self.audit)
        return self._fit(test, encode_rows(self.tokenizer, test), last_only=True)[0]

    def _planted(self, rows: Rows, repeats: list[int]) -> tuple[Rows, list[int]]:
        """With the recipe's canaries behind the training rows; no check has looked at them."""
        spec = self.spec.data.canaries
        if spec is None or not repeats:
            return rows, repeats
        planted = canaries(spec, rows.examples, self.spec.seed)
        require_plain(planted, rows.examples)
        examples = Joined((rows.examples, planted))
        shown = [self._shown(canary) for canary in planted]
        encoded = Joined((rows.encoded, shown))
        sizes = rows.sizes.joined(Sizes.of(shown))
        return Rows(examples, encoded, sizes), [*repeats, *([spec.repeats] * len(planted))]

    def _shown(self, canary: Example) -> Encoded:
        made = encode(self.tokenizer, [canary])[0]
        if not isinstance(made, Encoded) or made.length > self.max_length:
            raise ContentError(
                "a canary cannot be shown", where="data.canaries", mend="raise training.max_length, or plant none",
                why=str(made) if isinstance(made, TemplateError) else f"it has {made.length} tokens",
            )  # fmt: skip
        return made

    def _drawn_test(self, training: Training) -> Sequence[Example]:
        """Test rows out of the training rows, where the recipe asks for a share of them."""
        share = self.spec.data.test
        if not isinstance(share, float):
            return ()
        _, held = split_off(training.examples, share, "test", self.spec.data, self.spec.seed, self.audit)
        test = pick(training.examples, held)
        training.without(held)
        return test

    def _seen(self, training: Training, rows: Rows, kept: list[int]) -> tuple[Rows, list[int]]:
        """The rows that come in an epoch and how often each does; `kept` are their places in `training`."""
        data, counts = self.spec.data, training.counts
        over: set[int] = set()
        if data.cap_per_label:
            trained = list(dict.fromkeys(i for i in kept if counts[i]))
            over, self.audit.cap = over_cap(training.examples, trained, data.cap_per_label, self.spec.seed)
            self.audit.findings += capped(self.audit.cap, [training.examples[i].origin for i in sorted(over)])
        seen = [place for place, i in enumerate(kept) if counts[i] and i not in over]
        rows, repeats = rows.pick(seen), [int(counts[kept[place]]) for place in seen]
        lengths = rows.sizes.lengths.tolist()
        self.curriculum, findings = curriculum(data.curriculum, rows.examples, lengths)
        self.audit.findings += findings
        self.audit.waive(data.waive)
        self.audit.tokens = TokenFacts.of(rows.sizes)
        sources = training.sources[np.array([kept[place] for place in seen], dtype=np.int64)]
        self.audit.mixture = mixture([source.path for source in data.train], sources, repeats, lengths)
        if self.audit.lengths:
            epoch = sum(source.tokens for source in self.audit.mixture)
            self.audit.lengths = replace(self.audit.lengths, tokens_per_epoch=epoch)
        if not seen and not self.audit.blocking:
            self.audit.add(Finding("no_rows", "block", "no training row is left", "give more rows"))
        return rows, repeats

    def _training(self, examples: Sequence[Example], sizes: Sequence[int]) -> Training:
        """The rows of the training files, of which there are `sizes`."""
        repeats = [
            repetitions(size, source.weight, self.spec.seed + number)
            for number, (size, source) in enumerate(zip(sizes, self.spec.data.train, strict=True))
        ]
        origins = np.repeat(np.arange(len(sizes)), sizes)
        with stage(self.sink, "keys"):
            return Training(examples, np.concatenate(repeats).astype(np.int64), origins)

    def _one_file(self, source: SourceSpec, role: str) -> Sequence[Example]:
        try:
            rows = SearchedRows(None if self.privacy.names else self.crew)
            with stage(self.sink, "reading"), rows:
                loaded: Loaded = load(
                    local(source.path), format=source.format, limit=source.limit, columns=source.columns,
                    assistant=source.assistant, reader=self.reader, sink=self.sink, store=rows,
                )  # fmt: skip
        except UsageError as error:  # an unknown format's name: here it stands in a recipe, not on the command line
            raise ContentError(error.what, where=f"data.{role}", mend=error.mend) from None
        self.audit.files.append(checks.file_facts(loaded, source.path, role))
        self.audit.findings += checks.bad_rows(loaded, self.privacy.find)
        self.shelf.add(loaded.records)
        # Before all else that looks at rows: two prompts that masking makes equal are equal to the model.
        with stage(self.sink, "personal data"):
            supervised, finds = loaded.require_supervised(), rows.finds(self.sink)
            examples, findings = self.privacy.apply(supervised, train=role == "train", sink=self.sink, finds=finds)
        self.audit.findings += findings
        last = isinstance(self.spec.method, SftSpec) and self.spec.method.learn == "last"
        return Mapped(examples, learning_last) if last else examples

    def _held_out(self, train: Sequence[Example], kept: list[int], share: float) -> tuple[list[int], list[int]]:
        """Places in `kept` of (training, validation) rows; all pieces of an unrolled row go to the same side."""
        whole = list(dict.fromkeys(kept))
        _, held = split_off(pick(train, whole), share, "validation", self.spec.data, self.spec.seed, self.audit)
        out = {whole[i] for i in held}
        sides: tuple[list[int], list[int]] = ([], [])
        for place, row in enumerate(kept):
            sides[row in out].append(place)
        return sides

    def _fit(
        self, examples: Sequence[Example], encoded: Iterable[Shown], *, check_prompts: bool = False,
        last_only: bool = False,
    ) -> tuple[Rows, list[int]]:  # fmt: skip
        """Tokens of the rows that can be shown and fit, and for each the index of the row that it comes from.

        A row may come as several pieces (see `render_unrolled`); with `last_only`, as the last of them.
        """
        data = self.spec.data
        fitting = Fitting(
            self.tokenizer, self.max_length, data.on_long, last_only=last_only,
            keep_untaught="no_supervision" not in data.waive,
        )  # fmt: skip
        prompts = Prompts(self.tokenizer, len(examples) if check_prompts else 0, self.spec.seed)
        store, pieces = TokenStore(keep=self.keep_tokens), RowStore[Example]()
        owners, places = array("q"), array("q")
        for index, (example, shown) in enumerate(counted(encoded, self.sink, "rows tokenized", len(examples))):
            fit = fitting.take(example, shown)
            prompts.see(index, fit)
            for piece, tokens in fit:
                store.append(tokens)
                owners.append(index)
                places.append(index if piece is example else len(examples) + len(pieces))
                if piece is not example:
                    pieces.append(piece)
        self.audit.findings += fitting.findings(ends=check_prompts)
        if check_prompts:
            self.audit.findings += prompts.findings()
            self.audit.supervision = prompts.added_to(fitting.supervision())
            self.audit.lengths = Lengths.of(fitting.lengths(), self.max_length)
        shown_as = pick(Joined((examples, pieces)) if len(pieces) else examples, np.array(places, dtype=np.int64))
        return Rows(shown_as, store, store.sizes()), owners.tolist()


def blocked(findings: Sequence[Finding]) -> ContentError:
    """One error that names every blocking finding and its first places."""
    lines = []
    for finding in findings:
        places = ", ".join(finding.rows[:5]) + (f" and {len(finding.rows) - 5} more" if len(finding.rows) > 5 else "")
        lines.append(f"{finding.message} — {places}" if places else finding.message)
    rows = sum(f.count for f in findings)
    return ContentError(
        f"the data cannot be trained on: {rows} row{'s' if rows != 1 else ''} with {len(findings)} kind"
        f"{'s' if len(findings) != 1 else ''} of trouble",
        where=findings[0].rows[0] if findings[0].rows else None,
        why="; ".join(lines[:12]),
        mend="; ".join(dict.fromkeys(f.mend for f in findings)),
    )  # fmt: skip


def length_limit(spec: RunSpec, base: Base) -> int:
    """The longest row in tokens: what the recipe says, within what the base takes. ContentError beyond that."""
    whole, wanted, taken = base.context, spec.training.max_length, spec.adapter.virtual_tokens()
    if whole and whole - taken < 2:
        raise ContentError(
            f"adapter.tokens is {taken}, and base '{spec.base}' takes {whole} tokens: no place is left for text",
            mend="lower adapter.tokens",
        )
    context = whole - taken if whole else None
    if wanted == "auto":
        return min(context or LONGEST_AUTO, LONGEST_AUTO)
    if context and wanted > context:
        raise ContentError(
            f"training.max_length is {wanted}, but base '{spec.base}' takes at most {context} tokens",
            why=f"{taken} of its {whole} places are the adapter's virtual tokens" if taken else None,
            mend=f"set training.max_length to {context} or less, or to auto",
        )
    return wanted


def _resolve(
    spec: RunSpec, base: Base, max_length: int, train: Rows, repeats: list[int], test: Rows, names: Sequence[str],
    order: Curriculum | None,
) -> RunSpec:  # fmt: skip
    """Replace every "auto" but the precision, which depends on the machine and is chosen where the model is loaded."""
    training = spec.training
    update: dict[str, Any] = {"max_length": max_length}
    if training.batch_size is None and training.batch_tokens is None:
        update["batch_size"] = DEFAULT_BATCH_SIZE
    if training.learning_rate == "auto":
        update["learning_rate"] = learning_rate(Size.of(base).body) if base.untrained else spec.adapter.auto_rate
    training = training.model_copy(update=update)
    if len(train.encoded):
        steps = Steps(train.sizes.lengths.tolist(), repeats, training, spec.seed, order)
        cadence = steps.resolve_cadence(training)
        training = training.model_copy(
            update={"evaluate_every": cadence.evaluate_every, "checkpoint_every": cadence.checkpoint_every}
        )
    longest = int(test.sizes.labelled.max(initial=0))
    evaluation = spec.evaluation.model_copy(
        update={
            "metrics": spec.evaluation.entries(names) or "auto",
            "max_tokens": round(1.25 * longest) + 8
            if spec.evaluation.max_tokens == "auto"
            else spec.evaluation.max_tokens,
        }
    )
    return spec.model_copy(update={"training": training, "evaluation": evaluation})
