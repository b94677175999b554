"""What every adapter promises, and what LoRA's formula says."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunesmith.adapters.config import FullSpec, LayersSpec, LoraSpec
from tunesmith.adapters.full import Full
from tunesmith.adapters.lora import Lora, LoraLinear
from tunesmith.adapters.names import chosen_names, last_blocks
from tunesmith.core.errors import ConflictError, ContentError

IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])
KINDS = ("llama", "gpt2", "gemma2")


def _logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS_BL).logits


def _attached(spec: LoraSpec | None = None, kind: str = "llama") -> tuple[Any, Lora]:
    model, adapter = tiny.model(kind), Lora(spec or LoraSpec(r=4, alpha=8))
    adapter.attach(model)
    return model, adapter


def _train(model: Any, adapter: Any, steps: int = 3) -> None:
    optimizer = torch.optim.AdamW(adapter.parameters().values(), lr=0.05)
    model.train()
    for _ in range(steps):
        model(input_ids=IDS_BL, labels=IDS_BL).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval()


@pytest.mark.parametrize("kind", KINDS)
def test_a_fresh_adapter_changes_nothing(kind: str) -> None:
    before = _logits(tiny.model(kind))
    model, _ = _attached(kind=kind)
    assert torch.equal(_logits(model), before)


@pytest.mark.parametrize("kind", KINDS)
def test_training_moves_the_addition_and_leaves_the_base_bit_for_bit(kind: str) -> None:
    model, adapter = _attached(LoraSpec(r=4, alpha=8, dropout=0.1), kind)
    trained = {id(p) for p in adapter.parameters().values()}
    frozen = {n: p.detach().clone() for n, p in model.named_parameters() if id(p) not in trained}
    fresh = {n: p.detach().clone() for n, p in adapter.parameters().items()}
    before = _logits(model)
    _train(model, adapter)
    assert (_logits(model) - before).abs().max() > 1e-3
    now = dict(model.named_parameters())
    for name, weight in frozen.items():
        assert torch.equal(now[name], weight), name
        assert now[name].grad is None
    for name, parameter in adapter.parameters().items():
        assert not torch.equal(parameter, fresh[name]), name


@pytest.mark.parametrize("kind", KINDS)
def test_disabled_is_the_base_exactly_and_only_inside(kind: str) -> None:
    base = _logits(tiny.model(kind))
    model, adapter = _attached(kind=kind)
    _train(model, adapter)
    tuned = _logits(model)
    with adapter.disabled():
        assert torch.equal(_logits(model), base)
    assert torch.equal(_logits(model), tuned)
    with pytest.raises(ZeroDivisionError), adapter.disabled():
        raise ZeroDivisionError
    assert torch.equal(_logits(model), tuned), "an error inside must not leave it switched off"


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rslora", [False, True])
def test_merged_is_unmerged(kind: str, rslora: bool) -> None:
    model, adapter = _attached(LoraSpec(r=4, alpha=8, rslora=rslora), kind)
    _train(model, adapter)
    tuned = _logits(model)
    adapter.merge()
    assert not any(isinstance(m, LoraLinear) for m in model.modules())
    assert model.state_dict().keys() == tiny.model(kind).state_dict().keys()
    torch.testing.assert_close(_logits(model), tuned, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_and_loaded_is_the_same_model(kind: str, tmp_path: Path) -> None:
    model, adapter = _attached(kind=kind)
    _train(model, adapter)
    adapter.save(tmp_path, "base")
    again, other = _attached(kind=kind)
    other.load(tmp_path)
    assert torch.equal(_logits(again), _logits(model))


@pytest.mark.parametrize("r", [1, 4, 7])
def test_the_number_of_trained_parameters_is_by_formula(r: int) -> None:
    model, adapter = _attached(LoraSpec(r=r, targets=("q_proj", "v_proj", "up_proj")))
    c = model.config
    d, kv = c.hidden_size, c.hidden_size // c.num_attention_heads * c.num_key_value_heads
    wanted = c.num_hidden_layers * r * ((d + d) + (d + kv) + (d + c.intermediate_size))
    assert sum(p.numel() for p in adapter.parameters().values()) == wanted
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == wanted


def test_all_linear_is_every_linear_layer_but_the_head() -> None:
    _, adapter = _attached()
    names = {name.split(".")[-3] for name in adapter.parameters()}
    assert names == {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
    assert len(adapter.parameters()) == 2 * 2 * len(names)


@pytest.mark.parametrize(("rslora", "scale"), [(False, 6 / 9), (True, 6 / 3)])
def test_the_scale_by_hand(rslora: bool, scale: float) -> None:
    layer = LoraLinear(torch.nn.Linear(2, 1, bias=False), LoraSpec(r=9, alpha=6, rslora=rslora))
    with torch.no_grad():
        layer.base_layer.weight.copy_(torch.tensor([[10.0, 20.0]]))
        layer.lora_A.zero_()
        layer.lora_A[0] = torch.tensor([1.0, 2.0])
        layer.lora_B.zero_()
        layer.lora_B[0, 0] = 3.0
    x = torch.tensor([1.0, 1.0])
    assert math.isclose(layer(x).item(), 30 + scale * 3 * (1 + 2), rel_tol=1e-6)
    torch.testing.assert_close(layer.merged_weight() - layer.base_weight(), scale * torch.tensor([[3.0, 6.0]]))


def test_dropout_acts_in_training_only() -> None:
    model, adapter = _attached(LoraSpec(r=4, dropout=0.5))
    _train(model, adapter)
    assert torch.equal(_logits(model), _logits(model))
    model.train()
    assert not torch.equal(_logits(model), _logits(model))


def test_bf16_activations_meet_float32_additions() -> None:
    model = tiny.model().to(torch.bfloat16)
    adapter = Lora(LoraSpec(r=4))
    adapter.attach(model)
    assert {p.dtype for p in adapter.parameters().values()} == {torch.float32}
    _train(model, adapter, 1)
    assert _logits(model).dtype == torch.bfloat16


def test_unknown_targets_and_foreign_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ContentError, match="q_prj") as caught:
        _attached(LoraSpec(targets=("q_prj",)))
    assert "q_proj" in str(caught.value.mend)
    _, small = _attached(LoraSpec(r=2))
    small.save(tmp_path, "base")
    for spec in (LoraSpec(r=4), LoraSpec(r=2, targets=("q_proj",))):
        _, other = _attached(spec)
        with pytest.raises(ContentError, match="does not fit"):
            other.load(tmp_path)


def test_unknown_targets_list_the_layers_that_there_are() -> None:
    with pytest.raises(ContentError, match="nothing_like_it") as caught:
        _attached(LoraSpec(targets=("q_proj", "nothing_like_it")))
    assert all(name in str(caught.value.mend) for name in ("q_proj", "down_proj", "o_proj"))


@pytest.mark.parametrize(("targets", "most"), [("all-linear", 16), (("q_proj",), 32), (("up_proj", "v_proj"), 16)])
def test_a_rank_above_a_layers_width_is_refused(targets: Any, most: int) -> None:
    _attached(LoraSpec(r=most, targets=targets))
    model = tiny.model()
    with pytest.raises(ContentError, match=f"adapter.r is {most + 1}") as caught:
        Lora(LoraSpec(r=most + 1, targets=targets)).attach(model)
    assert f"to {most} or less" in str(caught.value.mend)
    assert not any(isinstance(m, LoraLinear) for m in model.modules()), "nothing is half done"


def test_a_gate_of_one_output_bears_any_rank() -> None:
    class Gated(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gate, self.up = torch.nn.Linear(8, 1), torch.nn.Linear(8, 8)

        def get_output_embeddings(self) -> None:
            return None

    Lora(LoraSpec(r=4)).attach(Gated())


LLAMA = [name for name, _ in tiny.model().named_parameters()]
T5 = [name for name, _ in tiny.model("t5").named_parameters()]


def test_the_last_blocks_are_those_of_the_decoder() -> None:
    assert last_blocks(LLAMA, 1) == [name for name in LLAMA if ".layers.1." in name]
    assert last_blocks(LLAMA, 2) == [name for name in LLAMA if ".layers." in name]
    assert last_blocks(T5, 2) == [n for n in T5 if n.startswith(("decoder.block.1.", "decoder.block.2."))]
    with pytest.raises(ContentError, match="has 2 blocks"):
        last_blocks(LLAMA, 3)
    with pytest.raises(ContentError, match="no numbered blocks"):
        last_blocks(["a.weight"], 1)


@pytest.mark.parametrize(
    ("pattern", "wanted"),
    [
        ("down_proj", ".mlp.down_proj."),
        ("layers.1.mlp", ".layers.1.mlp."),
        ("*.layers.[0]*.v_proj.*", ".layers.0.self_attn.v_proj."),
        ("model.norm.weight", "model.norm.weight"),
    ],
)
def test_names_are_whole_parts_or_patterns(pattern: str, wanted: str) -> None:
    found = chosen_names(LLAMA, [pattern])
    assert found
    assert found == [name for name in LLAMA if wanted in name]


def test_a_name_of_nothing_is_refused_with_the_nearest() -> None:
    for wrong in ("down_pro", "proj", "layers.7"):
        with pytest.raises(ContentError, match=wrong) as caught:
            chosen_names(LLAMA, ["q_proj", wrong])
        assert "down_proj" in str(caught.value.mend)


@pytest.mark.parametrize("given", [{}, {"last": 1, "names": ["q_proj"]}, {"last": 0}])
def test_layers_are_given_by_number_or_by_name(given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="last"):
        LayersSpec(**given)


def test_a_tied_head_is_trained_once_with_its_table() -> None:
    model, adapter = tiny.model("gpt2"), LayersSpec(names=("lm_head",)).build()
    adapter.attach(model)
    assert list(adapter.parameters()) == ["transformer.wte.weight"]


@pytest.mark.parametrize("kind", KINDS)
def test_full_trains_every_weight_saves_and_loads(kind: str, tmp_path: Path) -> None:
    model, adapter = tiny.model(kind), Full()
    adapter.attach(model)
    before = {n: p.detach().clone() for n, p in adapter.parameters().items()}
    _train(model, adapter)
    assert all(not torch.equal(p, before[n]) for n, p in adapter.parameters().items())
    with pytest.raises(ConflictError), adapter.disabled():
        pass
    adapter.save(tmp_path, "base")
    again, other = tiny.model(kind, seed=1), Full()
    other.attach(again)
    other.load(tmp_path)
    assert torch.equal(_logits(again), _logits(model))
    plain = type(model).from_pretrained(tmp_path)
    assert torch.equal(_logits(plain), _logits(model))


def test_specs_build_what_they_name() -> None:
    assert isinstance(LoraSpec().build(), Lora)
    assert isinstance(FullSpec().build(), Full)
    assert "trains_base" not in LoraSpec.model_json_schema()["properties"]


def test_fresh_dora_is_the_base_and_trains_a_length_for_each_output() -> None:
    plain = tiny.model("llama")(input_ids=torch.tensor([[1, 5, 9]])).logits
    model, adapter = _attached(LoraSpec(r=4, dora=True))
    torch.testing.assert_close(model(input_ids=torch.tensor([[1, 5, 9]])).logits, plain, rtol=0, atol=0)
    lengths = [p for name, p in adapter.parameters().items() if name.endswith("lora_magnitude_vector")]
    assert len(lengths) == len(adapter.parameters()) / 3
    assert all(p.ndim == 1 and p.requires_grad for p in lengths)
