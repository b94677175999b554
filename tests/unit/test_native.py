"""What is computed in C, and batches as one line: the same values and gradients as by the plain way."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.config_virtual import PrefixSpec, PromptSpec
from tunesmith.adapters.lora import Lora
from tunesmith.models import fast, line
from tunesmith.models.head import labelled, labelled_packed
from tunesmith.models.kernels import attention, gated, native, norm, rotary, token_losses
from tunesmith.models.pooling import scored

compiled = pytest.mark.skipif(native.library() is None, reason="no C compiler here")
MEANS = {"unit": native.UNIT, "vectors": native.VECTORS}
in_blocks = pytest.mark.skipif(not native.attention_by(), reason="no means for blocks of products here")
NEAR = 1e-2


def apart(found: Tensor, wanted: Tensor) -> float:
    """Length of the difference, relative to what is wanted."""
    found, wanted = found.detach().double(), wanted.detach().double()
    return float((found - wanted).norm() / wanted.norm())


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed)).bfloat16()


def moved_by(out: Tensor, given: list[Tensor], back: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(out, given, back)


def doubles(*given: Tensor) -> list[Tensor]:
    return [one.detach().double().requires_grad_() for one in given]


@compiled
@pytest.mark.parametrize("width", [32, 83])
def test_norm(width: int) -> None:
    x, weight, back = drawn(3, 7, width).requires_grad_(), drawn(width, seed=1), drawn(3, 7, width, seed=2)
    found = norm._Norm.apply(x, weight, 1e-5)
    wide = doubles(x)
    wanted = F.rms_norm(wide[0], (width,), weight.double(), 1e-5)
    assert apart(found, wanted) < NEAR
    assert apart(moved_by(found, [x], back)[0], moved_by(wanted, wide, back.double())[0]) < NEAR


@compiled
def test_gated_layer_also_where_numbers_are_large() -> None:
    gate, up = (20 * drawn(3, 7, 41)).requires_grad_(), drawn(3, 7, 41, seed=1).requires_grad_()
    back = drawn(3, 7, 41, seed=2)
    found = gated.gated(gate, up)
    wide = doubles(gate, up)
    wanted = F.silu(wide[0]) * wide[1]
    pairs = zip(moved_by(found, [gate, up], back), moved_by(wanted, wide, back.double()), strict=True)
    assert apart(found, wanted) < NEAR
    assert max(apart(*pair) for pair in pairs) < NEAR


@compiled
@pytest.mark.parametrize("rows", [1, 3])
def test_rotary_positions(rows: int) -> None:
    x, back = drawn(3, 7, 2, 16).transpose(1, 2).requires_grad_(), drawn(3, 2, 7, 16, seed=1)
    cosine, sine = (drawn(rows, 7, 16, seed=n).float() for n in (2, 3))
    found = rotary._Rotated.apply(x, cosine, sine)
    wide = doubles(x)
    first, second = wide[0].chunk(2, -1)
    wanted = wide[0] * cosine.unsqueeze(1) + torch.cat((-second, first), -1) * sine.unsqueeze(1)
    assert apart(found, wanted) < NEAR
    assert apart(moved_by(found, [x], back)[0], moved_by(wanted, wide, back.double())[0]) < NEAR


@compiled
def test_token_losses_and_their_gradient() -> None:
    hidden, weight, tokens = 3 * drawn(9, 16), drawn(90, 16, seed=1), torch.arange(9) * 10
    losses, rise = token_losses._said(hidden, weight, None, tokens, True)
    only, none = token_losses._said(hidden, weight, None, tokens, False)
    wide = F.linear(hidden, weight).double().requires_grad_()
    wanted = F.cross_entropy(wide, tokens, reduction="none")
    assert rise is not None
    assert none is None
    assert apart(losses, wanted) < 1e-5
    assert torch.equal(losses, only)
    assert apart(rise, torch.autograd.grad(wanted.sum(), wide)[0]) < NEAR


@pytest.fixture(params=MEANS)
def means(request: pytest.FixtureRequest) -> Iterator[None]:
    """What blocks of products are made by; the best there is once more afterwards."""
    found, best = native.library(), native.attention_by()
    if found is None or MEANS[request.param] > best:
        pytest.skip("no such means here")
    assert found.attention_by(MEANS[request.param]) == MEANS[request.param]
    yield
    found.attention_by(best)


SHAPES = [(3, 6, 2, 64, 32), (3, 6, 2, 83, 64), (1, 4, 4, 32, 128), (2, 8, 1, 300, 96), (1, 3, 3, 17, 256)]


@pytest.mark.usefixtures("means")
@pytest.mark.parametrize("masked", ["causal", "true and false", "added"])
@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "x".join(map(str, shape)))
def test_attention_in_blocks(shape: tuple[int, ...], masked: str) -> None:
    batch, heads, shared, length, width = shape
    query = drawn(batch, length, heads, width, seed=1).transpose(1, 2).requires_grad_()
    key = drawn(batch, shared, length, width, seed=2).requires_grad_()
    value = drawn(batch, length, shared, width, seed=3).transpose(1, 2).requires_grad_()
    back = drawn(batch, heads, length, width, seed=4)
    seen = torch.ones(length, length, dtype=torch.bool).tril().repeat(batch, 1, 1, 1)
    if masked != "causal":
        seen[-1, 0, 7:, 2:5] = False
        seen |= torch.eye(length, dtype=torch.bool)
    mask: Any = {"causal": None, "true and false": seen}.get(masked, torch.zeros(seen.shape).masked_fill(~seen, -1e9))
    found = attention.heard(query, key, value, mask if masked != "added" else mask.bfloat16(), 0.1)
    wide = doubles(query, key, value)
    wanted = F.scaled_dot_product_attention(*wide, attn_mask=seen, scale=0.1, enable_gqa=True)
    pairs = zip(moved_by(found, [query, key, value], back), moved_by(wanted, wide, back.double()), strict=True)
    assert apart(found, wanted) < NEAR
    assert max(apart(*pair) for pair in pairs) < NEAR


@pytest.mark.usefixtures("means")
def test_sequences_of_a_line_see_themselves_alone() -> None:
    lengths = (5, 33, 1, 64)
    given = [drawn(1, sum(lengths), n, 32, seed=n).transpose(1, 2).requires_grad_() for n in (4, 2)]
    given.append(drawn(*given[1].shape, seed=9).requires_grad_())
    back = drawn(*given[0].shape, seed=7)
    found = attention.heard(*given, None, 0.2, lengths)
    moved = moved_by(found, given, back)
    at = 0
    for length in lengths:
        part = [one.detach()[:, :, at : at + length].double().requires_grad_() for one in given]
        wanted = F.scaled_dot_product_attention(*part, is_causal=True, scale=0.2, enable_gqa=True)
        gradients = moved_by(wanted, part, back[:, :, at : at + length].double())
        assert apart(found[:, :, at : at + length], wanted) < NEAR
        # A token that sees itself alone moves nothing but its value.
        told = zip(moved, gradients, strict=True) if length > 1 else [(moved[2], gradients[2])]
        assert max(apart(one[:, :, at : at + length], other) for one, other in told) < NEAR
        at += length


@in_blocks
def test_results_do_not_depend_on_the_number_of_threads() -> None:
    found = []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        given = [drawn(3, n, 70, 32, seed=n).requires_grad_() for n in (4, 2)]
        given.append(drawn(*given[1].shape, seed=9).requires_grad_())
        out = attention.heard(*given, None, 0.2)
        x = drawn(50, 64).requires_grad_()
        normal = norm._Norm.apply(x, drawn(64, seed=1), 1e-5)
        found.append([out, *moved_by(out, given, drawn(*out.shape)), normal, *moved_by(normal, [x], drawn(50, 64))])
    torch.set_num_threads(1)
    assert all(map(torch.equal, *found))


@compiled
def test_what_is_no_number_stays_none() -> None:
    x = drawn(2, 3, 32)
    x[1, 1, 4] = torch.nan
    x.requires_grad_()
    normal = norm._Norm.apply(x, drawn(32, seed=1), 1e-5)
    assert normal.isnan().any(-1).tolist() == [[False] * 3, [False, True, False]]
    assert gated.gated(x, drawn(2, 3, 32, seed=1).requires_grad_()).isnan().sum() == 1
    losses, rise = token_losses._said(x[1].detach(), drawn(9, 32), None, torch.arange(3), True)
    assert losses.isnan().tolist() == [False, True, False]
    assert rise is not None
    assert rise[1].isnan().any()
    if native.attention_by():
        query = x.detach()[None].requires_grad_()
        # What nobody sees is multiplied by 0, so a block of queries has it everywhere: it is not lost.
        assert attention.heard(query, query, query, None, 0.2).isnan().any(-1).tolist()[0][1][1:] == [True, True]


# Where there is no compiler.


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A cache folder of its own, and nothing remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for one in (native.library, native.attention_by):
        one.cache_clear()
    yield tmp_path
    for one in (native.library, native.attention_by):
        one.cache_clear()


def compiler(folder: Path, text: str) -> None:
    made = folder / "cc"
    made.write_text(f"#!/bin/sh\n{text}\n", "utf-8")
    made.chmod(made.stat().st_mode | stat.S_IXUSR)


@compiled
def test_it_is_compiled_once(fresh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert native.library() is not None
    (made,) = (fresh / "cache/tunesmith/kernels").iterdir()
    before = made.stat().st_mtime_ns
    native.library.cache_clear()
    assert native.library() is not None
    assert [one.stat().st_mtime_ns for one in (fresh / "cache/tunesmith/kernels").iterdir()] == [before]


@pytest.mark.parametrize("way", ["not wanted", "no compiler", "a compiler that fails", "a folder that is a file"])
def test_without_it_torch_computes_the_same(fresh: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if way == "not wanted":
        monkeypatch.setenv("TUNESMITH_KERNELS", "torch")
    elif way == "a folder that is a file":
        (fresh / "cache").write_text("", "utf-8")
    else:
        monkeypatch.setenv("PATH", str(fresh))
        if way == "a compiler that fails":
            compiler(fresh, f": > {fresh}/asked; exit 1")
    assert native.library() is None
    assert not native.attention_by()
    assert not native.usable(drawn(1))
    assert (fresh / "asked").exists() == (way == "a compiler that fails")
    assert not list(fresh.glob("cache/tunesmith/kernels/*"))
    x = drawn(2, 3, 32).requires_grad_()
    assert apart(norm._Norm.apply(x, drawn(32, seed=1), 1e-5), F.rms_norm(x, (32,), drawn(32, seed=1), 1e-5)) < NEAR
    model = tiny.model("llama").bfloat16()
    fast.hasten(model)
    assert line.laid(model, {"input_ids": torch.ones(1, 3).long(), "attention_mask": torch.ones(1, 3)}, x > 0) is None


# Batches as one line.


def model_of(kind: str = "llama", **changed: Any) -> Any:
    """A tiny model whose heads are computed in blocks."""
    from transformers import AutoModelForCausalLM

    config = tiny.config(kind)
    config.head_dim = 32
    for name, value in changed.items():
        setattr(config, name, value)
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config, attn_implementation="sdpa").bfloat16()
    fast.hasten(model)
    return model


def batch() -> tuple[Tensor, Tensor, Tensor]:
    ids = torch.randint(3, 90, (3, 21), generator=torch.Generator().manual_seed(1))
    real = torch.ones_like(ids)
    real[1, 4:] = 0
    real[2, 15:] = 0
    return ids, real, real.float()


def learned(model: Any, said: Any) -> Tensor:
    """All gradients as one vector."""
    said.losses().sum().backward()
    found = torch.cat([one.grad.flatten().float() for one in model.parameters() if one.grad is not None])
    model.zero_grad()
    return found


@in_blocks
def test_a_line_gives_the_losses_and_gradients_of_rows() -> None:
    model = model_of()
    ids, real, weight = batch()
    rows: list[Tensor] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: rows.append(given[0]))
    said = labelled(model, ids, real, weight)
    ours = learned(model, said)
    line.forget(model)
    plain = labelled(model, ids, real, weight)
    assert [tuple(one.shape) for one in rows] == [(1, 21 + 4 + 15 + 8), (3, 21)]
    assert torch.equal(said.tokens_N, plain.tokens_N)
    assert apart(said.losses(), plain.losses()) < NEAR
    assert apart(ours, learned(model, plain)) < 2 * NEAR


@in_blocks
def test_a_model_with_a_head_of_its_own_reads_lines_too() -> None:
    from transformers import AutoModelForSequenceClassification

    config = tiny.config("llama")
    config.head_dim, config.num_labels = 32, 3
    torch.manual_seed(0)
    model: Any = AutoModelForSequenceClassification.from_config(config, attn_implementation="sdpa").bfloat16()
    model.score.float()
    fast.hasten(model)
    ids, real, _ = batch()
    last = torch.arange(3) * 21 + real.sum(1) - 1
    rows: list[Tensor] = []
    model.get_input_embeddings().register_forward_hook(lambda _, given, __: rows.append(given[0]))
    found = []
    for _ in range(2):
        scores = scored(model, {"input_ids": ids, "attention_mask": real}, last[[2, 0, 1]])
        scores.pow(2).sum().backward()
        found.append((scores, torch.cat([p.grad.flatten().float() for p in model.parameters() if p.grad is not None])))
        model.zero_grad()
        line.forget(model)
    assert [tuple(one.shape) for one in rows] == [(1, 48), (3, 21)]
    assert apart(found[0][0], found[1][0]) < NEAR
    assert apart(found[0][1], found[1][1]) < 2 * NEAR


@in_blocks
def test_a_line_with_checkpointed_activations() -> None:
    model = model_of()
    wanted = learned(model, labelled(model, *batch()))
    model.train()
    new = hasattr(model, "activation_checkpointing_enable")  # transformers renamed it within 5
    name = "activation_checkpointing" if new else "gradient_checkpointing"
    getattr(model, f"{name}_enable")(**{f"{name}_kwargs": {"use_reentrant": False}})
    assert torch.equal(learned(model, labelled(model, *batch())), wanted)


@in_blocks
def test_packed_rows_are_lines_too() -> None:
    model = model_of()
    ids, real, weight = batch()
    packed = torch.cat([row[: int(there.sum())] for row, there in zip(ids, real, strict=True)])
    places = torch.cat([torch.arange(int(there.sum())) for there in real])
    loss = (places > 0).float()
    lines: list[Any] = []
    model.model.layers[0].register_forward_pre_hook(
        lambda _, __, named: lines.append(named["line_lengths"]), with_kwargs=True
    )
    found = labelled_packed(model, packed[None], places[None], loss[None])
    assert lines == [(21, 4, 15, 8)]
    assert apart(found.losses(), labelled(model, ids, real, weight).losses()) < NEAR


@in_blocks
@pytest.mark.parametrize("autocast", [False, True])
def test_float32_weights_need_autocast(autocast: bool) -> None:
    model = model_of().float()
    ids, real, weight = batch()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = line.laid(model, {"input_ids": ids, "attention_mask": real}, weight > 0)
    assert (found is not None) == autocast


@in_blocks
def test_a_window_shorter_than_a_sequence_keeps_rows() -> None:
    model = model_of(sliding_window=16)
    ids, real, weight = batch()
    assert line.laid(model, {"input_ids": ids, "attention_mask": real}, weight > 0) is None
    assert line.laid(model, {"input_ids": ids[1:, :15], "attention_mask": real[1:, :15]}, weight[1:, :15] > 0)


@in_blocks
def test_a_model_that_looks_at_its_neighbours_otherwise_keeps_rows() -> None:
    model = model_of()
    assert getattr(model, line._BEARS)
    first = model.model.layers[0].mlp
    plain = first.forward
    first.forward = lambda x: plain(x) + x.roll(1, dims=1)
    line.note(model, lambda asked: model(**asked, use_cache=False).logits)
    assert not getattr(model, line._BEARS)


@in_blocks
@pytest.mark.parametrize("spec", [PromptSpec(tokens=3), PrefixSpec(tokens=3)], ids=["prompt", "prefix"])
def test_virtual_tokens_keep_rows(spec: Any) -> None:
    model = model_of()
    spec.build().attach(model)
    assert (
        line.laid(model, dict(zip(("input_ids", "attention_mask"), batch()[:2], strict=True)), batch()[2] > 0) is None
    )


@in_blocks
def test_low_rank_layers_learn_the_same_in_a_line() -> None:
    model = model_of()
    adapter = Lora(LoraSpec(r=4, alpha=8))
    adapter.attach(model)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.add_(drawn(*parameter.shape, seed=6), alpha=0.1)
    ours = learned(model, labelled(model, *batch()))
    line.forget(model)
    assert apart(ours, learned(model, labelled(model, *batch()))) < 2 * NEAR


def test_only_what_computes_the_same_is_replaced() -> None:
    llama, gemma, gpt2 = tiny.model("llama"), tiny.model("gemma2"), tiny.model("gpt2")
    assert gated.replace(llama) == llama.config.num_hidden_layers
    assert gated.replace(gemma) == 0  # GELU
    assert gated.replace(gpt2) == rotary.replace(gpt2) == 0
    assert os.environ.get("TUNESMITH_KERNELS") is None
