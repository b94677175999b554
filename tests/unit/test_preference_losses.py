"""The preference losses: numbers worked by hand, gradients, symmetries, extremes; and the specs that name them."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import get_args

import pytest
import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from tunesmith.methods.preference import config
from tunesmith.methods.preference.config import (
    ApoDownSpec,
    ApoZeroSpec,
    CpoSpec,
    DpoSpec,
    HingeSpec,
    IpoSpec,
    KtoSpec,
    OrpoSpec,
    PairLoss,
    PreferenceSpec,
    RobustSpec,
    SimpoSpec,
)
from tunesmith.methods.preference.losses import PAIR_LOSSES, Judged, Pairs, kto, loss, nll, rewards

PAIR_SPECS: list[PairLoss] = [
    DpoSpec(),
    DpoSpec(label_smoothing=0.2),
    DpoSpec(length_normalised=True, beta=5),
    RobustSpec(),
    IpoSpec(),
    IpoSpec(length_normalised=False, sft_weight=0.5),
    HingeSpec(),
    OrpoSpec(),
    SimpoSpec(),
    CpoSpec(),
    ApoZeroSpec(),
    ApoDownSpec(),
]
pair_case = pytest.mark.parametrize("spec", PAIR_SPECS, ids=lambda s: f"{s.type} {s.beta} {s.sft_weight}")


def _numbers(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


# r_w = -10 + 11 = 1 over 4 tokens, r_l = -12 + 11 = -1 over 6 tokens
HAND = Pairs(
    _numbers(-10), _numbers(-12), torch.tensor([4]), torch.tensor([6]), _numbers(-11), _numbers(-11)
)  # fmt: skip


def _one(spec: PairLoss, pairs: Pairs = HAND) -> float:
    return loss(pairs, spec).item()


def _random(n: int = 5, dtype: torch.dtype = torch.float64) -> Pairs:
    draw = torch.Generator().manual_seed(3)
    logp = [(-1 - 8 * torch.rand(n, generator=draw, dtype=torch.float64)).to(dtype) for _ in range(4)]
    tokens = [torch.randint(1, 9, (n,), generator=draw) for _ in range(2)]
    return Pairs(logp[0], logp[1], tokens[0], tokens[1], logp[2], logp[3])


def _swapped(pairs: Pairs) -> Pairs:
    return Pairs(
        pairs.rejected_N,
        pairs.chosen_N,
        pairs.rejected_tokens_N,
        pairs.chosen_tokens_N,
        pairs.reference_rejected_N,
        pairs.reference_chosen_N,
    )


def test_dpo_by_hand() -> None:
    """h = 0.5 (1 - (-1)) = 1; log(1 + e^-1) = log 1.3678794 = 0.3132617."""
    assert _one(DpoSpec(beta=0.5)) == pytest.approx(0.3132616875, abs=1e-9)


def test_conservative_dpo_by_hand() -> None:
    """-log s(1) = 0.3132617, -log s(-1) = that + 1; 0.9 x 0.3132617 + 0.1 x 1.3132617 = 0.4132617."""
    assert _one(DpoSpec(beta=0.5, label_smoothing=0.1)) == pytest.approx(0.4132616875, abs=1e-9)


def test_length_normalised_dpo_by_hand() -> None:
    """r_w / 4 = 1/4, r_l / 6 = -1/6, difference 5/12; beta 2.4 makes h = 1 and the loss log(1 + e^-1)."""
    assert _one(DpoSpec(beta=2.4, length_normalised=True)) == pytest.approx(0.3132616875, abs=1e-9)


def test_robust_dpo_by_hand() -> None:
    """(0.9 x 0.3132617 - 0.1 x 1.3132617) / 0.8 = 0.1506094 / 0.8 = 0.1882617."""
    assert _one(RobustSpec(beta=0.5, label_smoothing=0.1)) == pytest.approx(0.1882616875, abs=1e-9)


def test_ipo_by_hand() -> None:
    """1 / (2 x 0.5) = 1. Per token: (5/12 - 1)^2 = 49/144. In sums: (2 - 1)^2 = 1."""
    assert _one(IpoSpec(beta=0.5)) == pytest.approx(49 / 144, abs=1e-12)
    assert _one(IpoSpec(beta=0.5, length_normalised=False)) == pytest.approx(1, abs=1e-12)


def test_hinge_by_hand() -> None:
    """1 - 0.25 x 2 = 0.5; with beta 0.75 the margin 1.5 is past 1, and nothing is left."""
    assert _one(HingeSpec(beta=0.25)) == pytest.approx(0.5, abs=1e-12)
    assert _one(HingeSpec(beta=0.75)) == 0


def test_orpo_by_hand() -> None:
    """P_w = 1/2 and P_l = 1/4 a token: odds 1 and 1/3, ratio 3, -log s(log 3) = log(4/3) = 0.2876821.
    0.1 of it, and the cross entropy log 2 = 0.6931472: 0.7219154."""
    pairs = replace(HAND, chosen_N=_numbers(4 * math.log(0.5)), rejected_N=_numbers(6 * math.log(0.25)))
    assert _one(OrpoSpec(beta=0.1), pairs) == pytest.approx(0.1 * math.log(4 / 3) + math.log(2), abs=1e-12)


def test_simpo_by_hand() -> None:
    """-10/4 = -2.5, -12/6 = -2; 2 x (-0.5) - 0.5 = -1.5; log(1 + e^1.5) = log 5.4816891 = 1.7014133."""
    assert _one(SimpoSpec(beta=2, gamma=0.5)) == pytest.approx(1.7014132780, abs=1e-9)


def test_cpo_by_hand() -> None:
    """0.5 (-10 + 12) = 1, so 0.3132617; the cross entropy is 10/4 = 2.5; together 2.8132617."""
    assert _one(CpoSpec(beta=0.5)) == pytest.approx(2.8132616875, abs=1e-9)


def test_apo_by_hand() -> None:
    """beta 1. Zero: 1 - s(1) + s(-1) = 2 x 0.2689414 = 0.5378828. Down: s(1) + 1 - s(2) = 0.7310586 + 0.1192029."""
    assert _one(ApoZeroSpec(beta=1)) == pytest.approx(0.5378828427, abs=1e-9)
    assert _one(ApoDownSpec(beta=1)) == pytest.approx(0.8502615009, abs=1e-9)


def test_mixed_in_cross_entropy_by_hand() -> None:
    """Cross entropy of the chosen answer 10/4 = 2.5 nats a token; 0.2 of it beside DPO's 0.3132617: 0.8132617."""
    assert nll(HAND).item() == 2.5
    assert _one(DpoSpec(beta=0.5, sft_weight=0.2)) == pytest.approx(0.8132616875, abs=1e-9)


