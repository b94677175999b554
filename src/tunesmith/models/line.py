"""A batch as one line: its sequences behind each other without padding, each attending to itself alone.

All that a decoder does beside attention it does for each token by itself, so padding costs as much as text. Where
attention knows the lengths (`kernels.attention`, on a CPU with products in bf16), the batch is laid into one row.
Whether a model bears that is seen by a trial: some look at neighbours elsewhere too, some pass no such argument on.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

from .kernels import attention, native, products

_BEARS = "tunesmith_bears_lines"
_NEAR = 0.03
"""Of two results in bf16, the length of the difference relative to one of them."""
_WINDOWS = ("sliding_window", "attention_chunk_size")


def note(model: Any, said: Callable[[dict[str, Any]], Tensor]) -> None:
    """See whether a decoder says the same of two sequences in one line as of each in a row; noted on the model. `said`
    gives numbers [B, L, ...] for what the model is called with."""
    setattr(model, _BEARS, _same(model, said))


def forget(model: Any) -> None:
    """For a model that is given something beside the text: it gets rows from now on."""
    setattr(model, _BEARS, False)


def laid(model: Any, inputs: dict[str, Any], wanted_BL: Tensor) -> tuple[dict[str, Any], Tensor] | None:
    """What the model is called with, and where in it the wanted positions are, in the same order; None where the batch
    stays as it is. `inputs` are ids [B, L] and their mask, padded on the right, or ids and the positions of sequences
    that rows hold behind each other."""
    if not getattr(model, _BEARS, False) or not _narrow(model):
        return None
    ids_BL, mask_BL, places_BL = (inputs.get(name) for name in ("input_ids", "attention_mask", "position_ids"))
    if ids_BL is None or len(inputs) != 2 or (mask_BL is None) == (places_BL is None):
        return None
    real_BL = torch.ones_like(ids_BL, dtype=torch.bool) if mask_BL is None else mask_BL.bool()
    if places_BL is None:
        places_BL = torch.arange(ids_BL.shape[1]).expand_as(ids_BL)
    places_N = places_BL[real_BL]
    ends = (*(places_N == 0).nonzero().flatten().tolist(), len(places_N))
    lengths = tuple(end - begin for begin, end in itertools.pairwise(ends))
    if not _within_windows(model, max(lengths)):
        return None
    spare = 0 if getattr(model.config, "output_router_logits", False) else products.spare(len(places_N))
    ids_1N, places_1N, wanted_1N = (
        filled(x_N.unsqueeze(0), len(places_N) + spare) for x_N in (ids_BL[real_BL], places_N, wanted_BL[real_BL])
    )
    line = {"input_ids": ids_1N, "position_ids": places_1N, attention.LINE: (*lengths, spare) if spare else lengths}
    return line, wanted_1N


def filled(x_1N: Tensor, length: int) -> Tensor:
    """With so many places, zeros in the new ones: x is [1, N] or [1, N, D]."""
    new = x_1N.new_zeros((1, length - x_1N.shape[1], *x_1N.shape[2:]))
    return torch.cat([x_1N, new], 1) if new.shape[1] else x_1N


def context(inputs: dict[str, Any]) -> AbstractContextManager[object]:
    """What a call with such inputs is made in."""
    return attention.masked_by_lengths() if attention.LINE in inputs else nullcontext()


def _narrow(model: Any) -> bool:
    """Whether attention gets bf16."""
    return torch.is_autocast_enabled("cpu") or model.get_input_embeddings().weight.dtype == torch.bfloat16


def _within_windows(model: Any, longest: int) -> bool:
    """Whether no layer's window is shorter than the longest sequence."""
    config = model.config.get_text_config()
    return all(longest <= (getattr(config, name, None) or longest) for name in _WINDOWS)


@torch.no_grad()
def _same(model: Any, said: Callable[[dict[str, Any]], Tensor]) -> bool:
    usual = (
        getattr(model.config, "_attn_implementation", None) == attention.NAME and not model.config.is_encoder_decoder
    )
    if not usual or not native.attention_by():
        return False
    size = model.get_input_embeddings().num_embeddings
    ids = torch.arange(14, device=model.get_input_embeddings().weight.device).remainder(size).view(2, 7).flip(0)
    real = torch.ones_like(ids)
    real[1, 4:] = 0
    training = model.training
    model.eval()
    try:
        with torch.autocast("cpu", torch.bfloat16, enabled=not _narrow(model)):
            setattr(model, _BEARS, True)
            found = laid(model, {"input_ids": ids, "attention_mask": real}, real.bool())
            if found is None:
                return False
            wanted = said({"input_ids": ids, "attention_mask": real})[real.bool()].float()
            with context(found[0]):
                told = said(found[0])[0, : len(wanted)].float()
        return bool((told - wanted).norm() < _NEAR * wanted.norm())
    except (TypeError, ValueError, RuntimeError, KeyError, AttributeError, IndexError):
        return False
    finally:
        model.train(training)
