"""Our LoRA against PEFT's on the same tensors: the same function, the same gradients, the same files."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from tunesmith.adapters.config import LoraSpec
from tunesmith.adapters.lora import Lora

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of its imports, not of what is tested
    peft = pytest.importorskip("peft")

# PEFT asks transformers 5 a question that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
SPECS = {
    "all linear": LoraSpec(r=4, alpha=8),
    "two targets": LoraSpec(r=3, alpha=12, targets=("q_proj", "down_proj")),
    "rank-stabilised": LoraSpec(r=9, alpha=6, rslora=True),
    "weight-decomposed": LoraSpec(r=4, alpha=8, dora=True),
}
spec_case = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])


def _ours(spec: LoraSpec, kind: str = "llama") -> tuple[Any, Lora]:
    """A model with our LoRA, B no longer zero."""
    model, adapter = tiny.model(kind), Lora(spec)
    torch.manual_seed(5)
    adapter.attach(model)
    with torch.no_grad():
        for name, parameter in adapter.parameters().items():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
            elif "magnitude" in name:
                parameter.mul_(1 + 0.2 * torch.rand_like(parameter))
    return model, adapter


def _peft_name(name: str) -> str:
    """A parameter's name inside PEFT's model, which differs from the one in its files."""
    return f"{name.removesuffix('.weight')}.default.weight"


def _theirs(spec: LoraSpec, adapter: Lora, kind: str = "llama") -> Any:
    """The same model with PEFT's LoRA, holding the same numbers."""
    targets = "all-linear" if spec.targets == "all-linear" else list(spec.targets)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        r=spec.r,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        target_modules=targets,
    )
    model = peft.get_peft_model(tiny.model(kind), config)
    mine = {_peft_name(name): p for name, p in adapter.parameters().items()}
    named = dict(model.named_parameters())
    assert {n for n in named if "lora_" in n} == set(mine), "they adapt other layers"
    with torch.no_grad():
        for name, parameter in mine.items():
            named[name].copy_(parameter)
    return model


@spec_case
def test_forward_and_gradients_are_those_of_peft(spec: LoraSpec) -> None:
    model, adapter = _ours(spec)
    theirs = _theirs(spec, adapter)
    plain = tiny.model()(input_ids=IDS_BL).logits
    logits, logits_peft = model(input_ids=IDS_BL).logits, theirs(input_ids=IDS_BL).logits
    assert (logits - plain).abs().max() > 0.1, "the adapters do nothing, so equality would prove nothing"
    torch.testing.assert_close(logits, logits_peft, rtol=1e-6, atol=2e-6)

    for out in (logits, logits_peft):
        out[:, :-1].log_softmax(-1).gather(-1, IDS_BL[:, 1:, None]).mean().backward()
    named = dict(theirs.named_parameters())
    for name, parameter in adapter.parameters().items():
        gradient = named[_peft_name(name)].grad
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 0, name
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-5, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize(
    ("kind", "name"), [("llama", name) for name in SPECS] + [("gemma2", "two targets"), ("gpt2", "all linear")]
)
def test_what_we_save_peft_loads_unchanged(kind: str, name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    model, adapter = _ours(spec, kind)
    adapter.save(tmp_path, "some/base")
    loaded = peft.PeftModel.from_pretrained(tiny.model(kind), tmp_path)
    wanted = model(input_ids=IDS_BL).logits
    assert (wanted - tiny.model(kind)(input_ids=IDS_BL).logits).abs().max() > 1e-3
    torch.testing.assert_close(loaded(input_ids=IDS_BL).logits, wanted, rtol=1e-6, atol=2e-6)


@spec_case
def test_what_peft_saves_we_load_unchanged(spec: LoraSpec, tmp_path: Path) -> None:
    _, numbers = _ours(spec)
    theirs = _theirs(spec, numbers)
    theirs.save_pretrained(tmp_path)
    model, adapter = tiny.model(), Lora(spec)
    adapter.attach(model)
    adapter.load(tmp_path)
    torch.testing.assert_close(model(input_ids=IDS_BL).logits, theirs(input_ids=IDS_BL).logits, rtol=1e-6, atol=2e-6)


@spec_case
def test_both_write_the_same_names_shapes_and_settings(spec: LoraSpec, tmp_path: Path) -> None:
    _, adapter = _ours(spec)
    theirs = _theirs(spec, adapter)
    (tmp_path / "ours").mkdir()
    adapter.save(tmp_path / "ours", "")
    theirs.save_pretrained(tmp_path / "theirs")
    stored = [load_file(tmp_path / who / "adapter_model.safetensors") for who in ("ours", "theirs")]
    assert stored[0].keys() == stored[1].keys()
    for name, tensor in stored[0].items():
        assert torch.equal(tensor, stored[1][name]), name
    configs = [json.loads((tmp_path / who / "adapter_config.json").read_text("utf-8")) for who in ("ours", "theirs")]
    for config in configs:
        config["target_modules"] = {name.rpartition(".")[2] for name in config["target_modules"]}
        config.pop("base_model_name_or_path")
    assert configs[0] == {key: configs[1][key] for key in configs[0]}


@pytest.mark.parametrize("name", ["all linear", "weight-decomposed"])
def test_peft_merges_to_the_same_weights_as_we_do(name: str) -> None:
    spec = SPECS[name]
    model, adapter = _ours(spec)
    merged = _theirs(spec, adapter).merge_and_unload()
    adapter.merge()
    ours, theirs = model.state_dict(), merged.state_dict()
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        torch.testing.assert_close(tensor, theirs[name], rtol=1e-6, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")
