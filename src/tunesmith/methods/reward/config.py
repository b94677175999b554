"""Configuration of reward models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ...core.messages import Kind
from ...core.spec import Spec
from ...models.heads import REWARD, Head

if TYPE_CHECKING:
    from .method import Reward

Key = Annotated[str, Field(min_length=1)]


class RewardSpec(Spec):
    """A reward model: one number for an answer, higher for the better of two (Bradley & Terry 1952; Ouyang et al. 2022,
    arXiv 2203.02155, equation 1)."""

    type: Literal["reward"] = "reward"
    margin: Key | tuple[Key, Key] | None = None
    """By how much the chosen answer is to win (Touvron et al. 2023, arXiv 2307.09288, equation 2): a key of the rows
    that holds it, or two keys of scores, the chosen answer's and the rejected one's, whose difference it is."""
    centring: float = Field(default=0.01, ge=0)
    """Weight of the term that keeps rewards near 0 (Eisenstein et al. 2023, arXiv 2312.09244, equation 2)."""

    kinds: ClassVar[tuple[Kind, ...]] = ("preference",)
    """Of rows that it learns from."""
    figures: ClassVar[tuple[str, ...]] = ("accuracy", "margin")
    """What is counted beside the loss in training and validation; early stopping may watch each."""
    measures: ClassVar[tuple[str, ...]] = ("preference_accuracy",)
    """What base and tuned model are compared by besides losses."""
    head: ClassVar[Head | None] = REWARD
    """What the model gets in place of its vocabulary's head."""

    def wording(self) -> str:
        """The method in a report's words."""
        return "a reward model (Bradley-Terry)"

    def build(self) -> Reward:
        """The implementation."""
        from .method import Reward

        return Reward(self)
