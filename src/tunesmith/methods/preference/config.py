"""Configuration of learning from preferences: one small spec for each loss. The formulas stand in `losses`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from ...core.messages import Kind
from ...core.spec import ByName, Spec
from ...models.heads import Head

if TYPE_CHECKING:
    from .method import Preference

Takes = Literal["pairs", "judged"]


class PairLoss(Spec):
    """What the losses on pairs share."""

    type: str
    """Name of the loss."""
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to leave the reference: small for far, large for near."""
    sft_weight: float = Field(default=0.0, ge=0)
    """Weight of the chosen answer's cross entropy, in nats a token, beside the loss (RPO: Pang et al. 2024,
    arXiv 2404.19733). It keeps the chosen answer likely, which a difference alone does not."""

    needs_reference: ClassVar[bool] = True
    takes: ClassVar[Takes] = "pairs"


class RatioLoss(PairLoss):
    """What the losses on the difference of two log ratios share."""

    length_normalised: bool = False
    """Divide each answer's log ratio by its tokens, so that a longer answer does not win by its length. Then beta is
    per token and larger: 5 for DPO in Lambert et al. 2024, arXiv 2411.15124, section 5."""


class DpoSpec(RatioLoss):
    """Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290)."""

    type: Literal["dpo"] = "dpo"
    label_smoothing: float = Field(default=0.0, ge=0, lt=0.5)
    """Share of pairs taken to be the wrong way round; above 0 this is conservative DPO (Mitchell 2023)."""


class RobustSpec(RatioLoss):
    """Robust DPO, unbiased under flipped labels (Chowdhury et al. 2024, arXiv 2403.00409). Has no lower bound."""

    type: Literal["robust"] = "robust"
    label_smoothing: float = Field(default=0.1, ge=0, lt=0.5)
    """Share of pairs that are the wrong way round."""


class IpoSpec(RatioLoss):
    """Identity preference optimisation (Azar et al. 2023, arXiv 2310.12036): a margin aimed at, not a larger one."""

    type: Literal["ipo"] = "ipo"
    beta: float = Field(default=0.1, gt=0)
    """The paper's tau: the margin aimed at is 1 / (2 beta)."""
    length_normalised: bool = True
    """Compare log ratios per token, as the paper's authors do in practice; false for the sums of its formula."""


class HingeSpec(RatioLoss):
    """Hinge loss (SLiC: Zhao et al. 2023, arXiv 2305.10425; on log ratios: Liu et al. 2023, arXiv 2309.06657)."""

    type: Literal["hinge"] = "hinge"
    beta: float = Field(default=0.1, gt=0)
    """One divided by the margin aimed at."""


class KtoSpec(Spec):
    """Kahneman-Tversky optimisation (Ethayarajh et al. 2024, arXiv 2402.01306): single answers, good or bad."""

    type: Literal["kto"] = "kto"
    beta: float = Field(default=0.1, gt=0)
    """How dear it is to leave the reference: small for far, large for near."""
    desirable_weight: float = Field(default=1.0, ge=0)
    """Weight of good answers. Times their number, 1 to 1.33 times the same product of the bad ones, says the paper."""
    undesirable_weight: float = Field(default=1.0, ge=0)
    """Weight of bad answers."""

    needs_reference: ClassVar[bool] = True
    takes: ClassVar[Takes] = "judged"


class OrpoSpec(PairLoss):
    """Odds ratio preference optimisation (Hong et al. 2024, arXiv 2403.07691). Needs no reference."""

    type: Literal["orpo"] = "orpo"
    beta: float = Field(default=0.1, gt=0)
    """The paper's lambda: weight of the odds ratio's term beside the cross entropy."""
    sft_weight: float = Field(default=1.0, ge=0)
    """Weight of the chosen answer's cross entropy; 1 in the paper."""

    needs_reference: ClassVar[bool] = False


class SimpoSpec(PairLoss):
    """Simple preference optimisation (Meng et al. 2024, arXiv 2405.14734). Needs no reference."""

    type: Literal["simpo"] = "simpo"
    beta: float = Field(default=2.0, gt=0)
    """Scale of the log-probability per token; 2 to 10 in the authors' models."""
    gamma: float = Field(default=1.0, ge=0)
    """By how much the chosen answer's reward shall be the larger; its authors advise a share of beta, 0 to 1."""

    needs_reference: ClassVar[bool] = False


class CpoSpec(PairLoss):
    """Contrastive preference optimisation (Xu et al. 2024, arXiv 2401.08417). Needs no reference."""

    type: Literal["cpo"] = "cpo"
    beta: float = Field(default=0.1, gt=0)
    """Scale of the answers' log-probabilities."""
    sft_weight: float = Field(default=1.0, ge=0)
    """Weight of the chosen answer's cross entropy; 1 in the paper."""

    needs_reference: ClassVar[bool] = False


class ApoZeroSpec(PairLoss):
    """Anchored preference optimisation for chosen answers better than the model's own: makes them likelier and the
    rejected ones less likely (D'Oosterlinck et al. 2024, arXiv 2408.06266)."""

    type: Literal["apo_zero"] = "apo_zero"


class ApoDownSpec(PairLoss):
    """Anchored preference optimisation for chosen answers worse than the model's own: makes both less likely, the
    rejected ones more so (D'Oosterlinck et al. 2024, arXiv 2408.06266)."""

    type: Literal["apo_down"] = "apo_down"


LossSpec = Annotated[
    DpoSpec | RobustSpec | IpoSpec | HingeSpec | KtoSpec | OrpoSpec | SimpoSpec | CpoSpec | ApoZeroSpec | ApoDownSpec,
    Field(discriminator="type"),
    ByName(),
]


class PreferenceSpec(Spec):
    """Learning from preferences: the better answer becomes the likelier one."""

    type: Literal["preference"] = "preference"
    loss: LossSpec = DpoSpec()
    """What is minimised. A bare name stands for the loss with its defaults."""

    figures: ClassVar[tuple[str, ...]] = ("accuracy", "margin")
    """What is counted beside the loss in training and validation; early stopping may watch each."""
    measures: ClassVar[tuple[str, ...]] = ("preference_accuracy",)
    """What base and tuned model are compared by besides answers and losses."""
    head: ClassVar[Head | None] = None
    """What the model gets in place of its vocabulary's head; None leaves it."""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """Of rows that it learns from."""
        return ("preference", "labelled") if self.takes == "judged" else ("preference",)

    @property
    def needs_reference(self) -> bool:
        """Whether the base's own log-probabilities are part of the loss."""
        return self.loss.needs_reference

    @property
    def takes(self) -> Takes:
        """Pairs of a chosen and a rejected answer, or single answers judged good or bad."""
        return self.loss.takes

    def wording(self) -> str:
        """The method in a report's words."""
        return f"learning from preferences ({self.loss.type.upper()})"

    def build(self) -> Preference:
        """The implementation."""
        from .method import Preference

        return Preference(self)
