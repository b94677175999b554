"""IA3 through PEFT (Liu et al. 2022, arXiv 2205.05638, section 3.3): l_k * K, l_v * V, and l_ff * the inner
activations of a feed-forward part. Families that keep queries, keys and values in one layer have all three scaled;
of a mixture of experts, whose feed-forward parts are fused into one tensor, keys and values alone.
"""

from __future__ import annotations

from typing import Any

from peft import IA3Config
from peft.tuners.ia3 import IA3Model
from transformers.pytorch_utils import Conv1D

from ..core.errors import ContentError, nearest
from . import folders
from .config_inside import IA3_INPUTS, IA3_OUTPUTS, Ia3Spec
from .injected import Injected
from .linear import leaf, linear_layers


def ia3(spec: Ia3Spec) -> Injected:
    """IA3 behind the adapter seam."""
    return Injected(IA3Model, lambda model: _config(spec, model))


def _config(spec: Ia3Spec, model: Any) -> IA3Config:
    layers = linear_layers(model)
    inputs = _found(spec.inputs, IA3_INPUTS, layers)
    outputs = [name for name in _found(spec.outputs, IA3_OUTPUTS, layers) if name not in inputs]
    if not outputs + inputs:
        raise ContentError(
            "IA3 does not know this base's layers", why=f"it has none of {', '.join(IA3_OUTPUTS + IA3_INPUTS)}",
            mend=f"name them in adapter.outputs and adapter.inputs; {nearest('', {leaf(name) for name in layers})}",
        )  # fmt: skip
    return IA3Config(
        task_type=folders.task_type(model), target_modules=outputs + inputs, feedforward_modules=inputs,
        fan_in_fan_out=isinstance(next(iter(layers.values())), Conv1D),
    )  # fmt: skip


def _found(wanted: tuple[str, ...], usual: tuple[str, ...], layers: dict[str, Any]) -> list[str]:
    """Those of the names that the base has layers of; ContentError for a wanted name without one."""

    def there(name: str) -> bool:
        return any(f".{layer}".endswith(f".{name}") for layer in layers)

    known = {leaf(layer) for layer in layers}
    for name in wanted:
        if not there(name):
            raise ContentError(f"adapter: the base has no linear layer '{name}'", mend=nearest(name, known))
    return [name for name in wanted or usual if there(name)]
