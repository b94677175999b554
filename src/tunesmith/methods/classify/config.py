"""Configuration of classification by a head."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from ...core.messages import Kind
from ...core.spec import Spec
from ...models.heads import Head

if TYPE_CHECKING:
    from .method import Classify

Weight = Annotated[float, Field(gt=0)]


class ClassifySpec(Spec):
    """Classification: the prompt, as it is served, to one of the labels that the training answers are."""

    type: Literal["classify"] = "classify"
    labels: tuple[str, ...] | Literal["auto"] = "auto"
    """The answers there are; auto: those of the training rows, the most frequent first."""
    most_labels: int = Field(default=512, ge=2)
    """Where the training rows have more different answers than this, they are no labels."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that goes to all labels alike (Szegedy et al. 2015, arXiv 1512.00567, section 7)."""
    class_weights: dict[str, Weight] | Literal["equal", "balanced"] = "equal"
    """What a row of each label counts; balanced: inversely to how many there are, 1 on average; by name: 1 for those
    not named."""

    kinds: ClassVar[tuple[Kind, ...]] = ("supervised",)
    """Of rows that it learns from."""
    figures: ClassVar[tuple[str, ...]] = ("accuracy",)
    """What is counted beside the loss in training and validation; early stopping may watch each."""
    measures: ClassVar[tuple[str, ...]] = ("accuracy",)
    """What base and tuned model are compared by besides losses."""

    @model_validator(mode="after")
    def _labels_differ(self) -> Self:
        if self.labels != "auto" and not len(set(self.labels)) == len(self.labels) >= 2:
            raise ValueError("labels must be at least two, each named once")
        if isinstance(self.class_weights, dict) and self.labels != "auto":
            unknown = sorted(set(self.class_weights) - set(self.labels))
            if unknown:
                raise ValueError(f"class_weights names '{unknown[0]}', which is none of the labels")
        return self

    @property
    def head(self) -> Head | None:
        """What the model gets in place of its vocabulary's head, once the labels are known."""
        return None if self.labels == "auto" else Head(self.labels)

    def wording(self) -> str:
        """The method in a report's words."""
        return "classification" if self.labels == "auto" else f"classification, {len(self.labels)} labels"

    def build(self) -> Classify:
        """The implementation."""
        from .method import Classify

        return Classify(self)
