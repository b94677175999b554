"""The divergences of distillation: numbers worked by hand, gradients, laws, extremes, the kept top-k."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from tunesmith.methods.distill.losses import TopK, forward_kl, jsd, reverse_kl, top_k

Divergence = Callable[..., Tensor]
DIVERGENCES: dict[str, Divergence] = {
    "forward": forward_kl,
    "reverse": reverse_kl,
    "jsd 0.5": jsd,
    "jsd 0.1": partial(jsd, beta=0.1),
    "jsd 0.8": partial(jsd, beta=0.8),
}
divergence_case = pytest.mark.parametrize("divergence", DIVERGENCES.values(), ids=DIVERGENCES.keys())


def _logits(*shares: float) -> Tensor:
    """Logits of a distribution, one token."""
    return torch.tensor([shares], dtype=torch.float64).log()


def _random(seed: int, n: int = 6, words: int = 11) -> Tensor:
    return 2 * torch.randn(n, words, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_forward_kl_by_hand() -> None:
    """p = (1/2, 1/4, 1/4), q = (1/4, 1/4, 1/2): 1/2 log 2 + 0 + 1/4 log 1/2 = 1/4 log 2 = 0.1732868."""
    got = forward_kl(_logits(0.25, 0.25, 0.5), _logits(0.5, 0.25, 0.25))
    assert got.tolist() == pytest.approx([0.25 * math.log(2)], abs=1e-12)


def test_reverse_kl_by_hand() -> None:
    """p = (1/2, 1/2), q = (1/4, 3/4): 1/4 log 1/2 + 3/4 log 3/2 = -0.1732868 + 0.3040988 = 0.1308120.
    The forward one: 1/2 log 2 + 1/2 log 2/3 = 1/2 log 4/3 = 0.1438410."""
    student, teacher = _logits(0.25, 0.75), _logits(0.5, 0.5)
    assert reverse_kl(student, teacher).item() == pytest.approx(0.1308120359, abs=1e-9)
    assert forward_kl(student, teacher).item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)


def test_generalised_jsd_by_hand() -> None:
    """p = (1, 0), q = (1/2, 1/2), beta 1/4: m = (5/8, 3/8).
    1/4 log(8/5) + 3/4 (1/2 log(4/5) + 1/2 log(4/3)) = 0.1175009 + 3/8 log(16/15) = 0.1417028."""
    got = jsd(_logits(0.5, 0.5), _logits(1, 0), beta=0.25).item()
    assert got == pytest.approx(0.25 * math.log(8 / 5) + 0.375 * math.log(16 / 15), abs=1e-12)
    assert got == pytest.approx(0.1417028, abs=1e-7)


def test_temperature_by_hand() -> None:
    """Logits (0, 2 log 3) at temperature 2 are (1/4, 3/4), (0, 0) are (1/2, 1/2): forward 1/2 log 4/3, no T^2."""
    student = torch.tensor([[0, 2 * math.log(3)]], dtype=torch.float64)
    got = forward_kl(student, torch.zeros(1, 2, dtype=torch.float64), temperature=2).item()
    assert got == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)


def test_top_k_by_hand() -> None:
    """p = (1/2, 1/4, 1/8, 1/8), q = (1/4, 1/4, 1/4, 1/4), the first word kept: p (1/2 | 1/2), q (1/4 | 3/4), forward
    1/2 log 4/3. Exact: 1/2 log 2 + 0 + 2 x 1/8 log 1/2 = 1/4 log 2 = 0.1733, more than 0.1438."""
    student, teacher = _logits(0.25, 0.25, 0.25, 0.25), _logits(0.5, 0.25, 0.125, 0.125)
    assert forward_kl(student, top_k(teacher, 1)).item() == pytest.approx(0.5 * math.log(4 / 3), abs=1e-12)
    assert forward_kl(student, teacher).item() == pytest.approx(0.25 * math.log(2), abs=1e-12)


@divergence_case
def test_gradients(divergence: Divergence) -> None:
    student, teacher = _random(1, n=3, words=5).requires_grad_(), _random(2, n=3, words=5)
    for what in (teacher, top_k(teacher, 2, 1.5), top_k(teacher, 5, 1.5)):
        assert torch.autograd.gradcheck(partial(divergence, teacher=what, temperature=1.5), (student,))


@divergence_case
def test_none_is_negative_and_zero_means_equal(divergence: Divergence) -> None:
    student, teacher = _random(1), _random(2)
    assert (divergence(student, teacher) > 1e-3).all()
    for what in (student + 3, top_k(student, 4), top_k(student, 11)):
        torch.testing.assert_close(divergence(student, what), torch.zeros(6, dtype=torch.float64), rtol=0, atol=1e-12)


def test_symmetries() -> None:
    student, teacher = _random(1), _random(2)
    torch.testing.assert_close(forward_kl(student, teacher), reverse_kl(teacher, student))
    torch.testing.assert_close(jsd(student, teacher, 0.3), jsd(teacher, student, 0.7))
    assert (jsd(student, teacher) < math.log(2)).all()


def test_jsd_nears_the_divergences_at_its_ends() -> None:
    """To first order beta KL(p || q) and (1 - beta) KL(q || p); at the ends themselves there is none."""
    student, teacher = _random(1), _random(2)
    torch.testing.assert_close(jsd(student, teacher, 1e-8) / 1e-8, forward_kl(student, teacher), rtol=1e-4, atol=0)
    torch.testing.assert_close(jsd(student, teacher, 1 - 1e-8) / 1e-8, reverse_kl(student, teacher), rtol=1e-4, atol=0)
    for beta in (0.0, 1.0, -0.5):
        with pytest.raises(ValueError, match="forward_kl and reverse_kl are the limits"):
            jsd(student, teacher, beta)


@divergence_case
@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_all_words_kept_is_exact_and_fewer_never_exceed_it(divergence: Divergence, temperature: float) -> None:
    student, teacher = _random(1).requires_grad_(), _random(2)
    exact_N = divergence(student, teacher, temperature=temperature)
    (gradient,) = torch.autograd.grad(exact_N.sum(), student)
    before_N = torch.zeros_like(exact_N)
    for k in range(1, 12):
        value_N = divergence(student, top_k(teacher, k, temperature), temperature=temperature)
        assert (value_N >= before_N - 1e-12).all()
        before_N = value_N
    torch.testing.assert_close(value_N, exact_N, rtol=0, atol=1e-12)
    torch.testing.assert_close(torch.autograd.grad(value_N.sum(), student)[0], gradient, rtol=0, atol=1e-12)
    nearly_N = divergence(student, top_k(teacher, 10, temperature), temperature=temperature)
    torch.testing.assert_close(nearly_N, exact_N, rtol=0, atol=1e-12)


def test_one_value_for_each_token_whatever_the_shape() -> None:
    student, teacher = _random(1), _random(2)
    for what in (lambda t: t, lambda t: top_k(t, 3)):
        flat_N = jsd(student, what(teacher))
        folded = jsd(student.view(2, 3, 11), what(teacher.view(2, 3, 11)))
        assert torch.equal(folded, flat_N.view(2, 3))


@divergence_case
def test_logarithms_kept_in_16_bits_are_nearly_as_good(divergence: Divergence) -> None:
    student, teacher = _random(1), _random(2)
    for k in (3, 10, 11):
        kept = top_k(teacher, k)
        assert kept.rest_N is not None
        rough = TopK(kept.ids_NK, kept.logp_NK.half(), kept.rest_N.half())
        torch.testing.assert_close(divergence(student, rough), divergence(student, kept), rtol=2e-3, atol=2e-3)


@divergence_case
def test_the_rest_is_found_from_the_list_where_it_is_not_told(divergence: Divergence) -> None:
    student, teacher = _random(1), _random(2)
    for k in (1, 3, 10):
        kept = top_k(teacher, k)
        bare = TopK(kept.ids_NK, kept.logp_NK)
        torch.testing.assert_close(divergence(student, bare), divergence(student, kept), rtol=0, atol=1e-9)


@divergence_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(divergence: Divergence, dtype: torch.dtype) -> None:
    """Certain of opposite words, certain of the same one, and nothing left for the other words."""
    sure = torch.tensor([[1e4, 0, -1e4, 0], [0, 0, 1e4, -1e4], [0, 0, 0, 0]], dtype=dtype)
    student = sure.flip(-1).clone().requires_grad_()
    lists = [top_k(sure, k) for k in (1, 2, 4)]
    for what in (sure, *lists, *(TopK(kept.ids_NK, kept.logp_NK) for kept in lists)):
        student.grad = None
        loss_N = divergence(student, what)
        loss_N.sum().backward()
        assert loss_N.dtype == dtype
        assert loss_N.isfinite().all()
        assert student.grad is not None
        assert student.grad.isfinite().all()


@divergence_case
def test_words_that_neither_can_say_change_nothing(divergence: Divergence) -> None:
    """A vocabulary filled up to a round size has logits of -inf; a teacher's list may be filled up likewise."""
    student, teacher = _random(1), _random(2)
    never = torch.full((6, 2), -torch.inf, dtype=torch.float64)
    wide = torch.cat([student, never], -1).requires_grad_()
    value_N = divergence(wide, torch.cat([teacher, never], -1))
    torch.testing.assert_close(value_N, divergence(student, teacher))
    assert torch.autograd.grad(value_N.sum(), wide)[0].isfinite().all()
    kept = top_k(teacher, 3)
    spare_N1 = torch.tensor([[next(w for w in range(11) if w not in row)] for row in kept.ids_NK.tolist()])
    filled = TopK(torch.cat([kept.ids_NK, spare_N1], -1), torch.cat([kept.logp_NK, never[:, :1]], -1))
    assert forward_kl(student, filled).isfinite().all()
