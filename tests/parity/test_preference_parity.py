"""Our preference and reward losses against TRL's trainers on the same logits: losses, gradients, rewards.

TRL's losses stand inside methods of its trainers. A trainer is made without its `__init__`, given the attributes that
the method reads, and a model that answers with what we put into it; the loss itself is TRL's own code. One pair at a
time, so that its means over a batch are the losses of single pairs.
"""

from __future__ import annotations

import warnings
from collections import defaultdict
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

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
    RobustSpec,
    SimpoSpec,
)
from tunesmith.methods.preference.losses import Judged, Pairs, kto, loss, rewards
from tunesmith.methods.reward.losses import bradley_terry

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, not of what is tested
    pytest.importorskip("trl")
    from trl import DPOTrainer, KTOTrainer, RewardTrainer
    from trl.experimental.cpo import CPOTrainer
    from trl.experimental.orpo import ORPOTrainer

WORDS, LONGEST = 7, 6
ANSWERS = [(5, 2), (1, 4), (3, 3), (2, 5)]
"""Tokens of the chosen and of the rejected answer, behind a prompt of one."""


@dataclass
class Case:
    """One pair, chosen above rejected, padded to 1 + LONGEST tokens: [2, L], the logits [2, L, V]."""

    logits: Tensor
    ids: Tensor
    answer: Tensor
    """1 where a token belongs to the answer."""
    reference: Tensor

    @property
    def logp(self) -> Tensor:
        """Log-probability of each token but the first, 0 outside the answer."""
        logp_2LV = self.logits[:, :-1].log_softmax(-1)
        return logp_2LV.gather(-1, self.ids[:, 1:, None]).squeeze(-1) * self.answer[:, 1:]

    def pairs(self) -> Pairs:
        chosen_N, rejected_N = self.logp.sum(-1).split(1)
        tokens = self.answer.sum(-1).split(1)
        return Pairs(chosen_N, rejected_N, *tokens, *self.reference.split(1))


def _cases() -> list[Case]:
    draw = torch.Generator().manual_seed(11)
    cases = []
    for lengths in ANSWERS:
        place_L = torch.arange(1 + LONGEST)
        answer_2L = torch.stack([(place_L > 0) & (place_L <= n) for n in lengths]).long()
        logits_2LV = 2 * torch.randn(2, 1 + LONGEST, WORDS, generator=draw, dtype=torch.float64)
        ids_2L = torch.randint(WORDS, (2, 1 + LONGEST), generator=draw)
        case = Case(logits_2LV.requires_grad_(), ids_2L, answer_2L, torch.zeros(2))
        case.reference = case.logp.sum(-1).detach() + torch.randn(2, generator=draw, dtype=torch.float64)
        cases.append(case)
    return cases


def _trainer(kind: type, **attributes: Any) -> Any:
    """A trainer with nothing but what its loss reads."""
    trainer = kind.__new__(kind)
    accelerator = SimpleNamespace(device=torch.device("cpu"), gather=_same, gather_for_metrics=_same)
    common = {"model": SimpleNamespace(training=False), "accelerator": accelerator, "aux_loss_enabled": False}
    kept = {"_metrics": defaultdict(lambda: defaultdict(list)), "_total_train_tokens": 0}
    trainer.__dict__.update({**common, **kept, **attributes})
    return trainer


def _same(value: Any) -> Any:
    return value


def _fused(logp_BL: Tensor) -> SimpleNamespace:
    """What TRL's models answer when they make log-probabilities themselves; all but `log_probs` is for its logs."""
    return SimpleNamespace(
        log_probs=logp_BL, entropy=logp_BL, mean_logits=logp_BL, is_top1=torch.zeros_like(logp_BL, dtype=torch.bool)
    )


def _compare(ours: Tensor, theirs: Tensor, wrt: Tensor, tolerance: float = 1e-6) -> None:
    """Values and gradients."""
    assert ours.dtype == torch.float64
    torch.testing.assert_close(ours.squeeze(), theirs.squeeze().double(), rtol=0, atol=tolerance)
    gradients = [torch.autograd.grad(value.squeeze(), wrt, retain_graph=True)[0] for value in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=0, atol=tolerance)


