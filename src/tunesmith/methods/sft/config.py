"""Configuration of supervised fine-tuning."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from ...core.messages import Kind
from ...core.spec import Spec
from ...models.heads import Head

if TYPE_CHECKING:
    from .method import Sft


class RehearsalSpec(Spec):
    """Keep what the base can do: on text that the base itself wrote, stay close to what the base would say.

    Before training the base samples `rows` short texts. Every `every` optimizer steps, `batch` of them add
    `weight` x KL(base || tuned) to the loss. Needs no data of its own; needs an adapter (the base beneath is the
    teacher). Distillation from the old model: Li & Hoiem 2016, arXiv 1606.09282; on its own samples: Huang et al.
    2024, arXiv 2403.01244.
    """

    rows: int = Field(default=256, ge=1)
    """Texts sampled from the base."""
    length: int = Field(default=96, ge=8)
    """Tokens of each text."""
    batch: int = Field(default=2, ge=1)
    """Texts compared at a time."""
    every: int = Field(default=4, ge=1)
    """Optimizer steps from one comparison to the next."""
    weight: float = Field(default=1.0, gt=0)
    """Weight of the divergence, in nats a token, beside the loss."""


class SftSpec(Spec):
    """Supervised fine-tuning: cross entropy on the assistant's turns, end-of-turn included."""

    type: Literal["sft"] = "sft"
    neftune_alpha: float | None = Field(default=None, gt=0)
    """Noise on the embeddings in training (Jain et al. 2023, arXiv 2310.05914), 5 to 15 in the paper; null for none."""
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    """Share of the target that goes to all tokens alike (Szegedy et al. 2015, arXiv 1512.00567, section 7). Models are
    compared without it."""
    learn: Literal["all", "last"] = "all"
    """Which of a conversation's assistant turns carry loss: all whose own weight is not 0, or the last of these."""
    rehearsal: RehearsalSpec | None = None
    """Guard against forgetting; null for none."""
    packing: bool = False
    """Put several conversations side by side into each row of `training.max_length` tokens, none seeing another: the
    same losses without padding. `training.batch_size` then counts such full rows."""

    token_accuracy: bool = False
    """Count beside the loss how many of the labelled tokens the model finds likeliest, as a share of their weight."""

    kinds: ClassVar[tuple[Kind, ...]] = ("supervised",)
    """Of rows that it learns from."""
    measures: ClassVar[tuple[str, ...]] = ()
    """What base and tuned model are compared by besides answers and losses."""
    head: ClassVar[Head | None] = None
    """What the model gets in place of its vocabulary's head; None leaves it."""

    @model_validator(mode="after")
    def _noise_by_row(self) -> SftSpec:
        if self.packing and self.neftune_alpha:
            raise ValueError("neftune_alpha does not go with packing: its noise is scaled to the length of one row")
        return self

    @property
    def figures(self) -> tuple[str, ...]:
        """What is counted beside the loss in training and validation; early stopping may watch each."""
        return ("token_accuracy",) * self.token_accuracy

    def wording(self) -> str:
        """The method in a report's words."""
        more = [" with rehearsal"] * bool(self.rehearsal) + [" on packed conversations"] * self.packing
        return f"supervised fine-tuning{''.join(more)}"

    def build(self) -> Sft:
        """The implementation."""
        from .method import Sft

        return Sft(self)
