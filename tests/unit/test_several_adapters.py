"""Several LoRAs on one base: switching, weighted sums, merging; beside PEFT's own."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.adapters.config import Ia3Spec, LoraSpec
from tunesmith.adapters.several import Several
from tunesmith.core.errors import ConflictError, ContentError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, not of what is tested
    peft = pytest.importorskip("peft")

pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])
KINDS = ("llama", "gpt2", "gemma2")
every_kind = pytest.mark.parametrize("kind", KINDS)
MIX = {"a": 0.7, "b": 0.3}


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS_BL).logits


def _folder(path: Path, kind: str, spec: Any, seed: int) -> tuple[Path, torch.Tensor]:
    """A trained adapter's folder, and the logits that it gives."""
    model, adapter = tiny.model(kind), spec.build()
    torch.manual_seed(seed)
    adapter.attach(model)
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.05)
    for _ in range(3):
        model(input_ids=IDS_BL.roll(seed, 0), labels=IDS_BL.roll(seed, 1)).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    path.mkdir()
    adapter.save(path, "base")
    return path, _logits(model)


def _two(folder: Path, kind: str) -> tuple[Any, Several, dict[str, torch.Tensor]]:
    """Of different ranks, scales and layers."""
    names = ("q_proj", "down_proj") if kind != "gpt2" else ("c_attn",)
    specs = {"a": LoraSpec(r=4, alpha=8), "b": LoraSpec(r=3, alpha=6, rslora=True, targets=names)}
    model, wanted = tiny.model(kind), {}
    several = Several(model)
    for seed, (name, spec) in enumerate(specs.items()):
        path, wanted[name] = _folder(folder / name, kind, spec, seed)
        several.load(name, path)
    return model, several, wanted


@every_kind
def test_each_by_its_name_and_none(kind: str, tmp_path: Path) -> None:
    model, several, wanted = _two(tmp_path, kind)
    base = _logits(tiny.model(kind))
    assert several.names == ["a", "b"]
    assert torch.equal(_logits(model), base), "none is on at first"
    for name in ("a", "b", "a"):
        several.use(name)
        torch.testing.assert_close(_logits(model), wanted[name], rtol=1e-5, atol=1e-5)
        assert (_logits(model) - base).abs().max() > 1e-3
    several.use(None)
    assert torch.equal(_logits(model), base)


@every_kind
def test_a_weighted_sum_is_the_base_and_the_weighted_differences(kind: str, tmp_path: Path) -> None:
    model, several, _ = _two(tmp_path, kind)
    several.use(MIX)
    mixed = _logits(model)
    plain = tiny.model(kind)
    sums = {name: weight.clone() for name, weight in plain.state_dict().items()}
    for name, share in MIX.items():
        one = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path / name).merge_and_unload().state_dict()
        for key, weight in plain.state_dict().items():
            sums[key] = sums[key] + share * (one[key] - weight)
    plain.load_state_dict(sums)
    torch.testing.assert_close(mixed, _logits(plain), rtol=1e-4, atol=1e-4)


@every_kind
def test_a_weighted_sum_is_what_peft_calls_cat(kind: str, tmp_path: Path) -> None:
    model, several, _ = _two(tmp_path, kind)
    several.use(MIX)
    theirs = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path / "a", adapter_name="a")
    theirs.load_adapter(tmp_path / "b", adapter_name="b")
    theirs.add_weighted_adapter(["a", "b"], [0.7, 0.3], "mix", combination_type="cat")
    theirs.set_adapter("mix")
    torch.testing.assert_close(_logits(model), _logits(theirs.eval()), rtol=1e-5, atol=1e-5)


@every_kind
@pytest.mark.parametrize("wanted", ["a", MIX], ids=["one", "sum"])
def test_merged_is_unmerged_and_the_base_comes_back_bit_for_bit(kind: str, wanted: Any, tmp_path: Path) -> None:
    model, several, _ = _two(tmp_path, kind)
    before = {n: p.detach().clone() for n, p in model.named_parameters()}
    several.use(wanted)
    apart = _logits(model)
    several.merge()
    torch.testing.assert_close(_logits(model), apart, rtol=1e-4, atol=1e-4)
    assert any(not torch.equal(p, before[n]) for n, p in model.named_parameters())
    for act in (several.merge, lambda: several.use("b"), lambda: several.load("c", tmp_path / "a")):
        with pytest.raises(ConflictError, match="merged"):
            act()
    several.unmerge()
    assert all(torch.equal(p, before[n]) for n, p in model.named_parameters())
    assert torch.equal(_logits(model), apart)
    with pytest.raises(ConflictError):
        several.unmerge()


def test_what_cannot_share_a_base_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    model, several, wanted = _two(tmp_path, "llama")
    several.use("a")
    dora, _ = _folder(tmp_path / "dora", "llama", LoraSpec(r=2, dora=True), 3)
    ia3, _ = _folder(tmp_path / "ia3", "llama", Ia3Spec(), 3)
    other, _ = _folder(tmp_path / "other", "gpt2", LoraSpec(r=2), 3)
    narrow, _ = _folder(tmp_path / "narrow", "llama", LoraSpec(r=2, targets=("k_proj",)), 3)
    config = json.loads((narrow / "adapter_config.json").read_text("utf-8"))
    (narrow / "adapter_config.json").write_text(json.dumps(config | {"rank_pattern": {"k_proj": 1}}), "utf-8")
    for folder, word in {dora: "use_dora", ia3: "IA3", other: "fit", narrow: "rank_pattern"}.items():
        with pytest.raises(ContentError) as caught:
            several.load("c", folder)
        assert word in str(caught.value)
    with pytest.raises(ConflictError, match="loaded already"):
        several.load("a", tmp_path / "a")
    with pytest.raises(ContentError, match="'c'"):
        several.use({"a": 1.0, "c": 1.0})
    with pytest.raises(ContentError, match="cannot read"):
        several.load("c", tmp_path / "nowhere")
    assert several.names == ["a", "b"]
    torch.testing.assert_close(_logits(model), wanted["a"], rtol=1e-5, atol=1e-5)
