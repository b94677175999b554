"""Metrics that a recipe may configure. Each loads its library in `build()`, when rows are scored and not before.

A name alone takes the defaults: `bleu` is short for `{type: bleu}`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, model_validator

from ...core.spec import Spec
from .base import Metric

Count = Annotated[int, Field(ge=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:@+-]{0,63}$")]


class BleuSpec(Spec):
    """BLEU over all rows, by sacrebleu, divided by 100."""

    type: Literal["bleu"]
    tokenize: Literal["13a", "intl", "char", "zh", "none"] = "13a"
    """sacrebleu's tokenizer: 13a for languages with spaces, intl for punctuation of any script, zh, char."""
    lowercase: bool = False
    """Whether case does not count."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.type

    def build(self) -> Metric:
        """The metric."""
        from .bleu import Bleu

        return Bleu(self.tokenize, self.lowercase)


class ChrfSpec(Spec):
    """chrF over all rows, by sacrebleu, divided by 100; chrF++ with `word_order: 2`."""

    type: Literal["chrf"]
    char_order: Annotated[int, Field(ge=1)] = 6
    """Longest run of characters that is compared."""
    word_order: Count = 0
    """Longest run of words that is compared beside them."""
    beta: Annotated[int, Field(ge=1)] = 2
    """How many times recall counts as much as precision."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.type + "+" * self.word_order

    def build(self) -> Metric:
        """The metric."""
        from .chrf import Chrf

        return Chrf(self.named(), self.char_order, self.word_order, self.beta)


class RougeSpec(Spec):
    """ROUGE by rouge-score: F-measure of words, of word pairs, or of the longest common subsequence."""

    type: Literal["rouge_1", "rouge_2", "rouge_l"]
    stem: bool = False
    """Whether English endings do not count (Porter's stemmer)."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.type

    def build(self) -> Metric:
        """The metric."""
        from .rouge import Rouge

        return Rouge(self.type, stem=self.stem)


LabelFigure = Literal[
    "accuracy", "macro_f1", "macro_precision", "macro_recall", "micro_f1", "micro_precision", "micro_recall",
    "weighted_f1",
]  # fmt: skip


class LabelsSpec(Spec):
    """Accuracy, precision, recall and F1 of answers that are labels, over all rows, as scikit-learn defines them."""

    type: LabelFigure
    labels: Annotated[tuple[str, ...], Field(min_length=1)] | Literal["auto"] = "auto"
    """The labels; auto: those of the test rows. An answer that is none of them is wrong, and no label of its own."""
    ignore_case: bool = False
    """Whether case does not count."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.type

    def build(self) -> Metric:
        """The metric."""
        from .label_f1 import Accuracy, LabelF1

        if self.type == "accuracy":
            return Accuracy(ignore_case=self.ignore_case)
        return LabelF1(self.type, self.labels, ignore_case=self.ignore_case)


