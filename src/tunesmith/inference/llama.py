"""One new token of each row through a decoder of Llama's shape (Llama, Mistral, Qwen 2 and 3).

transformers' forward makes masks, repeats keys and values for every group of heads and passes each step through a dozen
layers of Python, which for a small model take longer than its arithmetic. Here is the arithmetic alone. The linear maps
are called as the modules that they are, so whatever was put in their places (LoRA, weights in 4 bits) has its effect; a
model in which anything else was changed is not taken.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import DynamicCache

from ..models.kernels.products import linear
from .cache import Roomy

_SHAPED = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")
_CALLED = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
"""Modules that are called as they are, hooks and all. So are the rotary embedding, the embeddings and the head."""


def is_shaped(model: Any, cache: DynamicCache) -> bool:
    """Whether `step` gives what the model's own forward gives, rounding aside."""
    return (
        type(model).__name__ in _SHAPED
        and getattr(model.config, "_attn_implementation", None) in ("sdpa", "eager")
        and all(type(layer) is Roomy for layer in cache.layers)
        and _unchanged(model)
        and all(map(_unchanged, _inner(model.model)))
    )


def step(model: Any, ids_B1: Tensor, positions_B1: Tensor, mask_BL: Tensor, cache: DynamicCache) -> Tensor:
    """The next token's logits [B, vocabulary], and keys and values in the cache. `mask_BL` is 0 at padding.

    Source: Touvron et al. 2023, section 2.2; grouped heads: Ainslie et al. 2023, section 2.2.
    """
    inner = model.model
    x_B1D = inner.embed_tokens(ids_B1)
    turn_B11H = tuple(part.unsqueeze(2) for part in inner.rotary_emb(x_B1D, positions_B1))
    hidden_B11L = torch.zeros_like(mask_BL, dtype=x_B1D.dtype).masked_fill_(mask_BL == 0, -torch.inf)[:, None, None]
    for number, layer in enumerate(inner.layers):
        heard = _norm(layer.input_layernorm, x_B1D)
        x_B1D = x_B1D + _attention(layer.self_attn, heard, turn_B11H, hidden_B11L, cache.layers[number])
        heard, mlp = _norm(layer.post_attention_layernorm, x_B1D), layer.mlp
        x_B1D = x_B1D + linear(mlp.down_proj, mlp.act_fn(linear(mlp.gate_proj, heard)) * linear(mlp.up_proj, heard))
    logits_B1V = linear(model.lm_head, _norm(inner.norm, x_B1D))
    return logits_B1V[:, -1]


def _attention(
    attention: Any, x_B1D: Tensor, turn_B11H: tuple[Tensor, ...], hidden_B11L: Tensor, layer: Roomy
) -> Tensor:
    """K heads of keys and values, each heard by G heads of queries; H is a head's width."""
    rows, width = len(x_B1D), attention.head_dim
    parts = (attention.q_proj, attention.k_proj, attention.v_proj)
    q_B1NH, k_B1KH, v_B1KH = (linear(part, x_B1D).view(rows, 1, -1, width) for part in parts)
    if hasattr(attention, "q_norm"):
        q_B1NH, k_B1KH = _norm(attention.q_norm, q_B1NH), _norm(attention.k_norm, k_B1KH)
    q_B1NH, k_B1KH = _turned(q_B1NH, *turn_B11H), _turned(k_B1KH, *turn_B11H)
    keys_BKLH, values_BKLH = layer.update(k_B1KH.transpose(1, 2), v_B1KH.transpose(1, 2))
    q_BKGH = q_B1NH.view(rows, keys_BKLH.shape[1], -1, width) * attention.scaling
    return linear(attention.o_proj, _heard(q_BKGH, keys_BKLH, values_BKLH, hidden_B11L).reshape(rows, 1, -1))


def _heard(q_BKGH: Tensor, keys_BKLH: Tensor, values_BKLH: Tensor, hidden_B11L: Tensor) -> Tensor:
    """What each head takes from what it sees: [B, K, G, H]. Torch's own kernel reads a cache with room as it lies,
    where a product in bf16 copies it first; in float32 the products copy nothing."""
    if q_BKGH.dtype != torch.float32:
        return F.scaled_dot_product_attention(q_BKGH, keys_BKLH, values_BKLH, attn_mask=hidden_B11L, scale=1.0)
    scores_BKGL = torch.matmul(q_BKGH, keys_BKLH.transpose(-1, -2)) + hidden_B11L
    return torch.matmul(scores_BKGL.softmax(-1), values_BKLH)


def _turned(x_B1NH: Tensor, cos_B11H: Tensor, sin_B11H: Tensor) -> Tensor:
    """By the angle of its position (Su et al. 2021, equation 34)."""
    first, second = x_B1NH.chunk(2, dim=-1)
    return torch.addcmul(x_B1NH * cos_B11H, torch.cat((-second, first), dim=-1), sin_B11H)


def _norm(norm: Any, x: Tensor) -> Tensor:
    return F.rms_norm(x, norm.weight.shape, norm.weight, norm.variance_epsilon)


def _inner(decoder: Any) -> list[Any]:
    """The modules whose forward is passed by."""
    return [
        module
        for name, module in decoder.named_modules()
        if (last := name.rpartition(".")[2]) != "rotary_emb"
        and not _CALLED.intersection(name.split("."))
        and last != "embed_tokens"
    ]


def _unchanged(module: Any) -> bool:
    """Whether it is as transformers (or torch, of lists of layers) made it."""
    hooked = module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module)
    return not hooked and type(module).__module__.split(".")[0] in ("transformers", "torch")
