"""Virtual tokens before every text, put in by hooks on the decoder, so that nobody else need know of them.

Before the decoder runs, a hook makes room for V tokens: in the attention mask, in the positions, and in the text or
the key-value cache; behind it a second hook takes their places out of the hidden states again. So the head, the loss
and the generator see L tokens as ever. A cache that is filled already holds the virtual tokens: mask and positions
are made longer, and nothing is put in.

Rows of a batch that are padded on the left get their virtual tokens between padding and text. So every row is what it
would be alone, for layers too that look back no further than a window of places.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..core.errors import ContentError
from ..models import line


class InFront:
    """Embeddings of V virtual tokens [V, D] in front of every text's own. `embeddings` is asked at every pass."""

    def __init__(self, count: int, embeddings: Callable[[], Tensor]):
        self._count, self._embeddings = count, embeddings
        self._back: Tensor | None = None

    def before(self, decoder: Any, given: dict[str, Any]) -> dict[str, Any]:
        """The decoder's arguments with the virtual tokens among them."""
        self._back = None
        if _begun(given):
            return _longer(given, self._count, _with_ones(given.get("attention_mask"), self._count))
        embeds_BLD = given.get("inputs_embeds")
        if embeds_BLD is None:
            embeds_BLD = decoder.get_input_embeddings()(given["input_ids"])
        batch, length, _ = embeds_BLD.shape
        order_BT, self._back = _orders(given.get("attention_mask"), batch, length, self._count, embeds_BLD.device)
        virtual_BVD = self._embeddings().to(embeds_BLD.dtype).expand(batch, -1, -1)
        all_BTD = torch.take_along_dim(torch.cat([virtual_BVD, embeds_BLD], dim=1), order_BT.unsqueeze(-1), dim=1)
        given = given | {"input_ids": None, "inputs_embeds": all_BTD}
        places_BL = given.get("position_ids")
        if places_BL is not None:
            own_V = torch.arange(self._count, device=order_BT.device)
            every_BT = torch.cat([own_V.expand(batch, -1), (places_BL + self._count).expand(batch, -1)], dim=1)
            given["position_ids"] = torch.take_along_dim(every_BT, order_BT, dim=1)
        given["attention_mask"] = _with_ones(given.get("attention_mask"), self._count)
        return given

    def after(self, output: Any) -> Any:
        """The decoder's output without the virtual tokens' places."""
        if self._back is not None:
            hidden_BTD = output.last_hidden_state
            output.last_hidden_state = torch.take_along_dim(hidden_BTD, self._back.unsqueeze(-1), dim=1)
            self._back = None
        return output


class InCache:
    """Keys and values of V virtual tokens at the start of a key-value cache. `fill` puts them into an empty one, for a
    batch of so many rows, and gives one where there is none."""

    def __init__(self, count: int, fill: Callable[[Any, int], Any]):
        self._count, self._fill = count, fill

    def before(self, decoder: Any, given: dict[str, Any]) -> dict[str, Any]:
        """The decoder's arguments with a cache that holds the virtual tokens."""
        mask_BL = given.get("attention_mask")
        if not _begun(given):
            read = given["input_ids"] if given.get("inputs_embeds") is None else given["inputs_embeds"]
            given = given | {"past_key_values": self._fill(given.get("past_key_values"), len(read))}
        if mask_BL is not None:
            mask_BL = torch.cat([mask_BL.new_ones(len(mask_BL), self._count), mask_BL], dim=1)
        return _longer(given, self._count, mask_BL)

    def after(self, output: Any) -> Any:
        """Nothing stands in the text."""
        return output


class Hooks:
    """The two hooks on a model's decoder, and a switch. Only 2-dimensional attention masks [B, L] are known."""

    def __init__(self, model: Any, way: InFront | InCache):
        self.enabled = True
        self._way = way
        line.forget(model)
        decoder = model.base_model
        decoder.register_forward_pre_hook(self._before, with_kwargs=True)
        decoder.register_forward_hook(self._after)

    def _before(self, decoder: nn.Module, args: tuple[Any, ...], given: dict[str, Any]) -> Any:
        if not self.enabled:
            return None
        if args:  # GPT-2 hands its tokens on by place
            given = given | {"input_ids": args[0]}
        return (), self._way.before(decoder, given)

    def _after(self, _: nn.Module, __: Any, output: Any) -> Any:
        return self._way.after(output) if self.enabled else None


def require_decoder(model: Any, what: str) -> None:
    """ContentError for a base whose text virtual tokens cannot stand before."""
    if model.config.is_encoder_decoder:
        raise ContentError(
            f"{what} needs a decoder by itself: this base is an encoder-decoder",
            mend="use adapter: {type: lora} or {type: ia3}",
        )
    if model.base_model is model:
        raise ContentError(f"{what} does not find this base's decoder", mend="use adapter: {type: lora}")


def require_taken(model: Any, what: str) -> None:
    """Run two tokens through a model with the hooks in place; ContentError where it does not bear them."""
    device = next(model.parameters()).device
    ids_12 = torch.tensor([[0, 1]], device=device)
    try:
        with torch.no_grad():
            shape = model(input_ids=ids_12, attention_mask=torch.ones_like(ids_12), use_cache=False).logits.shape
    except (RuntimeError, ValueError, TypeError, AttributeError, KeyError, IndexError) as error:
        raise ContentError(
            f"{what} does not go with this base", why=f"its {type(model).__name__} cannot read virtual tokens: {error}",
            mend="use adapter: {type: lora}",
        ) from error  # fmt: skip
    if shape[1] != ids_12.shape[1]:
        raise ContentError(f"{what} does not go with this base", mend="use adapter: {type: lora}")


def _begun(given: dict[str, Any]) -> bool:
    cache = given.get("past_key_values")
    return cache is not None and cache.get_seq_length() > 0


def _longer(given: dict[str, Any], count: int, mask: Tensor | None) -> dict[str, Any]:
    """Positions behind the virtual tokens, where any are given, and the mask."""
    given = given | {"attention_mask": mask}
    if given.get("position_ids") is not None:
        given["position_ids"] = given["position_ids"] + count
    return given


def _with_ones(mask_BL: Tensor | None, count: int) -> Tensor | None:
    """The mask with `count` more tokens between the padding on its left and the text."""
    if mask_BL is None:
        return None
    batch, length = mask_BL.shape
    order_BT, _ = _orders(mask_BL, batch, length, count, mask_BL.device)
    return torch.take_along_dim(torch.cat([mask_BL.new_ones(len(mask_BL), count), mask_BL], dim=1), order_BT, dim=1)


def _orders(mask_BL: Tensor | None, batch: int, length: int, count: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Where each place comes from, [B, V + L] into virtual tokens and text in a row, and where the text's L places
    are in that, [B, L]. The padding on the left, p places, stays in front."""
    padding_B1 = torch.zeros(batch, 1, dtype=torch.long, device=device)
    if mask_BL is not None:
        padding_B1 = (mask_BL.cumsum(1) == 0).sum(1, keepdim=True)
    place_T = torch.arange(count + length, device=device)
    behind_BT = torch.where(place_T < padding_B1 + count, place_T - padding_B1, place_T)
    order_BT = torch.where(place_T < padding_B1, place_T + count, behind_BT)
    place_L = place_T[:length]
    return order_BT, torch.where(place_L < padding_B1, place_L, place_L + count)
