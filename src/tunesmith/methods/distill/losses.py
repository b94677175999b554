"""Divergences between a teacher's and a student's next-token distributions: logits in, one value for each token out.

p is the teacher's distribution, q the student's, each softmax(logits / temperature); N tokens, V words; nats. With a
temperature T the gradient falls about as 1 / T^2: who mixes a divergence with a loss on labels multiplies it by T^2
(Hinton et al. 2015, arXiv 1503.02531, section 2). It is not done here, nor in TRL.

A teacher's distribution may be kept as its k most likely words (`TopK`). What is left of p is then one more outcome,
"any other word", and so is what q gives to those. Two reasons not to stretch the k to a sum of 1 instead: it would
teach the student a certainty that the teacher has not, while this divergence never exceeds the exact one (joining
outcomes never raises these divergences: Csiszar 1967) and reaches it for k = V. TRL's server distillation calls it
`loss_add_tail`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TopK:
    """The k most likely words of each of N tokens. The temperature they were made with is part of them: what was kept
    at one cannot be turned into what it would have been at another."""

    ids_NK: Tensor
    """Words, each at most once a token."""
    logp_NK: Tensor
    """Their log-probabilities, not stretched to a sum of 1; -inf for a word without probability."""
    rest_N: Tensor | None = None
    """Logarithm of what all other words have together. None, where a teacher tells no more than its k: what those
    leave of 1, which is little known once they have nearly all, and at least a rounding step."""


def top_k(teacher_NV: Tensor, k: int, temperature: float = 1.0) -> TopK:
    """The k most likely words of logits at a temperature."""
    logp_NV = (teacher_NV / temperature).log_softmax(-1)
    logp_NK, ids_NK = logp_NV.topk(k)
    return TopK(ids_NK, logp_NK, _others(logp_NV, ids_NK))


def forward_kl(student_NV: Tensor, teacher: Tensor | TopK, temperature: float = 1.0) -> Tensor:
    """KL(p || q) = sum p log(p / q): the student covers all that the teacher may say, [N].

    Hinton et al. 2015, arXiv 1503.02531, up to the teacher's entropy, which has no gradient. GKD's beta = 0 in TRL.
    """
    q_NO, p_NO = _outcomes(student_NV, teacher, temperature)
    return _kl(p_NO, q_NO)


def reverse_kl(student_NV: Tensor, teacher: Tensor | TopK, temperature: float = 1.0) -> Tensor:
    """KL(q || p) = sum q log(q / p): the student keeps to what the teacher finds likely, [N].

    Gu et al. 2023, arXiv 2306.08543, for each token. GKD's beta = 1 in TRL.
    """
    q_NO, p_NO = _outcomes(student_NV, teacher, temperature)
    return _kl(q_NO, p_NO)


def jsd(student_NV: Tensor, teacher: Tensor | TopK, beta: float = 0.5, temperature: float = 1.0) -> Tensor:
    """beta KL(p || m) + (1 - beta) KL(q || m), m = beta p + (1 - beta) q, [N]; 0 < beta < 1.

    Agarwal et al. 2024, arXiv 2306.13649, equation 1. As beta nears 0 or 1 the value nears 0, like beta KL(p || q) and
    (1 - beta) KL(q || p): at the ends themselves TRL puts those KL, where we have them under their own names. Raises
    ValueError for a beta outside.
    """
    if not 0 < beta < 1:
        raise ValueError(f"beta is between 0 and 1, not {beta}: forward_kl and reverse_kl are the limits")
    q_NO, p_NO = _outcomes(student_NV, teacher, temperature)
    share = torch.tensor(beta, dtype=q_NO.dtype, device=q_NO.device)
    # A word that neither finds possible: a huge negative number has a gradient in logaddexp, -inf has none.
    p_low_NO, q_low_NO = (x.clamp(min=torch.finfo(x.dtype).min / 2) for x in (p_NO, q_NO))
    m_NO = torch.logaddexp(p_low_NO + share.log(), q_low_NO + (-share).log1p())
    return beta * _kl(p_NO, m_NO) + (1 - beta) * _kl(q_NO, m_NO)


def _kl(p_NO: Tensor, q_NO: Tensor) -> Tensor:
    """sum p log(p / q) of log-probabilities, [N]. An outcome with p = 0 adds nothing; p > 0 = q is infinite."""
    return (p_NO.exp() * (p_NO - q_NO).masked_fill(p_NO == -torch.inf, 0)).sum(-1)


def _outcomes(student_NV: Tensor, teacher: Tensor | TopK, temperature: float) -> tuple[Tensor, Tensor]:
    """Log-probabilities of student and teacher over the same outcomes, [N, V], or [N, K + 1] for K < V words kept."""
    q_NV = (student_NV / temperature).log_softmax(-1)
    if isinstance(teacher, Tensor):
        return q_NV, (teacher / temperature).log_softmax(-1)
    p_NK, q_NK = teacher.logp_NK.to(q_NV.dtype), q_NV.gather(-1, teacher.ids_NK)
    # log_softmax makes up for logarithms kept with few digits, whose sum is not quite what it was.
    if p_NK.shape[-1] == q_NV.shape[-1]:
        return q_NK, p_NK.log_softmax(-1)
    if teacher.rest_N is None:
        p_rest_N = torch.log(-torch.expm1(p_NK.logsumexp(-1).clamp(max=-torch.finfo(p_NK.dtype).eps)))
    else:
        p_rest_N = teacher.rest_N.to(q_NV.dtype)
    q_NO = torch.cat([q_NK, _others(q_NV, teacher.ids_NK).unsqueeze(-1)], -1)
    return q_NO, torch.cat([p_NK, p_rest_N.unsqueeze(-1)], -1).log_softmax(-1)


def _others(logp_NV: Tensor, ids_NK: Tensor) -> Tensor:
    """Logarithm of what all words but these have together, [N]."""
    return logp_NV.scatter(-1, ids_NK, -torch.inf).logsumexp(-1)
