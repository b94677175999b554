"""Logits only where they are wanted.

The vocabulary head is often the dearest layer of a small model, and most positions of a batch (prompts, padding)
need none of its output. A hook in front of the head keeps the wanted positions only; all that a model does behind
the head (soft caps, scaling) is elementwise and stays right.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


def logits_at(model: Any, input_ids_BL: Tensor, attention_mask_BL: Tensor, wanted_BL: Tensor) -> Tensor:
    """Logits [n, vocabulary] at the positions where `wanted` is true, in row-major order."""

    def keep(_: torch.nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        hidden_BLD = args[0]
        return (hidden_BLD[wanted_BL].unsqueeze(0), *args[1:])

    hook = model.get_output_embeddings().register_forward_pre_hook(keep)
    try:
        logits: Tensor = model(input_ids=input_ids_BL, attention_mask=attention_mask_BL, use_cache=False).logits
    finally:
        hook.remove()
    return logits.squeeze(0)
