"""What works for Llama works for the other families: the loss, LoRA and full training, saving and merging.

Tiny random models with odd sizes, made here from transformers' own configurations.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import families
from tunesmith.adapters.base import Adapter
from tunesmith.adapters.config import FullSpec, LoraSpec
from tunesmith.core.errors import ContentError
from tunesmith.data.tokenize import Encoded
from tunesmith.engine.evaluate import row_losses
from tunesmith.engine.objective import TorchBatch
from tunesmith.methods.sft.config import SftSpec
from tunesmith.methods.sft.method import Sft

every_model = pytest.mark.parametrize("kind", families.CONFIGS)


def _attached(kind: str, spec: LoraSpec | FullSpec) -> tuple[Any, Adapter]:
    model, adapter = families.model(kind), spec.build()
    torch.manual_seed(4)
    adapter.attach(model)
    return model, adapter


def _trained(kind: str, spec: LoraSpec | FullSpec, steps: int = 8) -> tuple[Any, Adapter, list[float]]:
    model, adapter = _attached(kind, spec)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = Sft(SftSpec()).loss_sum(model, families.BATCH) / families.WEIGHT_BL.sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, adapter, losses


def _asked(model: Any) -> dict[str, torch.Tensor]:
    """What transformers' own forward is given for these rows."""
    if model.config.is_encoder_decoder:
        return {
            "input_ids": torch.tensor([[1, 5, 9], [1, 90, 0]]), "attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
            "labels": torch.tensor([[13, 17, 21, 7], [80, 70, 60, 2]]),
        }  # fmt: skip
    return {
        "input_ids": families.INPUT_BL, "attention_mask": families.MASK_BL,
        "labels": torch.where(families.WEIGHT_BL > 0, families.INPUT_BL, -100),
    }  # fmt: skip


def _plain(model: Any) -> Any:
    with torch.no_grad():
        return model(**_asked(model), use_cache=False)


def _logits(model: Any) -> torch.Tensor:
    return _plain(model).logits


def _loss(model: Any) -> float:
    """Ours."""
    with torch.no_grad():
        return float(Sft(SftSpec()).loss_sum(model, families.BATCH) / families.WEIGHT_BL.sum())


@every_model
def test_the_loss_is_the_plain_forward_one(kind: str) -> None:
    model = families.model(kind)
    assert _loss(model) == pytest.approx(float(_plain(model).loss), rel=1e-5, abs=1e-5)


IN_FORCE: list[tuple[str, str, Any]] = [
    ("mistral", "sliding_window", 64), ("gemma2", "sliding_window", 64), ("gemma3", "sliding_window", 64),
    ("gemma2", "final_logit_softcapping", None), ("gemma2", "attn_logit_softcapping", None),
    ("granite", "logits_scaling", 1.0), ("granite", "embedding_multiplier", 1.0),
    ("t5", "scale_decoder_outputs", False),
    *((kind, "output_router_logits", False) for kind in families.ROUTERS),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "key", "other"), IN_FORCE)