class JsonSchemaSpec(Spec):
    """The share of answers that are JSON and obey a JSON Schema, by jsonschema."""

    type: Literal["json_schema"]
    file: str
    """The schema's file; its `$schema` says which draft it is of, 2020-12 where it says none."""
    name: Name = "json_schema"
    """The name in reports and in the gate."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.name

    def build(self) -> Metric:
        """The metric. MissingError and ContentError where the file is absent or holds no schema."""
        from .json_schema import JsonSchema

        return JsonSchema(self.name, Path(self.file))


class FormatSpec(Spec):
    """The share of answers that a regular expression matches as a whole."""

    type: Literal["format"]
    pattern: str
    """Python's syntax; it must match the whole answer, white space around it aside. `.` matches line ends too."""
    name: Name = "format"
    """The name in reports and in the gate."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.name

    def build(self) -> Metric:
        """The metric. ContentError where the pattern is none."""
        from .compliance import Format

        return Format(self.name, self.pattern)


class LengthSpec(Spec):
    """The share of answers whose length lies within bounds."""

    type: Literal["length"]
    min_words: Count | None = None
    """Fewest words: what white space parts."""
    max_words: Count | None = None
    """Most words."""
    min_characters: Count | None = None
    """Fewest characters, white space around the answer aside."""
    max_characters: Count | None = None
    """Most characters."""
    name: Name = "length"
    """The name in reports and in the gate."""

    @model_validator(mode="after")
    def _bounds(self) -> LengthSpec:
        for low, high in ((self.min_words, self.max_words), (self.min_characters, self.max_characters)):
            if low is not None and high is not None and low > high:
                raise ValueError(f"no length lies between {low} and {high}")
        if all(v is None for v in (self.min_words, self.max_words, self.min_characters, self.max_characters)):
            raise ValueError("length needs at least one bound: min_words, max_words, min_characters, max_characters")
        return self

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.name

    def build(self) -> Metric:
        """The metric."""
        from .compliance import Length

        words, characters = (self.min_words, self.max_words), (self.min_characters, self.max_characters)
        return Length(self.name, words, characters)


class PassAtKSpec(Spec):
    """The share of rows solved by at least one of k programs (Chen et al. 2021), each run against the row's tests."""

    type: Literal["pass_at_k"]
    k: Annotated[int, Field(ge=1)] = 1
    """How many programs may be tried."""
    samples: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    """Programs drawn for each row; auto: the one greedy answer for k = 1, else twice k."""
    temperature: Annotated[float, Field(gt=0)] = 0.8
    """Of the drawn programs; the greedy answer has none."""
    tests: str = "test"
    """The key of a row that holds its tests: Python code, or a list of statements. What raises has failed."""
    seconds: Annotated[float, Field(gt=0)] = 5.0
    """Time that one program may take, tests included."""
    memory_mb: Annotated[int, Field(ge=64)] = 512
    """Memory that one program may take."""

    @model_validator(mode="after")
    def _enough(self) -> PassAtKSpec:
        if self.drawn() < self.k:
            raise ValueError(f"pass@{self.k} needs at least {self.k} samples of each row")
        return self

    def drawn(self) -> int:
        """Programs for each row."""
        if self.samples == "auto":
            return 1 if self.k == 1 else 2 * self.k
        return self.samples

    def named(self) -> str:
        """The name in reports and in the gate."""
        return f"pass@{self.k}"

    def build(self) -> Metric:
        """The metric. NotAllowedError where the system cannot confine programs."""
        from .pass_at_k import PassAtK

        return PassAtK(self)


class PythonSpec(Spec):
    """A metric of your own: a Python function in a file."""

    type: Literal["python"]
    file: str
    """The file. It is run confined: it reads installed packages and its own folder, and writes only temporary files."""
    function: Annotated[str, Field(pattern=r"^[A-Za-z_]\w*$")] = "score"
    """The function: `score(prediction, reference, row)` gives a number. `row` holds the row's other keys, `messages`
    and `tools`."""
    name: Name | None = None
    """The name in reports and in the gate; the function's where there is none."""
    lower_is_better: bool = False
    """Whether less is better."""
    unit: Literal["share", "ratio"] = "share"
    """share: from 0 to 1, shown in per cent; ratio: any other number."""
    uses_reference: bool = True
    """Whether the function looks at the reference."""
    seconds: Annotated[float, Field(gt=0)] = 60.0
    """Time for all rows of one model."""
    memory_mb: Annotated[int, Field(ge=64)] = 4096
    """Memory that it may take."""

    def named(self) -> str:
        """The name in reports and in the gate."""
        return self.name or self.function

    def build(self) -> Metric:
        """The metric. NotAllowedError where the system cannot confine it."""
        from .own import Own

        return Own(self)


Configured = (
    BleuSpec | ChrfSpec | RougeSpec | LabelsSpec | JsonSchemaSpec | FormatSpec | LengthSpec | PassAtKSpec | PythonSpec
)
MetricSpec = Annotated[Configured, Field(discriminator="type")]


def in_folder(entry: str | Configured, resolve: Callable[[str], str]) -> str | Configured:
    """An entry of a recipe with its file as `resolve` has it; others as they are."""
    if isinstance(entry, JsonSchemaSpec | PythonSpec):
        return entry.model_copy(update={"file": resolve(entry.file)})
    return entry
