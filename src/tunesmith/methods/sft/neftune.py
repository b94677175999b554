"""NEFTune: noise on the embeddings while training (Jain et al. 2023, arXiv 2310.05914, algorithm 1).

A row of L tokens gets uniform noise in [-1, 1] x alpha / sqrt(L d) on each of its embeddings, d their width; the paper
takes alpha from 5 to 15. Nothing is added in evaluation, nor to what the base says in a rehearsal.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@contextmanager
def noisy_embeddings(model: Any, attention_mask_BL: Tensor, alpha: float) -> Iterator[None]:
    """Inside the block a model in training mode sees noisy embeddings. Where a call has another shape than the mask
    (an encoder-decoder's questions), L is the call's length."""

    def add(_: torch.nn.Module, args: tuple[Tensor, ...], embedded_BLD: Tensor) -> Tensor:
        width = embedded_BLD.shape[-1]
        lengths_B = embedded_BLD.new_full(embedded_BLD.shape[:1], embedded_BLD.shape[1], dtype=torch.float32)
        if attention_mask_BL.shape == embedded_BLD.shape[:2]:
            lengths_B = attention_mask_BL.sum(1).float()
        noise_BLD = torch.empty_like(embedded_BLD, dtype=torch.float32).uniform_(-1, 1)
        scale_B = alpha / (lengths_B * width).sqrt()
        return embedded_BLD + (noise_BLD * scale_B[:, None, None]).to(embedded_BLD.dtype)

    if not model.training:
        yield
        return
    hook = model.get_input_embeddings().register_forward_hook(add)
    try:
        yield
    finally:
        hook.remove()
