"""A loaded base made fast to learn with: what `models.kernels` computes in place of transformers' own."""

from __future__ import annotations

from typing import Any

from . import line
from .head import note_bare_head
from .kernels import attention, gated, norm, rotary
from .pooling import head_name, states


def hasten(model: Any) -> None:
    """Put in place what computes the same on this machine in less time or memory; a model of any kind."""
    norm.replace(model)
    gated.replace(model)
    rotary.replace(model)
    if next(model.parameters()).device.type == "cpu" and model.config._attn_implementation == "sdpa":
        model.set_attn_implementation(attention.NAME)
    note_bare_head(model)
    line.note(model, lambda asked: states(model, asked) if head_name(model) else model(**asked, use_cache=False).logits)
