"""One step of generation for each kind of model: the next token's logits from what stands, with a key-value cache.

They know models and caches; how a token is chosen and when a row ends is `generate`'s.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
from torch import Tensor
from transformers import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput

from ..models.head import without_router_loss
from ..models.targets import is_encoder_decoder, start_id
from .cache import cache
from .llama import is_shaped, step


class Stepper(Protocol):
    """Rows that are answered together."""

    def logits(self) -> Tensor:
        """Logits of each row's next token [B, vocabulary] in float32. Once for each `append`."""

    def keep(self, places_B: Tensor) -> None:
        """Go on with these rows only."""

    def append(self, tokens_B: Tensor) -> None:
        """The token chosen for each row."""


def stepper(model: Any, prompts: Sequence[Sequence[int]], pad_id: int) -> Stepper:
    """The one that fits the model."""
    return (EncoderDecoder if is_encoder_decoder(model) else DecoderOnly)(model, prompts, pad_id)


class DecoderOnly:
    """Prompt and answer in one line, padded on the left so that the next token is last in every row."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int):
        self._model = model
        self._ids_BL, self._mask_BL = padded(model, prompts, pad_id, left=True)
        self._positions_BL = (self._mask_BL.cumsum(1) - 1).clamp(min=0)
        self._cache = cache(model.config)
        # The routers' loss is for training; and of one token behind a cache it cannot be taken.
        self._quiet = without_router_loss(model)
        self._shaped = is_shaped(model, self._cache)

    def logits(self) -> Tensor:
        """The first call reads the prompts."""
        if self._shaped and self._cache.get_seq_length():
            return step(self._model, self._ids_BL, self._positions_BL, self._mask_BL, self._cache).float()
        logits_BLV: Tensor = self._model(
            input_ids=self._ids_BL, attention_mask=self._mask_BL, position_ids=self._positions_BL,
            past_key_values=self._cache, use_cache=True, logits_to_keep=1, **self._quiet,
        ).logits  # fmt: skip
        return logits_BLV[:, -1].float()

    def keep(self, places_B: Tensor) -> None:
        """Of cache, mask and positions."""
        self._cache.batch_select_indices(places_B)
        self._mask_BL, self._positions_BL = self._mask_BL[places_B], self._positions_BL[places_B]

    def append(self, tokens_B: Tensor) -> None:
        """Only the new token is read next."""
        self._ids_BL = tokens_B.unsqueeze(1)
        self._positions_BL = self._positions_BL[:, -1:] + 1
        self._mask_BL = torch.cat([self._mask_BL, self._mask_BL.new_ones(len(tokens_B), 1)], dim=1)


class EncoderDecoder:
    """The encoder reads the prompts once, padded on the right (BART counts places from the left); then the decoder."""

    def __init__(self, model: Any, prompts: Sequence[Sequence[int]], pad_id: int):
        self._model = model
        ids_BS, self._mask_BS = padded(model, prompts, pad_id, left=False)
        self._read_BSD: Tensor = model.get_encoder()(input_ids=ids_BS, attention_mask=self._mask_BS)[0]
        self._ids_B1 = torch.full_like(ids_BS[:, :1], start_id(model))
        # Of the decoder's own config: a T5's says in `num_layers` how deep its encoder is.
        config = model.get_decoder().config
        self._cache = EncoderDecoderCache(cache(config), cache(config))

    def logits(self) -> Tensor:
        """From the second call on what was read comes from the cache."""
        logits_B1V: Tensor = self._model(
            encoder_outputs=BaseModelOutput(last_hidden_state=self._read_BSD), attention_mask=self._mask_BS,
            decoder_input_ids=self._ids_B1, past_key_values=self._cache, use_cache=True,
        ).logits  # fmt: skip
        return logits_B1V[:, -1].float()

    def keep(self, places_B: Tensor) -> None:
        """Of both caches and of what was read."""
        self._cache.batch_select_indices(places_B)
        self._read_BSD, self._mask_BS = self._read_BSD[places_B], self._mask_BS[places_B]

    def append(self, tokens_B: Tensor) -> None:
        """Only the new token is read next."""
        self._ids_B1 = tokens_B.unsqueeze(1)


def padded(model: Any, prompts: Sequence[Sequence[int]], pad_id: int, *, left: bool) -> tuple[Tensor, Tensor]:
    """(ids, attention mask), both [B, L], on the model's device."""
    longest = max(len(p) for p in prompts)
    ids, mask = [], []
    for prompt in prompts:
        pad = longest - len(prompt)
        ids.append([pad_id] * (pad * left) + list(prompt) + [pad_id] * (pad * (not left)))
        mask.append([0] * (pad * left) + [1] * len(prompt) + [0] * (pad * (not left)))
    device = next(model.parameters()).device
    return torch.tensor(ids, device=device), torch.tensor(mask, device=device)