def test_kto_by_hand() -> None:
    """beta 1, z 0.5. Good, r = 1: 2 (1 - s(0.5)) = 2 x 0.3775407. Bad, r = -1: 3 (1 - s(0.5 + 1)) = 3 x 0.1824255."""
    judged = Judged(_numbers(-10, -12), _numbers(-11, -11), torch.tensor([True, False]), torch.tensor(0.5))
    spec = KtoSpec(beta=1, desirable_weight=2, undesirable_weight=3)
    assert kto(judged, spec).tolist() == pytest.approx([0.7550813376, 0.5472765714], abs=1e-9)


def test_ktos_baseline_below_zero_counts_as_zero_and_has_no_gradient() -> None:
    """Good, r = 1, z = 0: 1 - s(1) = 0.2689414."""
    judged = Judged(_numbers(-10), _numbers(-11), torch.tensor([True]), torch.tensor(-4.0, requires_grad=True))
    assert kto(judged, KtoSpec(beta=1)).item() == pytest.approx(0.2689414214, abs=1e-9)
    judged = replace(judged, logp_N=_numbers(-10).requires_grad_(), baseline=torch.tensor(0.5, requires_grad=True))
    kto(judged, KtoSpec()).sum().backward()
    assert judged.baseline.grad is None
    assert judged.logp_N.grad is not None


@pytest.mark.parametrize(
    ("spec", "chosen", "rejected"),
    [
        (DpoSpec(beta=0.5), 0.5, -0.5),
        (IpoSpec(beta=0.6), 0.15, -0.1),
        (KtoSpec(beta=2), 2, -2),
        (CpoSpec(beta=0.5), -5, -6),
        (SimpoSpec(beta=2), -5, -4),
        (OrpoSpec(beta=0.1), -0.25, -0.2),
    ],
    ids=lambda v: getattr(v, "type", None),
)
def test_rewards_by_hand(spec: PairLoss, chosen: float, rejected: float) -> None:
    """beta times: r 1 and -1; per token 1/4 and -1/6; log p -10 and -12; per token -2.5 and -2."""
    assert [r.item() for r in rewards(HAND, spec)] == pytest.approx([chosen, rejected], abs=1e-12)


