"""A decoder's layers below everything that is trained: their hidden states, computed once and handed on from then.

Where padding stands on the right and every token looks back alone, what these layers make of a row depends on its own
tokens alone. So kept states are known by the row's tokens, and nobody who calls the model need number its rows. In a
pass with kept states the model's own forward runs as ever, positions and masks included; only the layers below do
nothing, and the last of them hands on what is kept.

Knows neither data nor budgets; see `engine.trunk`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from . import line
from .modes import evaluating
from .targets import is_encoder_decoder

_KEPT = "tunesmith_kept_states"
LEAST_SHARE = 0.1
"""Of a decoder's layers: fewer frozen ones bring less than they cost in memory."""
_DIFFERENCE = {torch.float32: 1e-4}
_ROUNDED = 0.05
"""Of the decoder's output, relative, between both ways; bf16 rounds by less, states in a wrong place differ by more."""
_LENGTHS = (9, 4)
"""Of the rows that both ways are tried on."""
_PADDED = 2
"""Dimensions of a mask that tells of padding alone."""


class States(Protocol):
    """Hidden states of rows, by their keys."""

    def at(self, key: bytes) -> Tensor | None:
        """[length, D] on the CPU; None where they are not kept."""


@dataclass(frozen=True)
class Trunk:
    """The lower `depth` of a decoder's layers, which nothing trained has a part in."""

    model: Any
    layers: Sequence[nn.Module]
    depth: int

    def states(self, input_ids_BL: Tensor, attention_mask_BL: Tensor) -> Tensor:
        """What they make of rows padded on the right, [B, L, D]; the layers above and the head compute nothing."""
        made: list[Tensor] = []
        hook = self.layers[self.depth - 1].register_forward_hook(lambda _, args, out: made.append(_first(out)))
        try:
            with _instead(self.layers[self.depth :], _passed):
                self._body(input_ids=input_ids_BL, attention_mask=attention_mask_BL, use_cache=False)
        finally:
            hook.remove()
        return made[0]

    @contextmanager
    def handing_on(self, hidden_BLD: Tensor) -> Iterator[None]:
        """Inside the block the layers below compute nothing and hand on these states."""
        with ExitStack() as both:
            both.enter_context(_instead(self.layers[: self.depth - 1], _passed))
            both.enter_context(_instead(self.layers[self.depth - 1 : self.depth], lambda *_, **__: hidden_BLD))
            yield

    @property
    def _body(self) -> Any:
        return self.model.base_model

    def holds(self) -> bool:
        """Whether nothing trained has a part in the states, and a model with them says what it says without; told by
        what it makes of two short rows, one by one and padded."""
        device = self.model.get_input_embeddings().weight.device
        rows = [torch.arange(1, 1 + length, device=device) for length in _LENGTHS]
        ids_BL = nn.utils.rnn.pad_sequence(rows, batch_first=True)
        mask_BL = nn.utils.rnn.pad_sequence([torch.ones_like(row) for row in rows], batch_first=True)
        alone = [self.states(row.unsqueeze(0), torch.ones_like(row).unsqueeze(0))[0] for row in rows]
        if any(states.requires_grad for states in alone):
            return False
        hidden_BLD = nn.utils.rnn.pad_sequence(alone, batch_first=True)
        asked = {"input_ids": ids_BL, "attention_mask": mask_BL, "use_cache": False}
        with torch.no_grad():
            wanted_ND = self._body(**asked).last_hidden_state[mask_BL.bool()].float()
            with self.handing_on(hidden_BLD):
                found_ND = self._body(**asked).last_hidden_state[mask_BL.bool()].float()
        near = _DIFFERENCE.get(hidden_BLD.dtype, _ROUNDED)
        return bool((found_ND - wanted_ND).norm() < near * wanted_ND.norm())


def find(model: Any) -> Trunk | None:
    """The layers of a decoder that nothing trained has a part in; None where there are none or too few, where they
    drop out or cannot be told from the rest, and where a router's loss asks for all layers."""
    if is_encoder_decoder(model) or model.base_model is model or getattr(model.config, "output_router_logits", False):
        return None
    layers = _layers(model)
    depth = _depth(layers)
    trunk = Trunk(model, layers, depth)
    if not depth or depth < LEAST_SHARE * len(layers) or _drops_out(trunk):
        return None
    try:
        with evaluating(model):
            return trunk if trunk.holds() else None
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError):  # a model of another make
        return None


def idle_layers(model: Any) -> int:
    """How many of a decoder's lower layers keep nothing for a backward pass: all that is trained lies above them, in
    layers or in the head. 0 where that cannot be told."""
    layers, head = _layers(model), model.get_output_embeddings()
    inside = {p for layer in layers for p in layer.parameters()} | set(head.parameters() if head is not None else ())
    words = set(model.get_input_embeddings().parameters())
    below = any(p.requires_grad and (p not in inside or p in words) for p in model.parameters())
    return 0 if below else _depth(layers)


@contextmanager
def keeping(trunk: Trunk, states: States) -> Iterator[None]:
    """Inside the block `run` takes the states of a row where they are kept."""
    setattr(trunk.model, _KEPT, _Kept(trunk, states))
    try:
        yield
    finally:
        delattr(trunk.model, _KEPT)


