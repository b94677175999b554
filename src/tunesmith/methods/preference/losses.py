"""Losses on preferences: one pure function each, log-probabilities in, one loss for each pair or answer out.

Written below: log p an answer's log-probability, the sum over its tokens; r = log p - log p_reference its log ratio;
|y| its number of tokens; w the chosen answer, l the rejected one; s the logistic function. All in nats. With
`length_normalised` r is divided by |y| (Lambert et al. 2024, arXiv 2411.15124, section 5: DPO; TRL's `sigmoid_norm`).

`loss` and `judged_loss` choose by the spec's type; `loss` adds what `sft_weight` asks for.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from .config import (
    ApoDownSpec,
    ApoZeroSpec,
    CpoSpec,
    DpoSpec,
    HingeSpec,
    IpoSpec,
    KtoSpec,
    OrpoSpec,
    PairLoss,
    RatioLoss,
    RobustSpec,
    SimpoSpec,
)


@dataclass(frozen=True)
class Pairs:
    """N pairs of answers, each pair to one prompt. Every tensor is [N]; log-probabilities in nats."""

    chosen_N: Tensor
    """Log-probability of the chosen answer, summed over its tokens."""
    rejected_N: Tensor
    chosen_tokens_N: Tensor
    """Number of tokens summed over, at least 1."""
    rejected_tokens_N: Tensor
    reference_chosen_N: Tensor | None = None
    """The same log-probability under the reference; None for losses without one."""
    reference_rejected_N: Tensor | None = None

    def ratios(self, *, per_token: bool = False) -> tuple[Tensor, Tensor]:
        """Log ratio of the chosen and of the rejected answers to the reference, [N] each; or the same per token.

        Raises ValueError where there is no reference.
        """
        if self.reference_chosen_N is None or self.reference_rejected_N is None:
            raise ValueError("this loss compares with a reference: give the reference's log-probabilities")
        chosen_N, rejected_N = self.chosen_N - self.reference_chosen_N, self.rejected_N - self.reference_rejected_N
        if per_token:
            return chosen_N / self.chosen_tokens_N, rejected_N / self.rejected_tokens_N
        return chosen_N, rejected_N

    def means(self) -> tuple[Tensor, Tensor]:
        """Log-probability per token of the chosen and of the rejected answers, [N] each."""
        return self.chosen_N / self.chosen_tokens_N, self.rejected_N / self.rejected_tokens_N


@dataclass(frozen=True)
class Judged:
    """N single answers judged good or bad. Tensors are [N], log-probabilities summed over the tokens, in nats."""

    logp_N: Tensor
    reference_N: Tensor
    good_N: Tensor
    """Whether the answer is a good one, bool."""
    baseline: Tensor
    """How far the model has gone from the reference, a scalar: an estimate of KL(model || reference), the mean log
    ratio of answers that do not belong to their prompts. Below 0 it counts as 0; no gradient goes through it."""


def nll(pairs: Pairs) -> Tensor:
    """Cross entropy of the chosen answer, the mean over its tokens, [N].

    Pang et al. 2024 (arXiv 2404.19733, equation 1) divide by the answer's length too; TRL's `sft` takes the mean over
    all tokens of a batch, so that there a long answer counts for more.
    """
    return -pairs.chosen_N / pairs.chosen_tokens_N


def dpo(pairs: Pairs, spec: DpoSpec) -> Tensor:
    """-(1 - e) log s(h) - e log s(-h), h = beta (r_w - r_l), e the label smoothing, [N].

    e = 0: Rafailov et al. 2023, arXiv 2305.18290, equation 7. e > 0: conservative DPO, Mitchell 2023, "A note on DPO
    with noisy preferences & relationship to IPO". TRL 1.16 smooths in its CPO trainer alone.
    """
    return _smoothed(_scaled_margin(pairs, spec), spec.label_smoothing)


def robust(pairs: Pairs, spec: RobustSpec) -> Tensor:
    """(-(1 - e) log s(h) + e log s(-h)) / (1 - 2 e), h as in `dpo`, [N].

    Chowdhury et al. 2024, arXiv 2403.00409, section 3.1. Its mean over labels flipped with probability e is the DPO
    loss of the true labels. For large h it falls without end, by e / (1 - 2 e) for each unit.
    """
    h_N, e = _scaled_margin(pairs, spec), spec.label_smoothing
    return ((e - 1) * F.logsigmoid(h_N) + e * F.logsigmoid(-h_N)) / (1 - 2 * e)


def ipo(pairs: Pairs, spec: IpoSpec) -> Tensor:
    """(r_w - r_l - 1 / (2 beta))^2, [N].

    Azar et al. 2023, arXiv 2310.12036, equation 17, beta for its tau. The equation has sums over tokens; its authors
    divide each log ratio by |y| in practice, TRL does so always, and we do unless `length_normalised` is false.
    """
    chosen_N, rejected_N = pairs.ratios(per_token=spec.length_normalised)
    return (chosen_N - rejected_N - 1 / (2 * spec.beta)) ** 2


def hinge(pairs: Pairs, spec: HingeSpec) -> Tensor:
    """max(0, 1 - beta (r_w - r_l)), [N].

    Zhao et al. 2023, arXiv 2305.10425, section 2, where the margin is of log p (no reference) and not scaled; the log
    ratio in its place is Liu et al. 2023, arXiv 2309.06657 (hinge-norm), and TRL's. SLiC's regulariser is `sft_weight`
    with the chosen answer as the target.
    """
    return F.relu(1 - _scaled_margin(pairs, spec))


def kto(judged: Judged, spec: KtoSpec) -> Tensor:
    """good: lambda_D (1 - s(beta (r - z))); bad: lambda_U (1 - s(beta (z - r))), z = max(0, baseline), [N].

    Ethayarajh et al. 2024, arXiv 2402.01306, section 4, the loss lambda - v. TRL does the same.
    """
    r_N = judged.logp_N - judged.reference_N
    away_N = spec.beta * (r_N - judged.baseline.detach().clamp(min=0))
    # 1 - s(x) = s(-x), without the cancellation
    return torch.where(
        judged.good_N, spec.desirable_weight * torch.sigmoid(-away_N), spec.undesirable_weight * torch.sigmoid(away_N)
    )


def orpo(pairs: Pairs, spec: OrpoSpec) -> Tensor:
    """-beta log s(log odds_w - log odds_l), odds = P / (1 - P), log P = log p / |y|, [N].

    Hong et al. 2024, arXiv 2403.07691, equations 3, 4 and 7, beta for its lambda; the cross entropy of equation 6 is
    `sft_weight` = 1. TRL computes this in float32 and takes the cross entropy over prompt and answer; we take the
    answer's. Where P rounds to 1 it is held one rounding step below, so that the odds stay finite.
    """
    chosen_N, rejected_N = pairs.means()
    return -spec.beta * F.logsigmoid(_log_odds(chosen_N) - _log_odds(rejected_N))


def simpo(pairs: Pairs, spec: SimpoSpec) -> Tensor:
    """-log s(beta (log p_w / |w| - log p_l / |l|) - gamma), [N].

    Meng et al. 2024, arXiv 2405.14734, equation 6. TRL's CPO trainer has the same.
    """
    chosen_N, rejected_N = pairs.means()
    return -F.logsigmoid(spec.beta * (chosen_N - rejected_N) - spec.gamma)


def cpo(pairs: Pairs, spec: CpoSpec) -> Tensor:
    """-log s(beta (log p_w - log p_l)), [N].

    Xu et al. 2024, arXiv 2401.08417, equation 3 (its cross entropy is `sft_weight` = 1: summed over the answer's
    tokens in the paper, the mean over a batch's tokens in TRL, the mean over the answer's with us).
    """
    return -F.logsigmoid(spec.beta * (pairs.chosen_N - pairs.rejected_N))


def apo_zero(pairs: Pairs, spec: ApoZeroSpec) -> Tensor:
    """1 - s(beta r_w) + s(beta r_l), [N].

    D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 7, plus the constant 1, as in TRL: never below 0.
    """
    chosen_N, rejected_N = pairs.ratios()
    return torch.sigmoid(-spec.beta * chosen_N) + torch.sigmoid(spec.beta * rejected_N)


def apo_down(pairs: Pairs, spec: ApoDownSpec) -> Tensor:
    """s(beta r_w) + 1 - s(beta (r_w - r_l)), [N].

    D'Oosterlinck et al. 2024, arXiv 2408.06266, equation 8, plus the constant 1, as in TRL: never below 0.
    """
    chosen_N, rejected_N = pairs.ratios()
    return torch.sigmoid(spec.beta * chosen_N) + torch.sigmoid(spec.beta * (rejected_N - chosen_N))


PAIR_LOSSES: dict[str, Callable[[Pairs, Any], Tensor]] = {
    "dpo": dpo,
    "robust": robust,
    "ipo": ipo,
    "hinge": hinge,
    "orpo": orpo,
    "simpo": simpo,
    "cpo": cpo,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
}
"""By the spec's type; the only loss on judged answers is `kto`."""


