"""The contract of every adapter, over the whole table and three families of bases.

What a way cannot do on a base is a ContentError, and that is part of the contract too.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.adapters.base import Adapter
from tunesmith.adapters.config import (
    ADAPTERS,
    AdapterBase,
    BitFitSpec,
    BottleneckSpec,
    FullSpec,
    Ia3Spec,
    LayersSpec,
    LoraSpec,
    PrefixSpec,
    PromptSpec,
    PTuningSpec,
    VeraSpec,
)
from tunesmith.core.errors import ConflictError, ContentError
from tunesmith.inference.generate import Sampling, generate
from tunesmith.models.head import labelled
from tunesmith.models.refs import Base
from tunesmith.models.size import Size

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, not of what is tested
    peft = pytest.importorskip("peft")

# PEFT asks transformers 5 a question that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])
KINDS = ("llama", "gpt2", "gemma2")
SPECS: dict[str, Any] = {
    "lora": LoraSpec(r=4, alpha=8),
    "lora rank-stabilised": LoraSpec(r=9, alpha=6, rslora=True),
    "dora": LoraSpec(r=4, alpha=8, dora=True),
    "lora+": LoraSpec(r=4, alpha=8, lora_plus=16.0),
    "qlora nf4": LoraSpec(r=4, alpha=8, quantize="nf4"),
    "qlora int8": LoraSpec(r=4, alpha=8, quantize="int8"),
    "qdora int8": LoraSpec(r=4, alpha=8, quantize="int8", dora=True),
    "full": FullSpec(),
    "last block": LayersSpec(last=1),
    "named layers": LayersSpec(names=("*.1.mlp.*",)),
    "bitfit": BitFitSpec(),
    "ia3": Ia3Spec(),
    "vera": VeraSpec(r=12),
    "houlsby": BottleneckSpec(style="houlsby", width=6),
    "pfeiffer": BottleneckSpec(width=5, activation="relu"),
    "prompt": PromptSpec(tokens=3),
    "p-tuning": PTuningSpec(tokens=3, width=10),
    "p-tuning lstm": PTuningSpec(tokens=3, width=10, encoder="lstm"),
    "prefix": PrefixSpec(tokens=3),
    "prefix projected": PrefixSpec(tokens=3, projection=True, width=10),
}
REFUSED = {
    ("bitfit", "llama"): "biases", ("bitfit", "gemma2"): "biases",
    ("prefix", "gemma2"): "whole text", ("prefix projected", "gemma2"): "whole text",
}  # fmt: skip
CASES = [(name, kind) for name in SPECS for kind in KINDS]
every_case = pytest.mark.parametrize(("name", "kind"), [case for case in CASES if case not in REFUSED])
CHANGES_AT_ONCE = ("prompt", "p-tuning", "p-tuning lstm", "prefix", "prefix projected")
"""Ways that promise no zero effect at the start."""
IN_PEFT = ("lora", "lora rank-stabilised", "dora", "lora+", "ia3", "vera", *CHANGES_AT_ONCE)


def _logits(model: Any, ids: torch.Tensor = IDS_BL) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=ids).logits


def _attached(name: str, kind: str) -> tuple[Any, Adapter]:
    if "nf4" in name:
        pytest.importorskip("bitsandbytes")
    model, adapter = tiny.model(kind), SPECS[name].build()
    torch.manual_seed(4)
    adapter.attach(model)
    return model, adapter


def _train(model: Any, adapter: Adapter, steps: int = 3) -> None:
    """As the engine does: labelled positions alone, `models.head`."""
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.05)
    model.train()
    for _ in range(steps):
        said = labelled(model, IDS_BL, torch.ones_like(IDS_BL), torch.ones(IDS_BL.shape))
        said.losses().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


def _trained(name: str, kind: str) -> tuple[Any, Adapter]:
    model, adapter = _attached(name, kind)
    _train(model, adapter)
    return model, adapter


def test_every_way_of_the_table_is_here() -> None:
    assert {spec.type for spec in SPECS.values()} == set(ADAPTERS)
    assert all(type(spec) is ADAPTERS[spec.type] for spec in SPECS.values())


@pytest.mark.parametrize(("name", "kind"), REFUSED)
def test_what_cannot_be_is_refused(name: str, kind: str) -> None:
    with pytest.raises(ContentError, match=REFUSED[name, kind]) as caught:
        _attached(name, kind)
    assert caught.value.mend


@every_case
def test_as_many_parameters_as_the_formula_says(name: str, kind: str, tmp_path: Path) -> None:
    tiny.base_folder(tmp_path, kind)
    size = Size.of(Base("x", tmp_path))
    adapter = _attached(name, kind)[1]
    real = tiny.model(kind, vocabulary=size.vocabulary)
    other = SPECS[name].build()
    other.attach(real)
    counted = sum(p.numel() for p in other.parameters().values())
    assert counted == SPECS[name].trained(size)
    assert counted == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert set(adapter.rates()) <= set(adapter.parameters())


@every_case
def test_a_fresh_one_changes_nothing_where_that_is_promised(name: str, kind: str) -> None:
    before = _logits(tiny.model(kind))
    model, adapter = _attached(name, kind)
    if name in CHANGES_AT_ONCE:
        assert (_logits(model) - before).abs().max() > 1e-3
    elif SPECS[name].type == "lora" and SPECS[name].quantize:
        assert (_logits(model) - before).abs().max() > 0, "the base is held as it was"
        with adapter.disabled():
            before = _logits(model)
        assert torch.equal(_logits(model), before)
    else:
        assert torch.equal(_logits(model), before)


@every_case
def test_training_moves_all_that_is_trained_and_leaves_the_rest_bit_for_bit(name: str, kind: str) -> None:
    model, adapter = _attached(name, kind)
    trained = {id(p) for p in adapter.parameters().values()}
    frozen = {n: t.detach().clone() for n, t in _tensors(model) if id(t) not in trained}
    fresh = {n: p.detach().clone() for n, p in adapter.parameters().items()}
    assert {p.dtype for p in adapter.parameters().values()} == {torch.float32}
    before = _logits(model)
    _train(model, adapter)
    assert (_logits(model) - before).abs().max() > 1e-3
    for n, tensor in _tensors(model):
        if n in frozen:
            assert torch.equal(tensor, frozen[n]), n
    # A bias of keys moves no softmax, and no text has a word of every row or place of a table.
    still = [n for n, p in adapter.parameters().items() if torch.equal(p, fresh[n])]
    assert still == []


def _tensors(model: Any) -> Iterator[tuple[str, torch.Tensor]]:
    yield from model.named_parameters()
    yield from model.named_buffers()


@every_case
def test_gradient_reaches_every_trained_parameter(name: str, kind: str) -> None:
    model, adapter = _attached(name, kind)
    _train(model, adapter, 1)  # what stands behind a zero gets none before
    model(input_ids=IDS_BL, labels=IDS_BL).loss.backward()
    without = [n for n, p in adapter.parameters().items() if p.grad is None or not p.grad.abs().max() > 0]
    assert without == []


@every_case
def test_disabled_is_the_base_exactly_and_only_inside(name: str, kind: str) -> None:
    model, adapter = _attached(name, kind)
    base = _logits(tiny.model(kind))
    assert adapter.keeps_base == SPECS[name].keeps_base
    if not adapter.keeps_base:
        with pytest.raises(ConflictError), adapter.disabled():
            pass
        return
    if SPECS[name].type == "lora" and SPECS[name].quantize:
        base = _logits(model)  # fresh: the quantised base
    _train(model, adapter)
    tuned = _logits(model)
    with adapter.disabled():
        assert torch.equal(_logits(model), base)
    assert torch.equal(_logits(model), tuned)
    with pytest.raises(ZeroDivisionError), adapter.disabled():
        raise ZeroDivisionError
    assert torch.equal(_logits(model), tuned), "an error inside must not leave it switched off"
    assert all(p.requires_grad for p in adapter.parameters().values())


@every_case
def test_the_base_can_be_asked_between_a_loss_and_its_gradients(name: str, kind: str) -> None:
    """As rehearsal and preference losses do."""
    if not SPECS[name].keeps_base:
        return
    found = []
    for asks in (False, True):
        model, adapter = _trained(name, kind)
        loss = model(input_ids=IDS_BL, labels=IDS_BL).loss
        if asks:
            with adapter.disabled():
                _logits(model)
        loss.backward()
        found.append({n: p.grad.clone() for n, p in adapter.parameters().items()})
    for n, gradient in found[0].items():
        assert torch.equal(gradient, found[1][n]), n


@every_case
def test_saved_and_loaded_is_the_same_model(name: str, kind: str, tmp_path: Path) -> None:
    model, adapter = _trained(name, kind)
    adapter.save(tmp_path, "base")
    again, other = _attached(name, kind)
    assert not torch.equal(_logits(again), _logits(model))
    other.load(tmp_path)
    assert torch.equal(_logits(again), _logits(model))
    assert {p.suffix for p in tmp_path.iterdir()} <= {".json", ".safetensors"}
    twice = tmp_path / "twice"
    twice.mkdir()
    other.save(twice, "base")
    for file in twice.iterdir():
        assert file.read_bytes() == (tmp_path / file.name).read_bytes(), file.name


@every_case
def test_a_folder_of_another_size_is_refused(name: str, kind: str, tmp_path: Path) -> None:
    _, adapter = _attached(name, kind)
    adapter.save(tmp_path, "base")
    larger = tiny.config(kind)
    larger.hidden_size, larger.num_hidden_layers = 64, 3
    if hasattr(larger, "layer_types"):
        larger.layer_types = [*larger.layer_types, "full_attention"]
    other = SPECS[name].build()
    other.attach(tiny.random_model(larger))
    with pytest.raises(RuntimeError if name == "full" else ContentError, match=r"fit|size mismatch"):
        other.load(tmp_path)


@every_case
def test_merged_is_unmerged_or_refused(name: str, kind: str) -> None:
    model, adapter = _trained(name, kind)
    tuned = _logits(model)
    if SPECS[name].cannot_merge:
        with pytest.raises(ContentError, match="merged"):
            adapter.merge()
        assert torch.equal(_logits(model), tuned)
        return
    adapter.merge()
    plain = tiny.model(kind)
    assert model.state_dict().keys() == plain.state_dict().keys()
    assert {n: type(m) for n, m in model.named_modules()} == {n: type(m) for n, m in plain.named_modules()}
    torch.testing.assert_close(_logits(model), tuned, rtol=1e-4, atol=1e-4)


@every_case
def test_batches_padded_on_the_left_are_answered_as_rows_alone(name: str, kind: str) -> None:
    model, adapter = _trained(name, kind)
    prompts = [[1, 5, 9, 13, 17, 21, 30, 31, 32, 33, 34, 35, 36], [1, 90], [1, 7, 8, 9, 10, 44]]
    sampling, ends = Sampling(max_tokens=12), {"pad_id": 0, "stop_ids": {2}}
    together = generate(model, prompts, sampling, **ends)
    alone = [generate(model, [prompt], sampling, **ends)[0] for prompt in prompts]
    assert together == alone
    whole = [*prompts[1]]
    for token in alone[1].token_ids:
        assert int(_logits(model, torch.tensor([whole]))[0, -1].argmax()) == token, "the cache says something else"
        whole.append(token)
    if adapter.keeps_base:
        with adapter.disabled():
            base = generate(model, prompts, sampling, **ends)
        assert base != together, "the adapter does nothing in generation"


@every_case
def test_padding_on_the_right_changes_no_logit(name: str, kind: str) -> None:
    model, _ = _trained(name, kind)
    row = IDS_BL[:1, :4]
    padded, mask = torch.cat([row, torch.zeros_like(row)], dim=1), torch.tensor([[1] * 4 + [0] * 4])
    with torch.no_grad():
        together = model(input_ids=padded, attention_mask=mask, use_cache=False).logits[:, :4]
    torch.testing.assert_close(together, _logits(model, row), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("name", "kind"), [(n, k) for n, k in CASES if n in IN_PEFT and (n, k) not in REFUSED])
def test_the_folder_loads_in_peft_with_the_same_logits(name: str, kind: str, tmp_path: Path) -> None:
    model, adapter = _trained(name, kind)
    adapter.save(tmp_path, "some/base")
    loaded = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path).eval()
    theirs = _logits(loaded)[:, -IDS_BL.shape[1] :]
    torch.testing.assert_close(theirs, _logits(model), rtol=1e-5, atol=1e-5)


@every_case
def test_it_can_be_told_in_a_report(name: str, kind: str) -> None:
    spec: AdapterBase = SPECS[name]
    assert spec.told()
    assert "\n" not in spec.told()
    assert 0 < spec.auto_rate <= 0.01
