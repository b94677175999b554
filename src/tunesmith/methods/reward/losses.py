"""The loss of a reward model: a pure function, scores in, one loss for each pair out."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F


def bradley_terry(
    chosen_N: Tensor, rejected_N: Tensor, margin_N: Tensor | None = None, centring: float = 0.0
) -> Tensor:
    """-log s(c - d - m) + centring (c + d)^2, c and d the scores of the chosen and the rejected answer, [N], in nats.

    Bradley & Terry 1952 as Ouyang et al. 2022 (arXiv 2203.02155, equation 1) train it, one pair a prompt; the margin m
    by which the chosen answer is better: Touvron et al. 2023, arXiv 2307.09288, equation 2. A loss of differences
    leaves the scores free up to a constant; `centring` (0.01 in the paper) draws their mean to 0: Eisenstein et al.
    2023, arXiv 2312.09244, equation 2. TRL's RewardTrainer has the same.
    """
    margin = 0.0 if margin_N is None else margin_N
    return -F.logsigmoid(chosen_N - rejected_N - margin) + centring * (chosen_N + rejected_N) ** 2
