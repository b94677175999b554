"""What a training step computes in our own way is what the plain way computes, for values and for gradients."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import tiny
from tunesmith.adapters import lowrank
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora
from tunesmith.models import fast
from tunesmith.models.head import Spoken, Unspoken, labelled
from tunesmith.models.kernels import attention, norm, products, token_losses

CASES = {"fp32": (torch.float32, 1e-5), "bf16": (torch.bfloat16, 1e-2)}


def apart(found: Tensor, wanted: Tensor) -> float:
    """Length of the difference, relative to what is wanted."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


def drawn(*shape: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("at_once", [1, 1 << 30], ids=["one by one", "together"])
@pytest.mark.parametrize("length", [64, 83])
@pytest.mark.parametrize("masked", ["causal", "true and false", "added"])
def test_attention_and_its_gradients(masked: str, length: int, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SCORES_AT_ONCE", at_once)
    monkeypatch.setattr(attention, "QUERIES_AT_ONCE", 30)
    batch, heads, shared, width = 3, 6, 2, 8
    given = [drawn(batch, n, length, width, dtype=torch.bfloat16, seed=n) for n in (heads, shared)]
    query, key, value = (one.requires_grad_() for one in (*given, drawn(*given[1].shape, dtype=torch.bfloat16, seed=9)))
    back = drawn(*query.shape, dtype=torch.bfloat16, seed=4)
    seen = torch.ones(length, length, dtype=torch.bool).tril().repeat(batch, 1, 1, 1)
    seen[1, 0, 7:, 2:5] = False
    seen = seen | torch.eye(length, dtype=torch.bool)
    mask: Any = {"causal": None, "true and false": seen}.get(masked, torch.zeros(seen.shape).masked_fill(~seen, -1e9))
    mask = mask.bfloat16() if masked == "added" else mask

    found = attention.heard(query, key, value, mask, 0.3)
    moved = torch.autograd.grad(found, (query, key, value), back)
    wide = [one.detach().double().requires_grad_() for one in (query, key, value)]
    heard = {"is_causal": True} if mask is None else {"attn_mask": mask if masked != "added" else mask.double()}
    wanted = F.scaled_dot_product_attention(*wide, scale=0.3, enable_gqa=True, **heard)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(wanted, wide, back.double())
    assert apart(found, wanted) < 1e-2
    assert max(map(apart, moved, gradients)) < 1e-2


@pytest.mark.parametrize("padded", ["right", "left"])
def test_padding_on_the_right_needs_no_mask_and_on_the_left_one(padded: str) -> None:
    model = tiny.model("llama").bfloat16()
    ids = torch.randint(3, 90, (2, 12), generator=torch.Generator().manual_seed(1))
    real = torch.ones(2, 12, dtype=torch.long)
    real[1, slice(8, None) if padded == "right" else slice(4)] = 0
    wanted = model(ids, attention_mask=real).logits[real.bool()]
    fast.hasten(model)
    found = model(ids, attention_mask=real).logits[real.bool()]
    assert apart(found, wanted) < 1e-2
    made = attention.mask(batch_size=2, q_length=12, kv_length=12, attention_mask=real.bool())
    assert (made is None) == (padded == "right")


@pytest.mark.parametrize("case", CASES)
def test_a_norm_and_its_gradients(case: str) -> None:
    dtype, near = CASES[case]
    x, weight = drawn(2, 5, 32, dtype=dtype).requires_grad_(), drawn(32, dtype=dtype, seed=1).requires_grad_()
    back = drawn(2, 5, 32, dtype=dtype, seed=2)
    found = norm._Norm.apply(x, weight, 1e-5)
    moved = torch.autograd.grad(found, (x, weight), back)
    wide = [x.detach().double().requires_grad_(), weight.detach().double().requires_grad_()]
    wanted = F.rms_norm(wide[0], (32,), wide[1], 1e-5)
    gradients = torch.autograd.grad(wanted, wide, back.double())
    assert apart(found, wanted) < near
    assert max(map(apart, moved, gradients)) < near


def test_only_norms_that_compute_the_same_are_replaced() -> None:
    llama, gemma = tiny.model("llama"), tiny.model("gemma2")  # Gemma's weight stands for 1 + weight
    assert norm.replace(llama) == 2 * llama.config.num_hidden_layers + 1
    assert norm.replace(gemma) == 0


@pytest.mark.parametrize("case", CASES)
def test_losses_of_a_few_tokens_at_a_time(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(token_losses, "TOKENS_AT_ONCE", 7)
    dtype, near = CASES[case]
    hidden, head = drawn(20, 16, dtype=dtype).requires_grad_(), torch.nn.Linear(16, 90, dtype=dtype)
    tokens, weight = torch.arange(20) * 4, drawn(20, seed=3)
    found = Unspoken(hidden, head).at(torch.arange(20)).losses(tokens)
    given = (hidden, head.weight, head.bias)
    moved = torch.autograd.grad((found * weight).sum(), given)
    wide = [one.detach().double().requires_grad_() for one in given]
    wanted = Spoken(F.linear(*wide)).losses(tokens)
    gradients = torch.autograd.grad((wanted * weight).sum(), wide)
    assert found.dtype == torch.float32
    assert apart(found, wanted) < near
    assert max(map(apart, moved, gradients)) < near
    assert [one.dtype for one in moved] == [dtype] * 3


def test_losses_of_a_frozen_head_need_no_logits_again(monkeypatch: pytest.MonkeyPatch) -> None:
    hidden, head = drawn(9, 16).requires_grad_(), torch.nn.Linear(16, 90, bias=False).requires_grad_(False)
    found = Unspoken(hidden, head).losses(torch.arange(9))
    monkeypatch.setattr(token_losses, "_said", None)
    found.sum().backward()
    assert hidden.grad is not None


def test_under_autocast_products_are_in_bf16_and_gradients_in_float32() -> None:
    hidden, head = drawn(9, 16).requires_grad_(), torch.nn.Linear(16, 90)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = Unspoken(hidden, head).losses(torch.arange(9))
    moved = torch.autograd.grad(found.sum(), (hidden, head.weight, head.bias))
    plain = Unspoken(hidden, head).losses(torch.arange(9))
    wanted = torch.autograd.grad(plain.sum(), (hidden, head.weight, head.bias))
    assert 0 < apart(found, plain) < 1e-2
    assert max(map(apart, moved, wanted)) < 1e-2
    assert [one.dtype for one in moved] == [torch.float32] * 3


@pytest.mark.parametrize("kind", ["llama", "gemma2", "t5"])
def test_no_logits_are_made_where_the_model_does_nothing_behind_its_head(kind: str) -> None:
    model = tiny.model(kind)
    model.requires_grad_(False)
    ids = torch.randint(3, 90, (2, 9), generator=torch.Generator().manual_seed(1))
    weight = torch.ones(2, 9)
    weight[1, 6:] = 0
    wanted = labelled(model, ids, torch.ones_like(ids), weight)
    fast.hasten(model)
    found = labelled(model, ids, torch.ones_like(ids), weight)
    assert isinstance(found.said, Unspoken if kind == "llama" else Spoken)  # Gemma 2 caps its logits
    assert apart(found.losses(), wanted.losses()) < 1e-6
    assert apart(found.losses(0.1), wanted.losses(0.1)) < 1e-6
    assert apart(found.said.logits(), wanted.said.logits()) < 1e-6


def test_a_head_that_learns_keeps_its_gradient() -> None:
    model = tiny.model("llama")
    fast.hasten(model)
    ids = torch.randint(3, 90, (1, 9), generator=torch.Generator().manual_seed(1))
    labelled(model, ids, torch.ones_like(ids), torch.ones(1, 9)).losses().sum().backward()
    assert model.get_output_embeddings().weight.grad.abs().sum() > 0


@pytest.mark.parametrize("rows", [7, 513, 1100, 1500])
def test_a_product_in_parts_is_the_product(rows: int) -> None:
    many, matrix = drawn(rows, 24, dtype=torch.bfloat16), drawn(24, 8, dtype=torch.bfloat16, seed=1)
    assert apart(products.product(many, matrix), many.double() @ matrix.double()) < 1e-2
    assert torch.equal(products.product(many.float(), matrix.float()), many.float() @ matrix.float())


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize("case", CASES)
def test_a_layer_with_its_addition_and_its_gradients(case: str, biased: bool) -> None:
    dtype, near = CASES[case]
    x, weight = drawn(2, 5, 24, dtype=dtype).requires_grad_(), drawn(40, 24, dtype=dtype, seed=1)
    bias = drawn(40, dtype=dtype, seed=5) if biased else None
    down, up = drawn(4, 24, seed=2).requires_grad_(), drawn(40, 4, seed=3).requires_grad_()
    back = drawn(2, 5, 40, dtype=dtype, seed=4)
    found = lowrank.adapted(x, weight, bias, down, up, 0.7)
    moved = torch.autograd.grad(found, (x, down, up), back)
    wide = [one.detach().double().requires_grad_() for one in (x, down, up)]
    wanted = F.linear(wide[0], weight.double(), None if bias is None else bias.double())
    wanted = wanted + 0.7 * F.linear(F.linear(wide[0], wide[1]), wide[2])
    gradients = torch.autograd.grad(wanted, wide, back.double())
    assert apart(found, wanted) < near
    assert max(map(apart, moved, gradients)) < near
    assert [one.dtype for one in moved] == [dtype, torch.float32, torch.float32]


def test_a_step_in_bf16_goes_through_all_of_it_and_gives_the_gradients_of_the_plain_way() -> None:
    """Every adapter's gradient, by our way and by transformers' and torch's."""
    found: list[dict[str, Tensor]] = []
    for way in ("plain", "ours"):
        model = tiny.model("llama").bfloat16()
        if way == "ours":
            fast.hasten(model)
        torch.manual_seed(3)
        adapter = Lora(LoraSpec(r=4, alpha=8))
        adapter.attach(model)
        with torch.no_grad():
            for parameter in adapter.parameters().values():
                parameter.add_(drawn(*parameter.shape, seed=6), alpha=0.1)
        ids = torch.randint(3, 90, (3, 21), generator=torch.Generator().manual_seed(1))
        real = torch.ones_like(ids)
        real[2, 15:] = 0
        weight = real.float()
        labelled(model, ids, real, weight).losses().sum().backward()
        found.append({name: one.grad for name, one in adapter.parameters().items() if one.grad is not None})
    assert found[0].keys() == found[1].keys()
    assert len(found[0]) == len(adapter.parameters())
    plain, ours = (torch.cat([one.flatten() for one in way.values()]) for way in found)
    assert float(torch.cosine_similarity(plain, ours, dim=0)) > 0.999


def test_numbers_of_rows_recur() -> None:
    filled = {rows: rows + products.spare(rows) for rows in range(1, 4000)}
    assert len({filled[rows] for rows in range(1000, 2000)}) <= 18
    assert all(after % products.GRAIN == 0 and after <= max(rows + 15, rows * 1.125) for rows, after in filled.items())


def test_tokens_that_fill_a_product_up_change_nothing() -> None:
    hidden, head = drawn(37, 16, dtype=torch.bfloat16).requires_grad_(), torch.nn.Linear(16, 90, dtype=torch.bfloat16)
    whole = Unspoken(hidden, head).losses(torch.arange(37))
    moved = torch.autograd.grad(whole.sum(), (hidden, head.weight, head.bias))
    single = [Unspoken(hidden[at : at + 1], head).losses(torch.tensor([at])) for at in range(37)]
    wanted = torch.autograd.grad(torch.cat(single).sum(), (hidden, head.weight, head.bias))
    assert apart(whole, torch.cat(single)) < 1e-2
    assert max(map(apart, moved, wanted)) < 1e-2


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 7, 64, 65])
def test_few_rows_are_multiplied_the_other_way_and_are_the_same(
    rows: int, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(products, "_foreign", lambda: True)
    layer, x = nn.Linear(24, 40, bias=bias), torch.randn(rows, 1, 24)
    taken: list[Any] = []
    monkeypatch.setattr(torch, "mm", lambda *given, mm=torch.mm: taken.append(given) or mm(*given))
    with torch.inference_mode():
        found = products.linear(layer, x)
        assert torch.allclose(found, F.linear(x, layer.weight, layer.bias), atol=1e-6)
    assert found.is_contiguous()
    assert bool(taken) == (1 < rows < 65)
    learned = products.linear(layer, x)
    assert learned.requires_grad, "what learns is computed as ever"


def test_a_layer_with_a_hook_or_of_another_kind_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_foreign", lambda: True)
    hooked, own, narrow = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4).bfloat16()
    hooked.register_forward_hook(lambda *_: torch.zeros(1))
    own.forward = lambda _: torch.ones(1)
    x = torch.randn(3, 4)
    with torch.inference_mode():
        assert products.linear(hooked, x).tolist() == [0]
        assert products.linear(own, x).tolist() == [1]
        assert products.linear(nn.Identity(), x) is x
        assert products.linear(narrow, x.bfloat16()).dtype == torch.bfloat16
