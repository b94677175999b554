"""Bottleneck adapters beside the papers' drawings, worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import tiny
from tunesmith.adapters.config import BottleneckSpec

IDS_BL = torch.tensor([[1, 5, 9, 13, 17, 21], [1, 90, 80, 70, 60, 2]])


def _loud(kind: str, spec: BottleneckSpec) -> tuple[Any, dict[str, Tensor]]:
    """A model whose adapters do much, and their parameters."""
    model, adapter = tiny.model(kind), spec.build()
    torch.manual_seed(4)
    adapter.attach(model)
    with torch.no_grad():
        for parameter in adapter.parameters().values():
            parameter.normal_(std=0.3)
    return model, {name: p.detach() for name, p in adapter.parameters().items()}


def _bottleneck(h: Tensor, part: dict[str, Tensor], place: str) -> Tensor:
    inner = F.relu(h @ part[f"{place}.down.weight"].T + part[f"{place}.down.bias"])
    return h + inner @ part[f"{place}.up.weight"].T + part[f"{place}.up.bias"]


@pytest.mark.parametrize("style", ["houlsby", "pfeiffer"])
@pytest.mark.parametrize("kind", ["llama", "gemma2"])
def test_they_stand_behind_the_sublayers_inside_the_residuals(kind: str, style: Any) -> None:
    model, part = _loud(kind, BottleneckSpec(style=style, width=5, activation="relu"))
    assert {name.split(".")[2] for name in part} == ({"attention", "mlp"} if style == "houlsby" else {"mlp"})
    places: dict[str, Tensor] = {}
    block = model.get_decoder().layers[1]

    def remember(name: str) -> Any:
        def hook(_: Any, args: Any, given: Any, output: Any) -> None:
            places[f"{name} in"] = args[0] if args else given["hidden_states"]
            places[f"{name} out"] = output[0] if isinstance(output, tuple) else output

        return hook

    watched = {"block": block, "attention": block.self_attn, "mlp": block.mlp}
    watched |= {"o_proj": block.self_attn.o_proj, "down_proj": block.mlp.down_proj}
    for name, module in watched.items():
        module.register_forward_hook(remember(name), with_kwargs=True)
    with torch.no_grad():
        model(input_ids=IDS_BL)
        attention, mlp = places["o_proj out"], _bottleneck(places["down_proj out"], part, "layers.1.mlp")
        if style == "houlsby":
            attention = _bottleneck(attention, part, "layers.1.attention")
        torch.testing.assert_close(places["attention out"], attention, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(places["mlp out"], mlp, rtol=1e-5, atol=1e-5)
        if kind == "gemma2":  # which normalises what a sublayer gives, adapter and all, before it is added
            attention, mlp = block.post_attention_layernorm(attention), block.post_feedforward_layernorm(mlp)
        torch.testing.assert_close(places["block out"], places["block in"] + attention + mlp, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("activation", "function"), [("gelu", F.gelu), ("relu", F.relu), ("silu", F.silu)])
def test_the_nonlinearity_is_the_one_asked_for(activation: Any, function: Any) -> None:
    from tunesmith.adapters.bottleneck import BottleneckLayer

    layer = BottleneckLayer(2, BottleneckSpec(width=1, activation=activation), torch.device("cpu"))
    with torch.no_grad():
        layer.down.weight.copy_(torch.tensor([[1.0, -2.0]]))
        layer.up.weight.copy_(torch.tensor([[3.0], [0.5]]))
        layer.up.bias.copy_(torch.tensor([0.0, 1.0]))
    h = torch.tensor([4.0, 1.0])  # D h = 2
    inner = float(function(torch.tensor(2.0)))
    torch.testing.assert_close(layer(h).detach(), torch.tensor([4 + 3 * inner, 1 + 0.5 * inner + 1]))