@pair_case
def test_gradients(spec: PairLoss) -> None:
    pairs = _random()

    def of(chosen_N: Tensor, rejected_N: Tensor) -> Tensor:
        return loss(replace(pairs, chosen_N=chosen_N, rejected_N=rejected_N), spec)

    assert torch.autograd.gradcheck(of, (pairs.chosen_N.requires_grad_(), pairs.rejected_N.requires_grad_()))


def test_gradient_of_kto() -> None:
    pairs, good_N = _random(), torch.tensor([True, False, True, False, True])
    assert pairs.reference_chosen_N is not None

    def of(logp_N: Tensor) -> Tensor:
        return kto(Judged(logp_N, pairs.reference_chosen_N, good_N, torch.tensor(0.3)), KtoSpec(undesirable_weight=2))

    assert torch.autograd.gradcheck(of, (pairs.chosen_N.requires_grad_(),))


@pair_case
def test_one_loss_for_each_pair_and_none_depends_on_another(spec: PairLoss) -> None:
    pairs = _random()
    together_N = loss(pairs, spec)
    assert together_N.shape == (5,)
    alone = [loss(Pairs(*(getattr(pairs, f)[i : i + 1] for f in vars(pairs))), spec) for i in range(5)]
    torch.testing.assert_close(together_N, torch.cat(alone), rtol=0, atol=1e-12)


@pair_case
def test_the_better_answer_becomes_likelier_than_the_worse(spec: PairLoss) -> None:
    """A step downhill widens the margin, while it is small; only apo_down may do so by lowering both."""
    pairs, alone = _random(), spec.model_copy(update={"sft_weight": 0.0})
    pairs = replace(pairs, chosen_N=pairs.chosen_N / 4, rejected_N=pairs.rejected_N / 4)
    near = {f"reference_{w}_N": getattr(pairs, f"{w}_N").detach() + 0.5 for w in ("chosen", "rejected")}
    wrt = (pairs.chosen_N.requires_grad_(), pairs.rejected_N.requires_grad_())
    up_N, down_N = torch.autograd.grad(loss(replace(pairs, **near), alone).sum(), wrt)
    assert (down_N > 0).all()
    assert (down_N > up_N).all()
    if spec.type != "apo_down":
        assert (up_N < 0).all()


def test_equal_answers_cost_what_they_must() -> None:
    """No margin: log 2 for the logistic losses, 1 for hinge, (1 / 2 beta)^2 for IPO, 1/2 + 1/2 for APO."""
    same = replace(HAND, rejected_N=HAND.chosen_N, rejected_tokens_N=HAND.chosen_tokens_N)
    for spec in (DpoSpec(), DpoSpec(label_smoothing=0.3), RobustSpec(), CpoSpec(sft_weight=0), SimpoSpec(gamma=0)):
        assert _one(spec, same) == pytest.approx(math.log(2), abs=1e-12), spec
    assert _one(OrpoSpec(sft_weight=0), same) == pytest.approx(0.1 * math.log(2), abs=1e-12)
    assert _one(HingeSpec(), same) == 1
    assert _one(IpoSpec(beta=0.25), same) == pytest.approx(4, abs=1e-12)
    at_reference = replace(same, reference_chosen_N=HAND.chosen_N, reference_rejected_N=HAND.chosen_N)
    assert _one(ApoZeroSpec(), at_reference) == _one(ApoDownSpec(), at_reference) == 1


def test_swapping_the_answers_costs_the_margin() -> None:
    """-log s(-h) + log s(h) = h; smoothing by half the share of (1 - 2 e) leaves (1 - 2 e) h."""
    pairs = _random()
    h_N = torch.sub(*rewards(pairs, DpoSpec()))
    for share in (0.0, 0.2):
        spec = DpoSpec(label_smoothing=share)
        torch.testing.assert_close(loss(_swapped(pairs), spec) - loss(pairs, spec), (1 - 2 * share) * h_N)


def test_robust_dpo_is_dpo_on_average_over_flipped_labels() -> None:
    pairs, spec = _random(), RobustSpec(label_smoothing=0.3)
    mean_N = 0.7 * loss(pairs, spec) + 0.3 * loss(_swapped(pairs), spec)
    torch.testing.assert_close(mean_N, loss(pairs, DpoSpec()))
    torch.testing.assert_close(loss(pairs, RobustSpec(label_smoothing=0)), loss(pairs, DpoSpec()))