DPO_CASES: list[tuple[PairLoss, dict[str, float]]] = [
    (DpoSpec(beta=0.3), {"sigmoid": 1}),
    (DpoSpec(beta=5, length_normalised=True), {"sigmoid_norm": 1}),
    (DpoSpec(beta=0.3, sft_weight=0.7), {"sigmoid": 1, "sft": 0.7}),
    (RobustSpec(beta=0.3, label_smoothing=0.2), {"robust": 1}),
    (IpoSpec(beta=0.4), {"ipo": 1}),
    (HingeSpec(beta=0.3), {"hinge": 1}),
    (ApoZeroSpec(beta=0.3), {"apo_zero": 1}),
    (ApoDownSpec(beta=0.3, sft_weight=0.2), {"apo_down": 1, "sft": 0.2}),
]


@pytest.mark.parametrize(("spec", "types"), DPO_CASES, ids=[" + ".join(types) for _, types in DPO_CASES])
def test_the_losses_of_its_dpo_trainer(spec: PairLoss, types: dict[str, float]) -> None:
    nonzero = 0
    for case in _cases():
        trainer = _trainer(
            DPOTrainer,
            beta=spec.beta,
            label_smoothing=getattr(spec, "label_smoothing", 0.0),
            loss_types=list(types),
            loss_weights=list(types.values()),
            f_divergence_type="reverse_kl",
            ld_alpha=None,
            use_weighting=False,
            precompute_ref_logps=True,
        )
        inputs = {
            "input_ids": case.ids,
            "attention_mask": torch.ones_like(case.ids),
            "completion_mask": case.answer,
            "ref_chosen_logps": case.reference[:1],
            "ref_rejected_logps": case.reference[1:],
        }
        theirs = trainer._compute_loss(lambda c=case, **_: _fused(c.logp), inputs, return_outputs=False)
        _compare(loss(case.pairs(), spec), theirs, case.logits)
        nonzero += theirs.item() != 0
        if not getattr(spec, "length_normalised", False):
            _compare_rewards(case, spec, *(trainer._metrics["eval"][f"rewards/{w}"][0] for w in ("chosen", "rejected")))
    assert nonzero >= 3


def _compare_rewards(case: Case, spec: PairLoss, chosen: float, rejected: float) -> None:
    assert [r.item() for r in rewards(case.pairs(), spec)] == pytest.approx([chosen, rejected], abs=1e-6)


def _concatenated(case: Case) -> dict[str, Tensor]:
    """The batch that the CPO and ORPO trainers take."""
    labels_2L = case.ids.masked_fill(case.answer == 0, -100)
    seen_2L = case.answer.clone()
    seen_2L[:, 0] = 1
    batch = {}
    for row, who in enumerate(("chosen", "rejected")):
        batch[f"{who}_input_ids"] = case.ids[row : row + 1]
        batch[f"{who}_attention_mask"] = seen_2L[row : row + 1]
        batch[f"{who}_labels"] = labels_2L[row : row + 1]
    return batch


CPO_CASES: list[tuple[PairLoss, dict[str, Any]]] = [
    (CpoSpec(beta=0.3), {"loss_type": "sigmoid", "cpo_alpha": 1.0}),
    (CpoSpec(beta=0.3, sft_weight=0.0), {"loss_type": "sigmoid", "cpo_alpha": 0.0}),
    (SimpoSpec(beta=2, gamma=0.8), {"loss_type": "simpo", "cpo_alpha": 0.0, "simpo_gamma": 0.8}),
    (SimpoSpec(beta=2, gamma=0.8, sft_weight=0.3), {"loss_type": "simpo", "cpo_alpha": 0.3, "simpo_gamma": 0.8}),
]


@pytest.mark.parametrize(("spec", "options"), CPO_CASES, ids=["cpo", "cpo without nll", "simpo", "simpo with nll"])
def test_the_losses_of_its_cpo_trainer(spec: PairLoss, options: dict[str, Any]) -> None:
    for case in _cases():
        options = {"alpha": 0.0, "label_smoothing": 0.0, "is_encoder_decoder": False, "pad_token_id": 0, **options}
        trainer = _trainer(CPOTrainer, beta=spec.beta, **options)
        model = lambda *_, c=case, **__: SimpleNamespace(logits=c.logits)  # noqa: E731
        theirs, told = trainer.get_batch_loss_metrics(model, _concatenated(case))
        _compare(loss(case.pairs(), spec), theirs, case.logits)
        _compare_rewards(case, spec, told["rewards/chosen"], told["rewards/rejected"])


