"""The `data` part of a recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, GetJsonSchemaHandler, field_validator, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from ..core.errors import MissingError, nearest
from ..core.spec import Spec
from .codes import BLOCKING, UNWAIVABLE

if TYPE_CHECKING:
    from .pii.names import Names

Share = Annotated[float, Field(ge=0.0, lt=1.0)]


class SourceSpec(Spec):
    """One file of examples, or a data set of the hub."""

    path: str
    """The file; environment variables as ${NAME}; a relative path starts at the recipe's folder, and may lead out of
    it (`../shared/rows.jsonl`; told as a remark). Or a data set of the hub: `hf://owner/name/config?split=train`."""
    format: str | None = None
    """A row format's name (`chat`, `sharegpt`, ...; `docs/reference/data-formats.md`); None detects it by content."""
    columns: dict[str, str] = Field(default_factory=dict)
    """The format's keys by the file's names for them: `{prompt: question, completion: answer}`."""
    assistant: str | None = None
    """Who the assistant is in a transcript; None takes the one speaker with a usual name (Agent, Bot, Support...)."""
    weight: float = Field(default=1.0, gt=0)
    """How often a row is seen in one epoch: 1 once, 0.2 a seeded fifth of the rows, 2 twice."""
    limit: int | None = Field(default=None, ge=1)
    """Use the first `limit` rows only."""


class SplitSpec(Spec):
    """How a share of the rows is drawn for validation or test. Rows with the same prompt always stay together, and a
    draw depends on the rows and the seed alone. `data-audit.json` has the exact shares that came of it."""

    stratify: str | None = None
    """Hold out the same share of each label: `label` for the answers, where these are labels, or a key of the rows.
    Rows without one count as one label more. A label's share is exact to a row, unless rows must stay together."""
    group: str | None = None
    """A key of the rows, such as a customer's or a ticket's: all rows with the same value go to one side. `subject`
    stands for the key that data.subject names, if it names one. Rows without a value stand alone. Together with
    stratify, the labels' shares are no longer exact; with by_time, a group goes where its newest row goes."""
    by_time: str | None = None
    """A key of the rows that holds an ISO date or a number: the newest rows are held out, so no row is trained on that
    is newer than they are. Rows with the same prompt, or of one group, go where the newest of them goes; of equal
    times, rows that stand later in the files are newer. Test rows are newer than validation rows. Not with stratify."""

    @model_validator(mode="after")
    def _possible(self) -> SplitSpec:
        if not (self.stratify or self.group or self.by_time):
            raise ValueError("name at least one of stratify, group and by_time, or leave split out")
        if self.stratify and self.by_time:
            raise ValueError(
                "stratify and by_time cannot be had together: the newest rows have the labels that they have; "
                "leave one of them out"
            )
        return self


class CapSpec(Spec):
    """How many rows of one label are trained on. `cap_per_label: 50` is short for `cap_per_label: {rows: 50}`."""

    rows: int = Field(ge=1)
    """At most so many of each label, chosen by the seed. Held-out rows do not count, rows without a label all stay."""
    by: str = "label"
    """What the label is: `label` for the answer, where answers are labels, or a key of the rows."""

    @model_validator(mode="before")
    @classmethod
    def _from_number(cls, value: object) -> object:
        """A bare number stands for a cap on the rows of each answer."""
        if isinstance(value, int) and not isinstance(value, bool):
            return {"rows": value}
        if not isinstance(value, dict | CapSpec):
            raise ValueError("give a number of rows, or {rows: N, by: KEY}")
        return value

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        made = handler(schema)
        handler.resolve_ref_schema(made)["type"] = ["object", "integer"]
        return made


class CurriculumSpec(Spec):
    """In which order the rows are learned at first."""

    by: str = "length"
    """What tells how difficult a row is: `length` (its tokens), `base_loss` (the base's mean loss on the answer, scored
    once before the training) or a key of the rows that holds a number or an ISO date."""
    order: Literal["ascending", "descending"] = "ascending"
    """From small to large, or from large to small."""
    epochs: int = Field(default=1, ge=1)
    """Epochs in this order; those behind are shuffled as usual. The order is kept between stages, at least eight an
    epoch where it has as many steps; inside a stage rows are shuffled, and rows of like length share a batch."""


class CanariesSpec(Spec):
    """Rows that are planted to measure memorisation. They are trained on, and the model may learn them."""

    count: int = Field(default=5, ge=1, le=20)
    """How many different ones."""
    repeats: int = Field(default=1, ge=1, le=1000)
    """How often an epoch shows each: what stands in the data so often is remembered so well."""


