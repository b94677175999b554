"""A model whose head is not the vocabulary's: what it says of whole sequences, from their last tokens.

The models are transformers' own classes for sequence classification. Where a sequence ends is told by whoever batches,
never guessed from padding tokens as those classes do: a base whose padding token is its end-of-turn would be read one
token too early. Encoder and decoder of a T5 or a BART both read the sequence, the decoder shifted by one, as in BART's
own classification (Lewis et al. 2019, arXiv 1910.13461, section 3.1). The head is computed in float32, whatever the
body's type.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import line
from .targets import is_encoder_decoder, start_id
from .trunk import run

NAMES = ("score", "classification_head")
"""Of the head in transformers' classes: decoders have the first, encoder-decoders the second."""

Inputs = dict[str, Any]


def head_name(model: Any) -> str | None:
    """The name of the model's head, None where it is the vocabulary's."""
    return next((name for name in NAMES if isinstance(getattr(model, name, None), nn.Module)), None)


def scored(model: Any, inputs: Inputs, last_S: Tensor) -> Tensor:
    """The head's numbers [S, labels], float32, for sequences that end at `last`: places in the flattened [B, L]."""
    head = model.get_submodule(head_name(model))

    def whole(hidden_SD: Tensor) -> Tensor:
        with torch.autocast(hidden_SD.device.type, enabled=False):
            found: Tensor = head.forward(hidden_SD.float())
        return found

    return _of_last(model, inputs, last_S, whole)


def pooled(model: Any, inputs: Inputs, last_S: Tensor) -> Tensor:
    """The body's hidden states [S, width] that `scored` reads."""
    return _of_last(model, inputs, last_S, lambda hidden_SD: hidden_SD)


def states(model: Any, inputs: Inputs) -> Tensor:
    """The same of every token [B, L, width], of a decoder."""
    ids_BL = inputs["input_ids"]
    every_S = torch.arange(ids_BL.numel(), device=ids_BL.device)
    return pooled(model, inputs, every_S).view(*ids_BL.shape, -1)


def _of_last(model: Any, inputs: Inputs, last_S: Tensor, then: Callable[[Tensor], Tensor]) -> Tensor:
    if is_encoder_decoder(model):
        return then(_read_twice(model, inputs).flatten(0, 1)[last_S])
    real_BL, laid = inputs.get("attention_mask"), None
    if isinstance(real_BL, Tensor):  # by kinds of layers it is several, for rows that share beginnings
        laid = line.laid(model, inputs, real_BL)
        last_S = real_BL.flatten().cumsum(0)[last_S] - 1 if laid else last_S
    found: list[Tensor] = []

    def take(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        # Inside the model's own pass: under FSDP the head's weights are whole here and nowhere else.
        hidden_BLD = args[0]
        found.append(then(hidden_BLD.flatten(0, 1)[last_S]))
        # What transformers makes of it is of no use; it only has to fit the head's type.
        return (hidden_BLD[:, :1].float().expand_as(hidden_BLD),)

    hook = model.get_submodule(head_name(model)).register_forward_pre_hook(take)
    try:
        with _some_padding(model):
            run(model, inputs, laid[0] if laid else None)
    finally:
        hook.remove()
    return found[0]


def _read_twice(model: Any, inputs: Inputs) -> Tensor:
    """An encoder-decoder's hidden states [B, L, width] on what both of its parts read."""
    body, ids_BL = getattr(model, model.base_model_prefix), inputs["input_ids"]
    shifted_BL = F.pad(ids_BL[:, :-1], (1, 0), value=start_id(model))
    hidden_BLD: Tensor = body(**inputs, decoder_input_ids=shifted_BL, use_cache=False).last_hidden_state
    return hidden_BLD


@contextmanager
def _some_padding(model: Any) -> Iterator[None]:
    """transformers refuses batches where the config names no padding token, though its pooling is not used here."""
    config = model.config.get_text_config()
    named = config.pad_token_id
    config.pad_token_id = named if named is not None else 0
    try:
        yield
    finally:
        config.pad_token_id = named


def padding_to_name(pad_id: int, ends: Sequence[int | None]) -> int | None:
    """The padding token that config.json may name: none where it is also one that ends texts.

    transformers pools at the last token that is not padding. Where a row may end in the padding token, a named one
    would make it pool too early without a word; an unnamed one makes it take rows one at a time, and rightly.
    """
    return None if pad_id in ends else pad_id
