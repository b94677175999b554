"""Recipe to checked, tokenized data. Nothing is trained while a finding blocks, and nothing is dropped unsaid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..core import fingerprints
from ..core.errors import ContentError, UsageError
from ..core.messages import Example
from ..data import checks, identity, places
from ..data.audit import Audit, FileFacts, Finding, TokenFacts
from ..data.check_privacy import Privacy
from ..data.config import DataSpec, SourceSpec
from ..data.hub import local
from ..data.load import Loaded, load
from ..data.mix import repetitions
from ..data.repeats import near_validation
from ..data.split import hold_out
from ..data.template import PLAIN_TEMPLATE, TemplateError
from ..data.tokenize import Encoded, encode_unrolled
from ..engine.steps import DEFAULT_BATCH_SIZE, Steps
from ..evaluation import gate
from ..evaluation.compare import LOWER_IS_BETTER, resolve_metrics
from ..evaluation.metrics import Metric, named
from ..models.find import find
from ..models.refs import Base
from ..models.tokenizer import tokenizer as load_tokenizer
from .recipe import RunSpec
from .sift import Training, sift

LONGEST_AUTO = 4096


@dataclass(frozen=True)
class Rows:
    """Rows as conversations and as tokens, in the same order."""

    examples: list[Example] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)

    def pick(self, indices: Sequence[int]) -> Rows:
        """Some of the rows."""
        return Rows([self.examples[i] for i in indices], [self.encoded[i] for i in indices])


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

    def data_root(self) -> str:
        """What the set of training rows is as they are used: after masking, choice and weights; an epoch of them."""
        return identity.root(identity.digests(self.train.examples), self.repeats)

    def require_clean(self) -> None:
        """ContentError with every blocking finding."""
        blocking = self.audit.blocking
        if blocking:
            raise blocked(blocking)


def prepare(spec: RunSpec, folder: Path | None = None) -> Prepared:
    """Read, check, split and tokenize. Findings are in the audit; call `require_clean` before training.

    `folder` is that of the recipe's file, where there is one: sources outside it are told.
    """
    base = find(spec.base)
    _compatible(spec, base)
    tokenizer = load_tokenizer(base, PLAIN_TEMPLATE)
    workbench = _Preparation(spec, base, tokenizer, folder)
    train, repeats, validation, test = workbench.rows()
    metrics = resolve_metrics(spec.evaluation, [e.answer() for e in test.examples])
    gate.check_names(spec.gate, [*(m.name for m in metrics), *sorted(LOWER_IS_BETTER)])
    resolved = _resolve(spec, workbench.max_length, train, repeats, test, metrics)
    return Prepared(
        resolved, base, tokenizer, train, repeats, validation, test, metrics, workbench.audit,
        _fingerprint(workbench.audit, resolved.data),
    )  # fmt: skip


def _compatible(spec: RunSpec, base: Base) -> None:
    """ContentError for parts of a recipe that cannot be had together."""
    if spec.method.rehearsal and spec.adapter.trains_base:
        raise ContentError(
            "method.rehearsal needs an adapter: in full fine-tuning no base is left to compare with",
            mend="use adapter: {type: lora}, or leave method.rehearsal out and mix in general rows (data.train)",
        )
    if spec.method.rehearsal and base.encoder_decoder:
        raise ContentError(
            f"method.rehearsal needs a base that writes text by itself: '{spec.base}' is an encoder-decoder",
            mend="leave method.rehearsal out and mix in general rows (data.train)",
        )
    stopping = spec.training.early_stopping
    if stopping and stopping.metric != "loss":
        named(stopping.metric, where="training.early_stopping.metric")


class _Preparation:
    """The steps from files to rows, and the audit they fill."""

    def __init__(self, spec: RunSpec, base: Base, tokenizer: Any, folder: Path | None):
        self.spec, self.tokenizer, self.folder = spec, tokenizer, folder
        self.audit = Audit()
        names = spec.data.names.build() if spec.data.names else None
        self.privacy = Privacy(spec.data.personal_data, spec.data.subject, names)
        self.max_length = _max_length(spec, base)

    def rows(self) -> tuple[Rows, list[int], Rows, Rows]:
        """(training rows, how often each is seen, validation rows, test rows)."""
        data = self.spec.data
        training = Training(*self._training_examples())
        test = self._one_file(data.test, "test") if data.test else []
        separate = self._one_file(data.validation, "validation") if isinstance(data.validation, SourceSpec) else []
        sift(training, separate, test, data, self.audit)
        self.audit.findings += places.outside((f.path for f in self.audit.files), self.folder)
        train = training.examples
        rows, kept = self._tokenize(train, check_prompts=True)
        repeats = [training.counts[i] for i in kept]
        validation_rows, _ = self._tokenize(separate)
        test_rows, _ = self._tokenize(test, last_only=True)
        if isinstance(data.validation, float):
            inside, held_out = self._held_out(train, kept, data.validation)
            sides = {kept[i] for i in inside}, {kept[i] for i in held_out}
            self.audit.findings += near_validation(training.repeats, train, *sides)
            rows, validation_rows = rows.pick(inside), rows.pick(held_out)
            repeats = [repeats[i] for i in inside]
        self.audit.waive(data.waive)
        seen = [i for i, count in enumerate(repeats) if count]
        self.audit.tokens = TokenFacts.of(rows.encoded[i] for i in seen)
        if not seen and not self.audit.blocking:
            self.audit.add(Finding("no_rows", "block", "no training row is left", "give more rows"))
        return rows.pick(seen), [repeats[i] for i in seen], validation_rows, test_rows

    def _training_examples(self) -> tuple[list[Example], list[int]]:
        examples: list[Example] = []
        repeats: list[int] = []
        for number, source in enumerate(self.spec.data.train):
            mine = self._one_file(source, "train")
            examples += mine
            repeats += repetitions(len(mine), source.weight, self.spec.seed + number)
        return examples, repeats

    def _one_file(self, source: SourceSpec, role: str) -> list[Example]:
        try:
            loaded: Loaded = load(
                local(source.path), format=source.format, limit=source.limit, columns=source.columns,
                assistant=source.assistant,
            )  # fmt: skip
        except UsageError as error:  # an unknown format's name: here it stands in a recipe, not on the command line
            raise ContentError(error.what, where=f"data.{role}", mend=error.mend) from None
        self.audit.files.append(
            FileFacts(
                source.path, role, loaded.format, loaded.rows, len(loaded.records), loaded.sha256,
                identity.root(identity.digests(loaded.records)),
            )
        )  # fmt: skip
        self.audit.findings += checks.bad_rows(loaded)
        # Before all else that looks at rows: two prompts that masking makes equal are equal to the model.
        examples, findings = self.privacy.apply(loaded.require_supervised(), train=role == "train")
        self.audit.findings += findings
        return examples

    def _held_out(self, train: list[Example], kept: list[int], share: float) -> tuple[list[int], list[int]]:
        """Places in `kept` of (training, validation) rows; all pieces of an unrolled row go to the same side."""
        whole = list(dict.fromkeys(kept))
        _, held = hold_out([train[i] for i in whole], share, self.spec.seed)
        out = {whole[i] for i in held}
        sides: tuple[list[int], list[int]] = ([], [])
        for place, row in enumerate(kept):
            sides[row in out].append(place)
        return sides

    def _tokenize(
        self, examples: list[Example], *, check_prompts: bool = False, last_only: bool = False
    ) -> tuple[Rows, list[int]]:
        """Tokens of the rows that can be shown and fit, and for each the index of the row that it comes from.

        A row may come as several pieces (see `render_unrolled`); with `last_only`, as the last of them.
        """
        shown = encode_unrolled(self.tokenizer, examples)
        self.audit.findings += checks.unrenderable(examples, shown)
        self.audit.findings += checks.unrolled(examples, shown, last_only=last_only)
        fine, rows = [], Rows()
        for index, pieces in enumerate(shown):
            if isinstance(pieces, TemplateError):
                continue
            for example, encoded in pieces[-1:] if last_only else pieces:
                fine.append(index)
                rows.examples.append(example)
                rows.encoded.append(encoded)
        policy = self.spec.data.on_long
        self.audit.findings += checks.too_long(rows.examples, rows.encoded, self.max_length, policy)
        if policy == "drop":
            short = [i for i, e in enumerate(rows.encoded) if len(e.input_ids) <= self.max_length]
            fine, rows = [fine[i] for i in short], rows.pick(short)
        rows = Rows(rows.examples, [e.cut(self.max_length) for e in rows.encoded])
        self.audit.findings += checks.no_supervision(rows.examples, rows.encoded)
        if "no_supervision" in self.spec.data.waive:
            taught = [i for i, e in enumerate(rows.encoded) if e.labelled]
            fine, rows = [fine[i] for i in taught], rows.pick(taught)
        if check_prompts:
            self.audit.findings += checks.end_of_turn(rows.examples, rows.encoded, self.tokenizer)
            self.audit.findings += checks.served_prompt(rows.examples, self.tokenizer)
        return rows, fine


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


def _max_length(spec: RunSpec, base: Base) -> int:
    context, wanted = base.context, spec.training.max_length
    if wanted == "auto":
        return min(context or LONGEST_AUTO, LONGEST_AUTO)
    if context and wanted > context:
        raise ContentError(
            f"training.max_length is {wanted}, but base '{spec.base}' takes at most {context} tokens",
            mend=f"set training.max_length to {context} or less, or to auto",
        )
    return wanted


def _resolve(
    spec: RunSpec, max_length: int, train: Rows, repeats: list[int], test: Rows, metrics: Sequence[Metric]
) -> RunSpec:
    """Replace every "auto" but the precision, which depends on the machine and is chosen where the model is loaded."""
    training = spec.training
    update: dict[str, Any] = {"max_length": max_length}
    if training.batch_size is None and training.batch_tokens is None:
        update["batch_size"] = DEFAULT_BATCH_SIZE
    if training.learning_rate == "auto":
        update["learning_rate"] = 2e-5 if spec.adapter.trains_base else 2e-4
    training = training.model_copy(update=update)
    if train.encoded:
        steps = Steps([len(e.input_ids) for e in train.encoded], repeats, training, spec.seed)
        cadence = steps.resolve_cadence(training)
        training = training.model_copy(
            update={"evaluate_every": cadence.evaluate_every, "checkpoint_every": cadence.checkpoint_every}
        )
    longest = max((e.labelled for e in test.encoded), default=0)
    evaluation = spec.evaluation.model_copy(
        update={
            "metrics": tuple(m.name for m in metrics),
            "max_tokens": round(1.25 * longest) + 8
            if spec.evaluation.max_tokens == "auto"
            else spec.evaluation.max_tokens,
        }
    )
    return spec.model_copy(update={"training": training, "evaluation": evaluation})


def _fingerprint(audit: Audit, data: DataSpec) -> str:
    """Hash of every file's content and role, and of how rows are chosen from them; paths do not count."""
    chosen = data.model_dump(mode="json", exclude={"benchmarks", "waive"})
    for name in (
        "near_threshold",
        "near_duplicates",
        "on_near_overlap",
        "names",
    ):  # defaults change no row of older runs
        if chosen[name] == DataSpec.model_fields[name].default:
            del chosen[name]
    for source in [*chosen["train"], chosen["validation"], chosen["test"]]:
        if isinstance(source, dict):
            source.pop("path")
    return fingerprints.of_object({"files": [[f.role, f.sha256] for f in audit.files], "chosen": chosen})