def test_what_the_config_says_is_in_force(kind: str, key: str, other: Any) -> None:
    """The rows are longer than the windows; without the window, cap, scale or router loss the loss is another."""
    model, without = families.model(kind), families.model(kind, **{key: other})
    assert torch.equal(next(model.parameters()), next(without.parameters()))
    assert abs(_loss(model) - _loss(without)) > 1e-3
    assert _loss(without) == pytest.approx(float(_plain(without).loss), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("kind", families.ROUTERS)
def test_the_routers_loss_counts_each_micro_batch_by_its_weight(kind: str) -> None:
    model = families.model(kind)
    weight_BL = families.WEIGHT_BL * torch.tensor([[0.5], [2.0]])
    parts = [
        TorchBatch(families.INPUT_BL[i : i + 1], families.MASK_BL[i : i + 1], weight_BL[i : i + 1]) for i in (0, 1)
    ]
    expected, whole = 0.0, float(weight_BL.sum())
    for part in parts:
        labels = torch.where(part.loss_weight_BL > 0, part.input_ids_BL, -100)
        with torch.no_grad():
            loss = model(input_ids=part.input_ids_BL, attention_mask=part.attention_mask_BL, labels=labels).loss
        expected += float(loss * part.loss_weight_BL.sum()) / whole
    with torch.no_grad():
        ours = sum(float(Sft(SftSpec()).loss_sum(model, part)) for part in parts) / whole
    assert ours == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", families.ROUTERS)
def test_models_are_compared_without_the_routers_loss(kind: str) -> None:
    rows = [
        Encoded(ids[: int(mask.sum())].numpy().astype(np.int32), weight[: int(mask.sum())].numpy())
        for ids, mask, weight in zip(families.INPUT_BL, families.MASK_BL, families.WEIGHT_BL, strict=True)
    ]
    with_it, without = (
        row_losses(families.model(kind, output_router_logits=said), rows, pad_id=0, number_type="fp32")[0]
        for said in (True, False)
    )
    np.testing.assert_allclose(with_it, without, rtol=1e-6)


@pytest.mark.parametrize("kind", families.ROUTERS)
def test_lora_leaves_router_and_experts_as_they_are(kind: str) -> None:
    model, adapter = _attached(kind, LoraSpec(r=4))
    adapted = {name.split(".lora_")[0].rpartition(".")[2] for name in adapter.parameters()}
    shared = {"gate_proj", "up_proj", "down_proj", "shared_expert_gate"} if kind == "qwen2-moe" else set()
    assert adapted == {"q_proj", "k_proj", "v_proj", "o_proj"} | shared
    assert not any(p.requires_grad for n, p in model.named_parameters() if ".experts." in n or ".gate." in n)
    with pytest.raises(ContentError, match="'gate_up_proj' is no linear layer") as raised:
        _attached(kind, LoraSpec(r=4, targets=("q_proj", "gate_up_proj")))
    assert "fused" in str(raised.value.why)
    full = _trained(kind, FullSpec(), steps=1)[1].parameters()
    routers = [p for n, p in full.items() if n.endswith((".gate.weight", ".router.weight"))]
    assert len(routers) == 2
    assert all(p.grad is not None and p.grad.abs().max() > 0 for p in routers)


@pytest.mark.parametrize("kind", families.TIED)
def test_tied_tables_stay_one(kind: str, tmp_path: Path) -> None:
    model, adapter, _ = _trained(kind, FullSpec(), steps=2)
    assert _one_table(model)
    adapter.save(tmp_path, "some/base")
    again, loaded = _attached(kind, FullSpec())
    loaded.load(tmp_path)
    for other in (again, type(model).from_pretrained(tmp_path)):
        assert _one_table(other)
        assert torch.equal(other.get_input_embeddings().weight, model.get_input_embeddings().weight)


def _one_table(model: Any) -> bool:
    return model.get_input_embeddings().weight is model.get_output_embeddings().weight


@every_model
@pytest.mark.parametrize(
    "spec", [LoraSpec(r=4, alpha=8), LoraSpec(r=4, alpha=8, dora=True), FullSpec()], ids=["lora", "dora", "full"]
)
def test_it_learns_saves_loads_and_merges(kind: str, spec: LoraSpec | FullSpec, tmp_path: Path) -> None:
    model, adapter, losses = _trained(kind, spec)
    assert losses[-1] < 0.9 * losses[0]
    wanted = _logits(model)
    assert not torch.allclose(wanted, _logits(families.model(kind)), atol=1e-2)
    adapter.save(tmp_path, "some/base")
    again, loaded = _attached(kind, spec)
    loaded.load(tmp_path)
    torch.testing.assert_close(_logits(again), wanted, rtol=0, atol=0)
    adapter.merge()
    torch.testing.assert_close(_logits(model), wanted, rtol=1e-4, atol=1e-4)
    model.save_pretrained(tmp_path / "merged")
    plain = type(model).from_pretrained(tmp_path / "merged", dtype=torch.float32)
    torch.testing.assert_close(_logits(plain.eval()), wanted, rtol=1e-4, atol=1e-4)
