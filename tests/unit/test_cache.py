"""The cache with room ahead gives what transformers' own gives, bit for bit, whatever becomes of the rows."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import DynamicCache

import tiny
from tunesmith.inference.cache import Roomy, cache

KINDS = ["llama", "gpt2", "gemma2", "qwen3-moe"]


@pytest.mark.parametrize("kind", KINDS)
@torch.inference_mode()
def test_logits_are_those_of_the_cache_that_copies(kind: str) -> None:
    """150 tokens outgrow the first room; a row leaves on the way, and one in the room's last place."""
    model = tiny.model(kind).eval()
    ids_BL = torch.randint(0, 96, (4, 150), generator=torch.Generator().manual_seed(0))
    assert torch.equal(_all(model, ids_BL, cache(model.config)), _all(model, ids_BL, DynamicCache(config=model.config)))


def _all(model: Any, ids_BL: torch.Tensor, made: DynamicCache) -> torch.Tensor:
    """Logits of the last row at each place, read nine tokens at first and then one by one."""
    found = []
    for at in range(9, ids_BL.shape[1]):
        if at in (30, 73, 100):
            keep = torch.arange(1, len(ids_BL))
            made.batch_select_indices(keep)
            ids_BL = ids_BL[keep]
        new = ids_BL[:, :9] if at == 9 else ids_BL[:, at - 1 : at]
        found.append(model(input_ids=new, past_key_values=made, use_cache=True).logits[-1, -1])
    return torch.stack(found)


def test_what_stands_is_not_copied_for_each_token() -> None:
    layer = Roomy()
    one = torch.zeros(2, 1, 1, 4)
    layer.update(one.expand(2, 1, 9, 4), one.expand(2, 1, 9, 4))
    places = {layer.update(one + n, one)[0].data_ptr() for n in range(64)}
    assert len(places) == 1
    assert layer.keys[0, 0, :, 0].tolist() == [0.0] * 9 + [float(n) for n in range(64)]
    layer.update(one, one)
    assert layer.keys.shape == (2, 1, 74, 4)
    assert layer.keys.data_ptr() not in places


def test_a_layer_with_a_window_keeps_only_the_window() -> None:
    made = cache(tiny.config("gemma2"))
    kinds = {type(layer).__name__ for layer in made.layers}
    assert kinds == {"Roomy", "DynamicSlidingWindowLayer"}
