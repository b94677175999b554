"""Our divergences against TRL's on the same logits: values and gradients.

Kept top-k: against TRL's server distillation, which joins the other words to one outcome as we do.
"""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import Tensor

from tunesmith.methods.distill.losses import forward_kl, jsd, reverse_kl, top_k

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, not of what is tested
    pytest.importorskip("trl")
    from trl.experimental.gkd import GKDTrainer
    from trl.experimental.server_distillation import ServerDistillationTrainer

TOKENS, WORDS = 6, 13
OURS = {
    0.0: forward_kl,
    0.1: partial(jsd, beta=0.1),
    0.5: partial(jsd, beta=0.5),
    0.9: partial(jsd, beta=0.9),
    1.0: reverse_kl,
}


def _logits() -> tuple[Tensor, Tensor]:
    draw = torch.Generator().manual_seed(5)
    student, teacher = (3 * torch.randn(TOKENS, WORDS, generator=draw, dtype=torch.float64) for _ in range(2))
    return student.requires_grad_(), teacher


def _compare(ours_N: Tensor, theirs_N: Tensor, wrt: Tensor) -> None:
    """Value of each token, and the gradient of a sum in which no token counts like another."""
    assert ours_N.dtype == torch.float64
    assert ours_N.min() > 1e-3
    torch.testing.assert_close(ours_N, theirs_N, rtol=0, atol=1e-6)
    count_N = torch.arange(1, TOKENS + 1)
    gradients = [torch.autograd.grad((value_N * count_N).sum(), wrt)[0] for value_N in (ours_N, theirs_N)]
    torch.testing.assert_close(*gradients, rtol=0, atol=1e-6)


@pytest.mark.parametrize("beta", OURS)
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_generalised_jsd_of_its_gkd_trainer(beta: float, temperature: float) -> None:
    student, teacher = _logits()
    theirs = GKDTrainer.generalized_jsd_loss(
        student, teacher, beta=beta, temperature=temperature, reduction="none"
    ).sum(-1)  # fmt: skip
    _compare(OURS[beta](student, teacher, temperature=temperature), theirs, student)


@pytest.mark.parametrize("beta", OURS)
def test_all_words_kept_is_its_value_too(beta: float) -> None:
    student, teacher = _logits()
    theirs = GKDTrainer.generalized_jsd_loss(student, teacher, beta=beta, temperature=1.5, reduction="none").sum(-1)
    _compare(OURS[beta](student, top_k(teacher, WORDS, 1.5), temperature=1.5), theirs, student)


@pytest.mark.parametrize("k", [1, 4, 12])
def test_forward_kl_on_the_kept_words_of_its_server_distillation(k: int) -> None:
    student, teacher = _logits()
    trainer = ServerDistillationTrainer.__new__(ServerDistillationTrainer)
    trainer.loss_add_tail = True
    kept = top_k(teacher, k)
    theirs = [
        trainer._compute_server_forward_kl_loss(
            {"topk_logprobs": kept.logp_NK[None, i : i + 1], "topk_token_ids": kept.ids_NK[None, i : i + 1]},
            student[None, i : i + 1].log_softmax(-1),
            torch.zeros(1, 1),
        )
        for i in range(TOKENS)
    ]
    _compare(forward_kl(student, kept), torch.stack(theirs), student)
