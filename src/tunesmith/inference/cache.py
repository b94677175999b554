"""A key-value cache with room ahead: a new token is written into its place, and what stands is not copied again.

transformers' own cache makes new tensors of keys and values at every token, which for a small model costs more than the
model does.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

_ROOM = 64
"""Tokens of room that are made at least; and half as many again as stand, so that all copies together stay linear."""


def cache(config: Any) -> DynamicCache:
    """An empty cache for a decoder. Layers that see a window, or are no plain attention, stay transformers' own."""
    made = DynamicCache(config=config)
    made.layers = [Roomy() if type(layer) is DynamicLayer else layer for layer in made.layers]
    if not made.layers:  # it makes its layers as the model asks for them
        made.layer_class_to_replicate = Roomy
    return made


class Roomy(DynamicLayer):  # type: ignore[misc]  # transformers says no types
    """Keys and values [B, heads, L, width] are views of tensors with room for more tokens."""

    keys: Tensor
    values: Tensor
    _keys: Tensor
    _values: Tensor

    def update(self, key_states: Tensor, value_states: Tensor, *_: Any, **__: Any) -> tuple[Tensor, Tensor]:
        """Write the new tokens behind the old; all that stand, of keys and of values."""
        before = self.get_seq_length()
        after = before + key_states.shape[-2]
        if not before:
            self.lazy_initialization(key_states, value_states)
        if not before or after > self._keys.shape[-2]:
            self._keys, self._values = (
                _with_room(old, new, before, after)
                for old, new in ((self.keys, key_states), (self.values, value_states))
            )
        self._keys[..., before:after, :] = key_states
        self._values[..., before:after, :] = value_states
        self._show(after)
        return self.keys, self.values

    def batch_select_indices(self, indices: Tensor) -> None:
        """Go on with these rows."""
        if length := self.get_seq_length():
            self._keys, self._values = self._keys[indices], self._values[indices]
            self._show(length)

    def _show(self, length: int) -> None:
        self.keys, self.values = self._keys[..., :length, :], self._values[..., :length, :]


def _with_room(old: Tensor, new: Tensor, before: int, after: int) -> Tensor:
    """A tensor for what stands and what comes, with what stands in it."""
    made = new.new_empty((*new.shape[:-2], after + max(_ROOM, after // 2), new.shape[-1]))
    if before:
        made[..., :before, :] = old
    return made