@pytest.mark.parametrize("spec", [DpoSpec(length_normalised=True), RobustSpec(length_normalised=True), IpoSpec(),
                                  HingeSpec(length_normalised=True), SimpoSpec(), OrpoSpec()])  # fmt: skip
def test_per_token_losses_do_not_see_the_length(spec: PairLoss) -> None:
    pairs = _random()
    doubled = Pairs(*(2 * getattr(pairs, field) for field in vars(pairs)))
    torch.testing.assert_close(loss(doubled, spec), loss(pairs, spec))


@pair_case
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_stay_finite(spec: PairLoss, dtype: torch.dtype) -> None:
    """Certain, impossible and equally certain answers."""
    chosen_N = torch.tensor([-1e4, 0.0, 0.0, -1e4, -1e-9], dtype=dtype, requires_grad=True)
    rejected_N = torch.tensor([0.0, -1e4, 0.0, -1e4, -1e-9], dtype=dtype, requires_grad=True)
    tokens_N = torch.tensor([1, 2, 3, 1000, 1])
    reference_N = torch.zeros(5, dtype=dtype)
    loss_N = loss(Pairs(chosen_N, rejected_N, tokens_N, tokens_N, reference_N, reference_N), spec)
    assert loss_N.dtype == dtype
    loss_N.sum().backward()
    for value in (loss_N, chosen_N.grad, rejected_N.grad):
        assert value is not None
        assert value.isfinite().all()


def test_extremes_of_kto_stay_finite() -> None:
    logp_N = torch.tensor([-1e4, 0.0, -1e4, 0.0], requires_grad=True)
    reference_N = torch.tensor([0.0, -1e4, 0.0, -1e4])
    loss_N = kto(Judged(logp_N, reference_N, torch.tensor([True, True, False, False]), torch.tensor(1e4)), KtoSpec())
    loss_N.sum().backward()
    assert loss_N.isfinite().all()
    assert logp_N.grad is not None
    assert logp_N.grad.isfinite().all()


@pair_case
def test_a_reference_is_needed_where_the_spec_says_so(spec: PairLoss) -> None:
    bare = replace(_random(), reference_chosen_N=None, reference_rejected_N=None)
    if spec.needs_reference:
        with pytest.raises(ValueError, match="give the reference's log-probabilities"):
            loss(bare, spec)
    else:
        assert torch.equal(loss(bare, spec), loss(_random(), spec))


def test_every_loss_has_its_function() -> None:
    specs = get_args(get_args(config.LossSpec)[0])
    pairs = {spec.model_fields["type"].default for spec in specs if spec.takes == "pairs"}
    assert pairs == set(PAIR_LOSSES)
    assert [spec for spec in specs if spec.takes == "judged"] == [KtoSpec]


def test_a_bare_name_stands_for_the_defaults() -> None:
    assert PreferenceSpec.model_validate({"loss": "simpo"}).loss == SimpoSpec()
    assert PreferenceSpec.model_validate({"loss": {"type": "kto", "beta": 0.3}}).loss == KtoSpec(beta=0.3)
    assert PreferenceSpec().loss == DpoSpec()
    with pytest.raises(ValidationError, match="'dop' found using 'type' does not match any of the expected tags"):
        PreferenceSpec.model_validate({"loss": "dop"})
    with pytest.raises(ValidationError, match="gamma"):
        PreferenceSpec.model_validate({"loss": {"type": "dpo", "gamma": 1}})


def test_the_schema_admits_a_name_or_a_table() -> None:
    options = PreferenceSpec.model_json_schema()["properties"]["loss"]["anyOf"]
    assert options[1]["type"] == "string"
    assert set(options[1]["enum"]) == {*PAIR_LOSSES, "kto"}
    assert {o["$ref"].rpartition("/")[2] for o in options[0]["oneOf"]} >= {"DpoSpec", "KtoSpec"}


def test_what_a_loss_needs() -> None:
    told = TypeAdapter(config.LossSpec).validate_python
    needs = {n for n in [*PAIR_LOSSES, "kto"] if PreferenceSpec(loss=told(n)).needs_reference}
    assert needs == {"dpo", "robust", "ipo", "hinge", "kto", "apo_zero", "apo_down"}
    assert PreferenceSpec(loss=KtoSpec()).takes == "judged"
    assert PreferenceSpec().takes == "pairs"