class NamesSpec(Spec):
    """What finds names and places: Presidio over a spaCy model."""

    model: str
    """The model's package, or its folder. Its language is the one that is read."""

    @model_validator(mode="before")
    @classmethod
    def _model_alone(cls, value: object) -> object:
        """A bare name stands for the model."""
        return {"model": value} if isinstance(value, str) else value

    def build(self) -> Names:
        """Load the model; MissingError where it, or the extra, is not installed."""
        try:
            from .pii.presidio import names
        except ModuleNotFoundError as error:
            raise MissingError(
                "names and places are found by Presidio, which is not installed", where="data.names", why=str(error),
                mend="pip install 'tunesmith[pii]', or leave data.names out",
            ) from error  # fmt: skip
        return names(self.model)


class DataSpec(Spec):
    """What is trained on, validated on and tested on."""

    train: tuple[SourceSpec, ...] = Field(min_length=1)
    """The training files."""
    validation: Share | SourceSpec = 0.1
    """A share of the training rows (rows with the same prompt stay together; see split), or a file; 0 for none."""
    test: Share | SourceSpec | None = None
    """The held-out file on which base and tuned model are compared, or a share of the training rows, drawn before
    validation takes its share of the rest. Never trained on."""
    split: SplitSpec | None = None
    """How validation or test rows are drawn where they are a share; None draws them at random."""
    cap_per_label: CapSpec | None = None
    """At most so many training rows of each label; None for all."""
    curriculum: CurriculumSpec | None = None
    """Easy rows first, or another order, in the first epochs; None shuffles all rows from the beginning."""
    on_overlap: Literal["error", "drop"] = "error"
    """Training rows whose prompt is also in the test or validation file: stop, or leave them out of training."""
    on_long: Literal["error", "drop", "truncate"] = "error"
    """Rows longer than training.max_length: stop, leave them out, or cut their end off."""
    near_threshold: float = Field(default=0.8, ge=0.3, le=1.0)
    """The Jaccard index of two texts' three-word shingles from which they count as nearly the same."""
    near_duplicates: Literal["report", "drop"] = "report"
    """Training rows that repeat another, exactly or nearly: report them, or keep the longest answer of each cluster."""
    on_near_overlap: Literal["warn", "drop", "error"] = "warn"
    """Training rows whose prompt is nearly a held-out or benchmark one: report them, leave them out, or stop."""
    benchmarks: tuple[str, ...] = ()
    """Files whose questions must not be trained on: rows of a known format, or JSON with a question, prompt, text."""
    canaries: CanariesSpec | None = None
    """Plant rows that ask for random digits, and measure after training how well they are remembered (exposure). The
    model may learn them; null for none."""
    waive: dict[str, Annotated[str, Field(min_length=3)]] = Field(default_factory=dict)
    """Blocking findings that shall not stop the run: their code, and the reason that audit and report will show."""

    personal_data: Literal["report", "mask", "drop"] = "report"
    """What becomes of rows with personal data or secrets (addresses, numbers, keys; names with `names`): only a finding
    in the audit, placeholders such as [EMAIL_1] in their place, or the row left out of training. Held-out rows are
    masked under `mask`, so that prompts look alike, and never left out. Prompts are not masked when the model is
    served."""
    names: NamesSpec | None = None
    """Names and places are personal data too: the spaCy model that finds them, as `en_core_web_lg`. Needs the extra
    `pii` (pip install 'tunesmith[pii]') and the model (python -m spacy download en_core_web_lg)."""
    subject: str | None = "subject"
    """With personal_data: mask, the key of a row that names whom it is about: one person's address has the same
    placeholder in all their rows. Rows without it, and with null all rows, are taken each for itself."""

    @field_validator("train", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        """A bare path or a single mapping stands for a list of one."""
        if isinstance(value, str):
            return [{"path": value}]
        if isinstance(value, dict):
            return [value]
        if isinstance(value, list):
            return [{"path": item} if isinstance(item, str) else item for item in value]
        return value

    @field_validator("benchmarks", mode="before")
    @classmethod
    def _one_benchmark(cls, value: object) -> object:
        """A bare path stands for a list of one."""
        return [value] if isinstance(value, str) else value

    @field_validator("waive")
    @classmethod
    def _known_codes(cls, value: dict[str, str]) -> dict[str, str]:
        """Only what blocks can be waived."""
        for code in value:
            if code in UNWAIVABLE:
                raise ValueError(f"'{code}' cannot be waived: {UNWAIVABLE[code]}")
            if code not in BLOCKING:
                raise ValueError(f"no blocking finding is called '{code}'; {nearest(code, BLOCKING)}")
        return value

    @field_validator("validation", "test", mode="before")
    @classmethod
    def _path_alone(cls, value: object) -> object:
        """A bare path stands for a source without options; a number stays a share."""
        if isinstance(value, str):
            try:
                return float(value)
            except ValueError:
                return {"path": value}
        return value

    def test_chooses(self) -> bool:
        """Whether which rows are trained on depends on the test rows."""
        return isinstance(self.test, float) or "drop" in (self.on_overlap, self.on_near_overlap)
