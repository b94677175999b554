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
    "last block": LoraSpec(r=4, alpha=8, targets=("q_proj", "down_proj"), last=1),
}
spec_case = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS.keys())
IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])


def _base(kind: str, number_type: torch.dtype) -> Any:
    """A tiny base; biases and norms that are not what they start as, so that none can be left out unseen."""
    from transformers import Qwen2Config

    llama = tiny.config("llama")
    sizes = ("vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads",
             "num_key_value_heads", "max_position_embeddings")  # fmt: skip
    config = Qwen2Config(**{name: getattr(llama, name) for name in sizes}) if kind == "qwen2" else tiny.config(kind)
    model = tiny.random_model(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("bias"):
                parameter.normal_(std=0.3)
    return model.to(number_type)


def _ours(
    spec: LoraSpec, kind: str = "llama", number_type: torch.dtype = torch.float32
) -> tuple[Any, Lora]:  # fmt: skip
    """A model with our LoRA, B no longer zero."""
    model, adapter = _base(kind, number_type), Lora(spec)
    torch.manual_seed(5)
    adapter.attach(model)
    for parameter in adapter.parameters().values():
        parameter.data = parameter.data.to(number_type)
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


def _theirs(spec: LoraSpec, adapter: Lora, kind: str = "llama", number_type: torch.dtype = torch.float32) -> Any:
    """The same model with PEFT's LoRA, holding the same numbers."""
    targets = "all-linear" if spec.targets == "all-linear" else list(spec.targets)
    config = peft.LoraConfig(
        task_type="CAUSAL_LM",
        fan_in_fan_out=kind == "gpt2",
        r=spec.r,
        lora_alpha=spec.alpha,
        use_rslora=spec.rslora,
        use_dora=spec.dora,
        target_modules=targets,
        layers_to_transform=[1] if spec.last else None,
        layers_pattern="layers" if spec.last else None,
    )
    model = peft.get_peft_model(_base(kind, number_type), config).to(number_type)
    mine = {_peft_name(name): p for name, p in adapter.parameters().items()}
    named = dict(model.named_parameters())
    assert {n for n in named if "lora_" in n} == set(mine), "they adapt other layers"
    with torch.no_grad():
        for name, parameter in mine.items():
            named[name].copy_(parameter)
    return model


EXACT = [("llama", name) for name in SPECS]
EXACT += [(kind, name) for kind in ("qwen2", "gpt2") for name in ("all linear", "rank-stabilised", "weight-decomposed")]


@pytest.mark.parametrize(("kind", "name"), EXACT)
def test_forward_and_gradients_are_those_of_peft_in_float64(kind: str, name: str) -> None:
    spec = SPECS[name]
    model, adapter = _ours(spec, kind, torch.float64)
    theirs = _theirs(spec, adapter, kind, torch.float64)
    logits, logits_peft = model(input_ids=IDS_BL).logits, theirs(input_ids=IDS_BL).logits
    plain = _base(kind, torch.float64)(input_ids=IDS_BL).logits
    assert logits.dtype == torch.float64
    assert (logits - plain).abs().max() > 0.1, "the adapters do nothing, so equality would prove nothing"
    torch.testing.assert_close(logits, logits_peft, rtol=0, atol=1e-6)
    for out in (logits, logits_peft):
        out[:, :-1].log_softmax(-1).gather(-1, IDS_BL[:, 1:, None]).sum().backward()
    named = dict(theirs.named_parameters())
    for name, parameter in adapter.parameters().items():
        assert parameter.grad is not None
        assert parameter.grad.abs().max() > 1e-3, name
        gradient = named[_peft_name(name)].grad
        torch.testing.assert_close(parameter.grad, gradient, rtol=0, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


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
    ("kind", "name"),
    [("llama", name) for name in SPECS]
    + [("gemma2", "two targets"), ("gpt2", "all linear")]
    + [("gpt2", "weight-decomposed"), ("qwen2", "weight-decomposed")],
)
def test_what_we_save_peft_loads_unchanged(kind: str, name: str, tmp_path: Path) -> None:
    spec = SPECS[name]
    model, adapter = _ours(spec, kind)
    adapter.save(tmp_path, "some/base")
    loaded = peft.PeftModel.from_pretrained(_base(kind, torch.float32), tmp_path)
    wanted = model(input_ids=IDS_BL).logits
    assert (wanted - _base(kind, torch.float32)(input_ids=IDS_BL).logits).abs().max() > 1e-3
    torch.testing.assert_close(loaded(input_ids=IDS_BL).logits, wanted, rtol=1e-6, atol=2e-6)


def test_peft_loads_the_last_blocks_of_a_family_that_names_them_otherwise(tmp_path: Path) -> None:
    model, adapter = _ours(LoraSpec(r=4, last=1), "gpt2")
    adapter.save(tmp_path, "some/base")
    loaded = peft.PeftModel.from_pretrained(_base("gpt2", torch.float32), tmp_path)
    assert {name for name, _ in loaded.named_parameters() if "lora_" in name} == set(
        map(_peft_name, adapter.parameters())
    )
    torch.testing.assert_close(loaded(input_ids=IDS_BL).logits, model(input_ids=IDS_BL).logits, rtol=1e-6, atol=2e-6)


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
