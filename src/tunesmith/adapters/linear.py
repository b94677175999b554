"""The linear layers of a base, and those among them that a recipe names."""

from __future__ import annotations

from typing import Any

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..core.errors import ContentError, nearest
from ..models.quantize import QuantizedLinear


def linear_layers(model: Any) -> dict[str, nn.Module]:
    """Every linear layer but the vocabulary head, by its dotted name, in the model's order."""
    head = model.get_output_embeddings()
    kinds = nn.Linear | Conv1D | QuantizedLinear
    return {name: m for name, m in model.named_modules() if isinstance(m, kinds) and m is not head}


def width(layer: nn.Module) -> tuple[int, int]:
    """(out, in) of a linear layer."""
    if isinstance(layer, QuantizedLinear):
        return layer.out_features, layer.in_features
    weight: Any = layer.weight
    outputs, inputs = weight.T.shape if isinstance(layer, Conv1D) else weight.shape
    return int(outputs), int(inputs)


def leaf(name: str) -> str:
    """The last part of a dotted name."""
    return name.rpartition(".")[2]


def targeted(model: Any, targets: str | tuple[str, ...]) -> list[str]:
    """Names of the linear layers that `adapter.targets` means, in the model's order. ContentError, naming the layers
    that there are, for a name without a layer."""
    linear = linear_layers(model)
    if targets == "all-linear":
        found = list(linear)
    else:
        _require_known(model, targets, {leaf(name) for name in linear})
        found = [name for name in linear if leaf(name) in targets]
    if not found:
        raise ContentError("this base has no linear layer to adapt", mend="use adapter: {type: full}")
    return found


def require_rank(model: Any, names: list[str], r: int) -> None:
    """ContentError for a rank above the width of a layer. A gate with one output is a vector whatever the rank."""
    layers = linear_layers(model)
    narrow = {name: min(width(layers[name])) for name in names if 1 < min(width(layers[name])) < r}
    if narrow:
        name, most = min(narrow.items(), key=lambda entry: entry[1])
        out, into = width(layers[name])
        raise ContentError(
            f"adapter.r is {r}, above the width of the layer '{name}'",
            why=f"it maps {into} values to {out}, so a rank above {most} adds nothing",
            mend=f"set adapter.r to {most} or less, or name wider layers in adapter.targets",
        )


def _require_known(model: Any, targets: str | tuple[str, ...], known: set[str]) -> None:
    unknown = [target for target in targets if target not in known]
    if not unknown:
        return
    if any(name.endswith(f".{unknown[0]}") for name, p in model.named_parameters() if p.ndim == 3):
        raise ContentError(
            f"adapter.targets: '{unknown[0]}' is no linear layer in this base",
            why="a mixture's experts are fused into one tensor, which an adapter of linear layers does not reach",
            mend="adapt the attention's layers (all-linear), or use adapter: {type: full}",
        )
    raise ContentError(f"adapter.targets: the base has no linear layer '{unknown[0]}'", mend=nearest(unknown[0], known))