def test_the_label_smoothing_of_its_cpo_trainer() -> None:
    """DPO on log ratios is CPO on log-probabilities, and only there does TRL still smooth the logistic loss."""
    trainer = _trainer(CPOTrainer, beta=0.3, alpha=0.0, loss_type="sigmoid", label_smoothing=0.2)
    for case in _cases():
        theirs, *_ = trainer.cpo_loss(*(case.logp.sum(-1) - case.reference).split(1))
        _compare(loss(case.pairs(), DpoSpec(beta=0.3, label_smoothing=0.2)), theirs, case.logits)


def test_the_loss_of_its_orpo_trainer() -> None:
    """It computes the odds in float32, so the last digits are float32's; beta keeps them below 1e-6."""
    spec = OrpoSpec(beta=0.2)
    trainer = _trainer(ORPOTrainer, beta=0.2, is_encoder_decoder=False, padding_value=0)
    for case in _cases():
        model = lambda *_, c=case, **__: SimpleNamespace(logits=c.logits)  # noqa: E731
        theirs, told = trainer.get_batch_loss_metrics(model, _concatenated(case))
        _compare(loss(case.pairs(), spec), theirs, case.logits)
        _compare_rewards(case, spec, told["rewards/chosen"], told["rewards/rejected"])


@pytest.mark.parametrize("away", [0.7, -0.7], ids=["gone away", "clamped at 0"])
def test_the_loss_of_its_kto_trainer(away: float) -> None:
    """The baseline is the mean log ratio of answers with other prompts; a good and a bad answer of each pair."""
    trainer = _trainer(
        KTOTrainer,
        beta=0.3,
        desirable_weight=1.5,
        undesirable_weight=0.8,
        loss_type="kto",
        calculate_KL=True,
        precompute_ref_logps=True,
    )
    spec = KtoSpec(beta=0.3, desirable_weight=1.5, undesirable_weight=0.8)
    other_3L = torch.full((3, LONGEST), -1.0, dtype=torch.float64)
    reference_3 = other_3L.sum(-1) - away + torch.tensor([0.3, -0.3, 0.0], dtype=torch.float64)
    other = torch.zeros(3, 1 + LONGEST, dtype=torch.long)
    for case in _cases():
        for row, good in ((0, True), (1, False)):

            def model(*, input_ids: Tensor, c: Case = case, r: int = row, **_: Any) -> SimpleNamespace:
                return _fused(other_3L if input_ids is other else c.logp[r : r + 1])

            batch = {
                "input_ids": case.ids[row : row + 1],
                "attention_mask": torch.ones(1, 1 + LONGEST),
                "completion_mask": case.answer[row : row + 1],
                "KL_input_ids": other,
                "KL_attention_mask": torch.ones_like(other),
                "KL_completion_mask": torch.ones_like(other),
                "label": torch.tensor([good]),
                "ref_logps": case.reference[row : row + 1],
                "ref_KL_logps": reference_3,
            }
            theirs = trainer._compute_loss(model, batch, return_outputs=False)
            judged = Judged(
                case.logp.sum(-1)[row : row + 1],
                case.reference[row : row + 1],
                torch.tensor([good]),
                (other_3L.sum(-1) - reference_3).mean(),
            )
            _compare(kto(judged, spec), theirs, case.logits)
            assert trainer._metrics["eval"]["kl"][-1] == pytest.approx(max(away, 0), abs=1e-9)


@pytest.mark.parametrize("margin", [None, 0.4])
@pytest.mark.parametrize("centring", [None, 0.01])
def test_the_loss_of_its_reward_trainer(margin: float | None, centring: float | None) -> None:
    trainer = _trainer(RewardTrainer, args=SimpleNamespace(center_rewards_coefficient=centring))
    for chosen, rejected in [(1.5, -0.5), (-2.0, 0.3), (0.0, 0.0)]:
        scores_2 = torch.tensor([chosen, rejected], dtype=torch.float64, requires_grad=True)
        margin_1 = None if margin is None else torch.tensor([margin], dtype=torch.float64)
        inputs = {} if margin_1 is None else {"margin": margin_1}
        theirs = trainer.compute_loss(lambda s=scores_2, **_: SimpleNamespace(logits=s[:, None]), inputs)
        ours = bradley_terry(scores_2[:1], scores_2[1:], margin_1, centring or 0.0)
        _compare(ours, theirs, scores_2)