def loss(pairs: Pairs, spec: PairLoss) -> Tensor:
    """The loss that the spec asks for, its share of cross entropy included, [N]."""
    loss_N = PAIR_LOSSES[spec.type](pairs, spec)
    return loss_N + spec.sft_weight * nll(pairs) if spec.sft_weight else loss_N


def rewards(pairs: Pairs, spec: PairLoss | KtoSpec) -> tuple[Tensor, Tensor]:
    """Implicit rewards of the chosen and of the rejected answers, [N] each: what the loss wants to be larger for the
    chosen one, times beta. The share of pairs where it is so is the accuracy, the mean difference the margin.

    The log ratio (per token with `length_normalised`); without a reference the log-probability, per token for SimPO
    and ORPO. TRL differs for IPO and its `sigmoid_norm`, whose rewards it takes from sums.
    """
    if isinstance(spec, (OrpoSpec, SimpoSpec)):
        chosen_N, rejected_N = pairs.means()
    elif isinstance(spec, CpoSpec):
        chosen_N, rejected_N = pairs.chosen_N, pairs.rejected_N
    else:
        chosen_N, rejected_N = pairs.ratios(per_token=isinstance(spec, RatioLoss) and spec.length_normalised)
    return spec.beta * chosen_N.detach(), spec.beta * rejected_N.detach()


def _scaled_margin(pairs: Pairs, spec: RatioLoss) -> Tensor:
    """beta (r_w - r_l), [N]."""
    chosen_N, rejected_N = pairs.ratios(per_token=spec.length_normalised)
    return spec.beta * (chosen_N - rejected_N)


def _smoothed(h_N: Tensor, share: float) -> Tensor:
    """-log s(h), of which `share` is for the other answer, [N]."""
    return (share - 1) * F.logsigmoid(h_N) - share * F.logsigmoid(-h_N)


def _log_odds(log_p_N: Tensor) -> Tensor:
    """log(P / (1 - P)) of probabilities P given as logarithms, [N]."""
    log_p_N = log_p_N.clamp(max=-torch.finfo(log_p_N.dtype).eps)
    return log_p_N - torch.log(-torch.expm1(log_p_N))
