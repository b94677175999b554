"""Optimizers: who gets weight decay, and state that survives a checkpoint."""

from __future__ import annotations

import pytest
import torch

import families
import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.engine import adamw8bit, optim
from tunesmith.engine.config import TrainingSpec

KINDS = ("adamw", "adamw8bit", "adafactor", "muon")


def _built(kind: str, weight_decay: float = 0.0):
    model = tiny.model("llama")
    model.requires_grad_(True)
    named = dict(model.named_parameters())
    spec = TrainingSpec(optimizer=kind, weight_decay=weight_decay)
    return model, named, optim.build(spec, named, model, 0.01)


def _step(model, optimizer) -> None:
    ids = torch.tensor([[1, 5, 9, 13, 17]])
    model(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    [setattr(p, "grad", None) for p in model.parameters()]


@pytest.mark.parametrize("kind", KINDS)
def test_every_parameter_is_updated_and_the_loss_falls(kind: str) -> None:
    model, named, optimizer = _built(kind)
    before = {name: p.detach().clone() for name, p in named.items()}
    ids = torch.tensor([[1, 5, 9, 13, 17]])
    first = model(input_ids=ids, labels=ids).loss.item()
    for _ in range(5):
        _step(model, optimizer)
    assert [name for name, p in named.items() if torch.equal(p, before[name])] == []
    assert model(input_ids=ids, labels=ids).loss.item() < first


@pytest.mark.parametrize("kind", KINDS)
def test_state_put_back_goes_on_bit_for_bit(kind: str) -> None:
    model, named, optimizer = _built(kind)
    _step(model, optimizer)
    weights = {name: p.detach().clone() for name, p in named.items()}
    state = optimizer.state_tensors()
    assert all(isinstance(value, torch.Tensor) for value in state.values())
    copied = {key: value.clone() for key, value in state.items()}
    _step(model, optimizer)

    again, names, other = _built(kind)
    with torch.no_grad():
        for name, p in names.items():
            p.copy_(weights[name])
    other.load_state_tensors(copied)
    _step(again, other)
    for name, p in named.items():
        assert torch.equal(p, names[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_weight_decay_is_for_hidden_matrices_only(kind: str) -> None:
    _, named, optimizer = _built(kind, weight_decay=0.1)
    decayed = {
        p for part in optimizer._parts for group in part.param_groups if group["weight_decay"] for p in group["params"]
    }
    names = {name for name, p in named.items() if p in decayed}
    assert "model.embed_tokens.weight" not in names
    assert not any("norm" in name or "lm_head" in name for name in names)
    assert "model.layers.0.self_attn.q_proj.weight" in names


FUSED_BIASES = (2, 6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_bias_never_decays_whatever_its_shape(kind: str) -> None:
    named = {
        "experts.gate_up_proj": torch.nn.Parameter(torch.ones(2, 4, 6)),
        "experts.gate_up_proj_bias": torch.nn.Parameter(torch.ones(FUSED_BIASES)),
        "q_proj.weight": torch.nn.Parameter(torch.ones(4, 4)),
        "q_proj.bias": torch.nn.Parameter(torch.ones(4)),
    }
    spec = TrainingSpec(optimizer=kind, weight_decay=0.1)
    assert _decayed(named, optim.build(spec, named, torch.nn.Module(), 0.01)) == {
        "experts.gate_up_proj",
        "q_proj.weight",
    }


def _decayed(named, optimizer) -> set[str]:
    groups = [group for part in optimizer._parts for group in part.param_groups]
    held = {p for group in groups for p in group["params"]}
    assert held == set(named.values()), "a parameter is in no group, or in one that is none of ours"
    decayed = {p for group in groups if group["weight_decay"] for p in group["params"]}
    return {name for name, p in named.items() if p in decayed}


NEVER = ("norm", "bias", "embed", "lm_head", "ln_", "wte", "wpe", "shared.weight", "magnitude")
FAMILIES = {
    "gpt2": "transformer.h.0.attn.c_attn.weight",
    "gpt-neox": "gpt_neox.layers.0.attention.query_key_value.weight",
    "qwen2": "model.layers.0.self_attn.q_proj.weight",
    "gemma2": "model.layers.0.mlp.up_proj.weight",
    "t5": "encoder.block.0.layer.0.SelfAttention.q.weight",
    "bart": "model.decoder.layers.0.fc1.weight",
    "qwen3-moe": "model.layers.0.mlp.gate.weight",  # the router is a matrix like others
}
"""And a matrix of each that does decay."""
SPECIAL = {
    "gpt2": ("transformer.wpe.weight", "transformer.h.0.attn.c_attn.bias", "transformer.h.0.ln_1.weight"),
    "qwen2": ("model.layers.0.self_attn.q_proj.bias",),
    "t5": ("encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight", "shared.weight"),
    "bart": ("model.encoder.embed_positions.weight",),
}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_decays_its_hidden_matrices_and_nothing_else(family: str) -> None:
    model = tiny.random_model(families.CONFIGS[family]())
    named = dict(model.named_parameters())
    decayed = _decayed(named, optim.build(TrainingSpec(weight_decay=0.1), named, model, 0.01))
    assert FAMILIES[family] in decayed
    assert set(SPECIAL.get(family, ())) <= named.keys() - decayed
    assert [name for name in decayed if any(part in name for part in NEVER)] == []
    assert [name for name, p in named.items() if name not in decayed and p.ndim > 1 and not _table(name)] == []


def _table(name: str) -> bool:
    tables = ("embed", "lm_head", "wte", "wpe", "shared.weight", "relative_attention_bias")
    return any(table in name for table in tables)


def test_the_lengths_of_dora_do_not_decay_and_its_matrices_do() -> None:
    model, adapter = tiny.model(), Lora(LoraSpec(r=2, dora=True))
    adapter.attach(model)
    named = adapter.parameters()
    decayed = _decayed(named, optim.build(TrainingSpec(weight_decay=0.1), named, model, 0.01))
    assert decayed == {name for name in named if "magnitude" not in name}
    assert len(named) > len(decayed) > 0


def test_the_tables_of_8_bits_are_dense_at_zero_and_reach_one() -> None:
    signed, unsigned = adamw8bit.table(signed=True), adamw8bit.table(signed=False)
    for entries in (signed, unsigned):
        assert (len(entries), len(entries.unique())) == (256, 256)
        assert float(entries[-1]) == 1.0
        assert 0.0 in entries
    assert float(signed[0]) == pytest.approx(-0.9929, abs=1e-3)
    assert float(unsigned[1]) < 1e-6, "a second moment near zero must not become zero: it is divided by"


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
def test_8_bits_keep_each_value_within_its_entrys_step(count: int) -> None:
    torch.manual_seed(0)
    values = torch.randn(count) * torch.logspace(-6, 3, count)
    entries = adamw8bit.table(signed=True)
    places, scales = adamw8bit.quantise(values, entries)
    assert (places.dtype, places.numel(), scales.numel()) == (torch.uint8, count, -(-count // 256))
    back = adamw8bit.dequantise(places, scales, entries, values.shape)
    largest = scales.repeat_interleave(256)[:count]
    assert ((back - values).abs() <= 0.501 * entries.diff().max() * largest + 1e-12).all()
    assert adamw8bit.dequantise(*adamw8bit.quantise(torch.zeros(300), entries), entries, torch.Size([300])).sum() == 0


def _quadratic(optimizer_of, steps: int = 200) -> tuple[torch.nn.Parameter, list[float], object]:
    torch.manual_seed(1)
    target, weight = torch.randn(64, 128), torch.nn.Parameter(torch.zeros(64, 128))
    optimizer, losses = optimizer_of([weight]), []
    for _ in range(steps):
        loss = ((weight - target) ** 2).mean()
        losses.append(loss.item())
        weight.grad = torch.autograd.grad(loss, weight)[0]
        optimizer.step()
    return weight, losses, optimizer


def test_8_bit_adamw_follows_adamw_with_a_quarter_of_the_state() -> None:
    plain, curve, reference = _quadratic(lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.0))
    small, ours, optimizer = _quadratic(lambda p: adamw8bit.AdamW8bit(p, lr=0.02))
    assert ours[-1] < 0.02 * ours[0]
    assert max(abs(a - b) for a, b in zip(curve, ours, strict=True)) < 0.02 * curve[0]
    size = sum(v.numel() * v.element_size() for v in optimizer.state[small].values())
    whole = sum(v.numel() * v.element_size() for v in reference.state[plain].values())
    assert size < 0.26 * whole


def test_8_bit_state_put_back_goes_on_bit_for_bit() -> None:
    def trained(cut: bool) -> torch.Tensor:
        torch.manual_seed(2)
        named = {"w": torch.nn.Parameter(torch.randn(64, 128)), "b": torch.nn.Parameter(torch.randn(7))}
        spec = TrainingSpec(optimizer="adamw8bit", weight_decay=0.1)
        optimizer = optim.build(spec, named, torch.nn.Module(), 0.01)
        for step in range(6):
            if cut and step == 3:
                stored = {key: value.clone() for key, value in optimizer.state_tensors().items()}
                assert stored["exp_avg_8bit|w"].dtype == torch.uint8
                optimizer = optim.build(spec, named, torch.nn.Module(), 0.01)
                optimizer.load_state_tensors(stored)
            for p in named.values():
                p.grad = torch.sin(p.detach() * (step + 1))
            optimizer.step()
        return torch.cat([p.detach().flatten() for p in named.values()])

    assert torch.equal(trained(cut=False), trained(cut=True))


def test_adamw_is_fused() -> None:
    _, _, optimizer = _built("adamw")
    assert optimizer._parts[0].defaults["fused"] is True


def test_muon_leaves_fused_experts_to_adamw() -> None:
    named = {"experts": torch.nn.Parameter(torch.ones(2, 4, 4)), "q": torch.nn.Parameter(torch.ones(4, 4))}
    optimizer = optim.build(TrainingSpec(optimizer="muon", weight_decay=0.1), named, torch.nn.Module(), 0.01)
    kinds = [
        (type(part).__name__, [p.ndim for g in part.param_groups for p in g["params"]]) for part in optimizer._parts
    ]
    assert kinds == [("Muon", [2]), ("AdamW", [3])]
    assert optimizer._parts[1].param_groups[0]["weight_decay"] == 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_multiples_of_the_rate_stay_multiples_as_the_schedule_moves_it(kind: str) -> None:
    model = tiny.model("llama")
    model.requires_grad_(False)
    adapter = LoraSpec(r=4, lora_plus=16.0).build()
    adapter.attach(model)
    named, rates = adapter.parameters(), adapter.rates()
    assert set(rates) == {name for name in named if "lora_B" in name}
    optimizer = optim.build(TrainingSpec(optimizer=kind), named, model, 0.01, rates)
    name_of = {p: name for name, p in named.items()}
    for rate in (0.01, 0.003, 0.0):
        optimizer.learning_rate = rate
        assert optimizer.learning_rate == rate
        groups = [group for part in optimizer._parts for group in part.param_groups]
        assert len(groups) == 2
        for group in groups:
            for p in group["params"]:
                assert group["lr"] == rate * (16.0 if "lora_B" in name_of[p] else 1.0)


def test_b_moves_sixteen_times_as_far_as_a_in_its_first_step() -> None:
    """AdamW's first step is the rate, whatever the gradient: here 0.001 for A and 0.016 for B."""
    named = {name: torch.nn.Parameter(torch.ones(3, 4)) for name in ("q.lora_A.weight", "q.lora_B.weight")}
    optimizer = optim.build(TrainingSpec(weight_decay=0.0), named, torch.nn.Module(), 0.001, {"q.lora_B.weight": 16.0})
    for p in named.values():
        p.grad = torch.full_like(p, 7.0)
    optimizer.step()
    for name, far in {"q.lora_A.weight": 0.001, "q.lora_B.weight": 0.016}.items():
        torch.testing.assert_close(1 - named[name].detach(), torch.full((3, 4), far), rtol=1e-3, atol=1e-6)
