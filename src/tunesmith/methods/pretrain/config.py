"""Configuration of pre-training."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import model_validator

from ...core.messages import Kind
from ...core.spec import Spec
from ...models.heads import Head

if TYPE_CHECKING:
    from .method import Pretrain


class PretrainSpec(Spec):
    """Pre-training: cross entropy on every token of raw text, from a trained base or from a fresh one."""

    type: Literal["pretrain"] = "pretrain"
    pack: Literal["documents", "stream"] = "documents"
    """How documents fill rows of `training.max_length` tokens: side by side, none seeing another and none cut that a
    row holds (Ding et al. 2024, arXiv 2404.10830); or as one stream that is cut wherever a row is full."""
    document_start: str | None = "auto"
    """The special token before each document; auto: the tokenizer's start token; null for none."""
    document_end: str | None = "auto"
    """The special token behind each document; auto: the tokenizer's end of text; null for none."""

    kinds: ClassVar[tuple[Kind, ...]] = ("text",)
    """Of rows that it learns from."""
    figures: ClassVar[tuple[str, ...]] = ()
    """What is counted beside the loss in training and validation."""
    measures: ClassVar[tuple[str, ...]] = ()
    """What base and tuned model are compared by besides loss and perplexity."""
    head: ClassVar[Head | None] = None
    """What the model gets in place of its vocabulary's head; None leaves it."""

    @model_validator(mode="before")
    @classmethod
    def _no_rehearsal(cls, value: Any) -> Any:
        if isinstance(value, dict) and value.get("rehearsal"):
            raise ValueError(
                "pre-training has no rehearsal: the base's own samples are worse text than real text; against "
                "forgetting mix general text in with data.train and a weight"
            )
        return value

    def wording(self) -> str:
        """The method in a report's words."""
        return "pre-training on packed documents" if self.pack == "documents" else "pre-training on a stream of text"

    def build(self) -> Pretrain:
        """The implementation."""
        from .method import Pretrain

        return Pretrain(self)