def run(model: Any, inputs: dict[str, Any], laid: dict[str, Any] | None = None) -> Any:
    """A forward pass without a cache of keys and values. Where states of some of its rows are kept, the layers below
    are computed for the other rows alone, and without gradient. `laid` are the same inputs as one line (`models.line`),
    with which the model is called then."""
    kept: _Kept | None = getattr(model, _KEPT, None)
    hidden_BLD = kept.hidden(inputs) if kept else None
    called = inputs if laid is None else laid
    with ExitStack() as both:
        both.enter_context(line.context(called))
        if kept is not None and hidden_BLD is not None:
            both.enter_context(
                kept.trunk.handing_on(hidden_BLD if laid is None else _in_line(hidden_BLD, inputs, laid))
            )
        return model(**called, use_cache=False)


def _in_line(hidden_BLD: Tensor, inputs: dict[str, Any], laid: dict[str, Any]) -> Tensor:
    """States of a batch [B, L, D] as those of its line."""
    real_BL = inputs["attention_mask"].bool()
    return line.filled(hidden_BLD[real_BL].unsqueeze(0), laid["input_ids"].shape[1])


def key(tokens_L: NDArray[np.int32]) -> bytes:
    """What the states of a row of tokens are known by."""
    return hashlib.blake2b(tokens_L.tobytes(), digest_size=16).digest()


def _keys(input_ids_BL: Tensor, attention_mask_BL: Tensor) -> list[bytes]:
    """That of each row; none where padding stands elsewhere than on the right."""
    ids_BL, mask_BL = input_ids_BL.cpu().int().numpy(), attention_mask_BL.cpu().bool().numpy()
    lengths = mask_BL.sum(1)
    if not np.array_equal(mask_BL, np.arange(mask_BL.shape[1]) < lengths[:, None]):
        return []
    return [key(row_L[:length]) for row_L, length in zip(ids_BL, lengths, strict=True)]


@dataclass(frozen=True)
class _Kept:
    """A trunk and what is kept of it."""

    trunk: Trunk
    states: States

    def hidden(self, inputs: dict[str, Any]) -> Tensor | None:
        """States [B, L, D] for a call with these inputs; None where none of its rows is kept, or it is no plain one."""
        embeddings = self.trunk.model.get_input_embeddings()
        plain = inputs.keys() == {"input_ids", "attention_mask"} and inputs["attention_mask"].ndim == _PADDED
        if not plain or embeddings._forward_hooks:  # noise on embeddings (NEFTune): no two passes are alike
            return None
        ids_BL, mask_BL = inputs["input_ids"], inputs["attention_mask"]
        found = [self.states.at(one) for one in _keys(ids_BL, mask_BL)]
        first = next((one for one in found if one is not None), None)
        if first is None:
            return None
        hidden_BLD = torch.zeros(*ids_BL.shape, first.shape[-1], dtype=first.dtype)
        for row_LD, one in zip(hidden_BLD, found, strict=True):
            if one is not None:
                row_LD[: len(one)] = one
        hidden_BLD = hidden_BLD.to(ids_BL.device)
        missing = [number for number, one in enumerate(found) if one is None]
        if missing:
            longest = int(mask_BL[missing].sum(1).max())
            with torch.no_grad():
                made = self.trunk.states(ids_BL[missing, :longest], mask_BL[missing, :longest])
            hidden_BLD[missing, :longest] = made.to(hidden_BLD.dtype)
        return hidden_BLD


def _layers(model: Any) -> Sequence[nn.Module]:
    """The decoder's layers in their order; none where there is no one list of them."""
    count = getattr(model.config.get_text_config(), "num_hidden_layers", 0)
    lists: list[nn.ModuleList] = []

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(child, nn.ModuleList):
                lists.append(child)
            else:
                walk(child)

    walk(model)
    fitting = [one for one in lists if len(one) == count]
    return list(fitting[0]) if len(fitting) == 1 else []


def _depth(layers: Sequence[nn.Module]) -> int:
    """How many of the lowest layers have nothing trained inside."""
    learning = (any(parameter.requires_grad for parameter in layer.parameters()) for layer in layers)
    return next((number for number, learns in enumerate(learning) if learns), len(layers))


def _drops_out(trunk: Trunk) -> bool:
    """Whether something below, or around the layers, is drawn at random in training; told by its name."""
    above = {module for layer in trunk.layers[trunk.depth :] for module in layer.modules()}
    return any(
        (isinstance(module, nn.Dropout) and module.p > 0)
        or any("drop" in name and isinstance(value, float) and value > 0 for name, value in vars(module).items())
        for module in trunk.model.modules()
        if module not in above
    )


@contextmanager
def _instead(layers: Sequence[nn.Module], forward: Callable[..., Any]) -> Iterator[None]:
    """Inside the block these layers do something else."""
    own = [vars(layer).get("forward") for layer in layers]
    for layer in layers:
        layer.forward = forward
    try:
        yield
    finally:
        for layer, before in zip(layers, own, strict=True):
            if before is None:
                del layer.forward
            else:
                layer.forward = before


def _passed(hidden_states: Tensor, *_: Any, **__: Any) -> Tensor:
    return hidden_states


def _first(out: Any) -> Tensor:
    """A layer's hidden states, which some give with more behind them."""
    found: Tensor = out[0] if isinstance(out, tuple) else out
    return found
