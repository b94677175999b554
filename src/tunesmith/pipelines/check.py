"""The audit by itself: of loose files, or of a recipe."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from ..core.errors import UsageError
from ..core.events import Sink, silent
from ..core.messages import Example, Row
from ..data.audit import Audit
from ..data.config import DataSpec, SourceSpec
from ..data.formats import named
from ..data.hub import local
from ..data.load import Loaded, OtherKindError, Reader, load
from ..data.sample import Sampler
from ..data.shown import chosen, codes_of, pieces
from ..data.source import rows as source_rows
from ..data.template import PLAIN_TEMPLATE, TemplateError
from ..models.find import find
from ..models.refs import DEFAULT, Base
from ..models.tokenizer import tokenizer as load_tokenizer
from .check_kinds import Part, all_rows, audit_kind, parts
from .forecast import of_audit
from .prepare import Prepared, blocked, length_limit, prepare
from .read_recipe import placed, read_recipe
from .recipe import RunSpec


@dataclass(frozen=True)
class Request:
    """What the command line says of loose files."""

    files: Sequence[Path]
    base: str | None = None
    test: Path | None = None
    format: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    assistant: str | None = None
    quick: bool = False
    """Look at a sample of the rows."""
    validation: Path | None = None
    benchmarks: Sequence[Path] = ()

    def spec(self) -> RunSpec:
        """The files as training rows of one recipe with default settings."""
        if not self.files:
            raise UsageError("name at least one file")
        if self.format:
            named(self.format)
        train = tuple(self._source(file) for file in self.files)
        test = self._source(self.test) if self.test else None
        validation = self._source(self.validation) if self.validation else 0.0
        benchmarks = tuple(map(str, self.benchmarks))
        data = DataSpec(train=train, validation=validation, test=test, benchmarks=benchmarks)
        return RunSpec(data=data, base=self.base or DEFAULT)

    def _source(self, file: Path) -> SourceSpec:
        return SourceSpec(
            path=str(file), format=self.format, columns=dict(self.columns), assistant=self.assistant
        )  # fmt: skip


@dataclass(frozen=True)
class Checked:
    """What was found, and the rows that can be shown."""

    spec: RunSpec
    base: Base
    tokenizer: Any
    audit: Audit
    rows: Sequence[Row]
    """Those that can be shown."""
    parts: Callable[[Any], list[Part]]
    """A row's sequences of tokens. TemplateError where the base's template cannot show it."""

    trainable: bool = True
    """Whether there is a method that learns from rows of this kind."""
    sampled: Sampler | None = None
    """How the files were sampled, where they were."""

    def as_json(self) -> dict[str, Any]:
        """The audit, what a training on these rows will ask for, and how they were sampled where they were."""
        facts = self.audit.as_json() | {"forecast": self._forecast()}
        if self.sampled:
            facts["quick"] = {path: asdict(how) for path, how in self.sampled.files.items()}
        return facts

    def _forecast(self) -> dict[str, Any] | None:
        made = of_audit(self.spec, self.base, self.audit, self._times_larger()) if self.trainable else None
        return made.as_json() if made else None

    def _times_larger(self) -> float:
        """How many times the rows of the sample the training files have."""
        files = {source.path for source in self.spec.data.train}
        known = [how for path, how in (self.sampled.files if self.sampled else {}).items() if path in files and how.of]
        return sum(how.of or 0 for how in known) / max(1, sum(how.rows for how in known)) if known else 1.0

    def shown(self, most: int) -> list[dict[str, Any]]:
        """Up to `most` rows token by token, those with findings first (`data.shown`)."""
        origins = [row.origin for row in self.rows]
        return [part for index in chosen(self.audit, origins, most) for part in self._shown(self.rows[index])]

    def _shown(self, row: Row) -> Iterator[dict[str, Any]]:
        origin = row.origin
        told = {"row": origin, "findings": codes_of(self.audit, origin)}
        try:
            made = self.parts(row)
        except TemplateError as error:
            yield told | {"part": "", "length": 0, "tokens": [], "error": str(error)}
            return
        for part in made:
            tokens = [asdict(piece) for piece in pieces(self.tokenizer, part.encoded)]
            yield told | {"part": part.name, "length": len(part.encoded.input_ids), "tokens": tokens, "error": ""}

    def require_clean(self) -> None:
        """ContentError with every blocking finding."""
        if self.audit.blocking:
            raise blocked(self.audit.blocking)


def check_recipe(path: Path, sink: Sink = silent) -> Checked:
    """Everything a recipe names, as a run would see it. The sink hears how far it is."""
    with placed(path):
        return _checked(prepare(read_recipe(path), path.parent, keep_tokens=False, sink=sink))


def check_files(request: Request, sink: Sink = silent) -> Checked:
    """Loose files of any kind of rows. The sink hears how far it is."""
    spec, sampler = request.spec(), Sampler() if request.quick else None
    reader = sampler or source_rows
    try:
        checked = _checked(prepare(spec, keep_tokens=False, reader=reader, sink=sink))
    except OtherKindError as refusal:
        checked = _other_kind(spec, refusal, reader, sink)
    return replace(checked, sampled=sampler)


def _checked(prepared: Prepared) -> Checked:
    limit = length_limit(prepared.spec, prepared.base)

    def cut(row: Example) -> list[Part]:
        return [Part(part.name, part.encoded.cut(limit)) for part in parts(row, prepared.tokenizer)]

    return Checked(
        prepared.spec, prepared.base, prepared.tokenizer, prepared.audit.described(), prepared.train.examples, cut
    )  # fmt: skip


def _other_kind(spec: RunSpec, refusal: OtherKindError, reader: Reader, sink: Sink) -> Checked:
    """Files of another kind than supervised; `refusal` where only a test file is."""
    base = find(spec.base)
    tokenizer = load_tokenizer(base, PLAIN_TEMPLATE)
    train = [_loaded(source, reader, sink) for source in spec.data.train]
    if all(file.kind == "supervised" for file in train):
        raise refusal
    validation, test = (
        _loaded(source, reader, sink) if isinstance(source, SourceSpec) else None
        for source in (spec.data.validation, spec.data.test)
    )
    audit = audit_kind(spec, train, test, tokenizer, length_limit(spec, base), validation=validation)
    audit.described()
    return Checked(spec, base, tokenizer, audit, all_rows(train), lambda row: parts(row, tokenizer), trainable=False)


def _loaded(source: SourceSpec, reader: Reader, sink: Sink) -> Loaded:
    return load(
        local(source.path), format=source.format, limit=source.limit, columns=source.columns,
        assistant=source.assistant, reader=reader, sink=sink,
    )  # fmt: skip
