"""Attention in bf16 on a CPU, where torch's own backward pass takes most of the time that attention takes.

Forward is torch's. Backward is that of FlashAttention (Dao et al. 2022, arXiv 2205.14135, appendix B.4) in whole rows
of scores: the probabilities are computed again from queries, keys and each row's log of its sum, for a few sequences
at a time, so that what is written is read while it is near. Keys and values are not copied for the heads that share
them.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from . import native

NAME = "tunesmith"
SCORES_AT_ONCE = 1 << 20
"""Of all heads: 4 MiB in float32."""
QUERIES_AT_ONCE = 96
"""The least that a block of queries has, where there are more."""


LINE = "line_lengths"
"""The argument of a model's call that says how long the sequences are which stand behind each other in one row."""
_in_line: ContextVar[bool] = ContextVar("in_line", default=False)
LENGTHS = 32
"""Sequences are made a multiple of this long: at odd lengths products in bf16 take up to four times as long."""
WIDTHS = 32
"""Of a head, that is computed in blocks."""
_LEAST = -80.0
"""e^-80 is nothing beside 1; what is less is no number in its full precision, and takes several times as long."""


class _Attention(torch.autograd.Function):
    """Queries [B, H, L, D], keys and values [B, K, L, D], H a multiple of K; `added` [B or 1, 1, L, L] is added to the
    scores, 0 where a token is seen; None for what stands before it."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value, added, scale = given
        out, log_sum = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
            query, key, value, 0.0, added is None, attn_mask=added, scale=scale
        )
        ctx.save_for_backward(query, key, value, out, log_sum, added)
        ctx.scale = scale
        result: Tensor = out
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        query, key, value, out, log_sum, added = ctx.saved_tensors
        gradient = gradients[0]
        batch, heads, length, _ = query.shape
        delta = gradient.float().mul_(out.float()).sum(-1)
        given = (query * ctx.scale, key, value, gradient, log_sum, delta)
        found = (torch.empty_like(given[0]), torch.zeros_like(key), torch.zeros_like(value))
        # What is causal is done in blocks of queries, each with the keys up to its end.
        step = length if added is not None else -(-length // max(1, length // QUERIES_AT_ONCE))
        rows = max(1, SCORES_AT_ONCE // (heads * step * length))
        for at in range(0, batch, rows):
            part = slice(at, at + rows)
            some, into = tuple(one[part] for one in given), tuple(one[part] for one in found)
            seen = None if added is None else (added[part] if len(added) > 1 else added).float()
            for first in range(0, length, step):
                _backward(some, seen, first, min(first + step, length), into)
        return found[0].mul_(ctx.scale), found[1], found[2], None, None


class _InBlocks(torch.autograd.Function):
    """The same in C, on a processor that has the means, for heads whose width is a multiple of 32, and for a line of
    several sequences: `lengths` are theirs, None for one in each row. Results and gradients lie as the layers around
    want them, a token's heads behind each other."""

    @staticmethod
    def forward(ctx: Any, *given: Any) -> Tensor:
        query, key, value = map(_close, given[:3])
        added, scale, lengths = None if given[3] is None else given[3].float().contiguous(), given[4], given[5]
        batch, heads, length, _ = query.shape
        out, log_sum = _like(query), torch.empty(batch, heads, length)
        ctx.places, ctx.scale = _places(lengths, batch, length), scale
        _in_blocks("attention_out", (query, key, value), (out,), added, (scale, out, log_sum), ctx.places)
        ctx.save_for_backward(query, key, value, out, log_sum, added)
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        *given, log_sum, added = ctx.saved_tensors
        given.append(_close(gradients[0]))
        found = tuple(map(_like, given[:3]))
        _in_blocks("attention_back", given, found, added, (ctx.scale, log_sum, *found), ctx.places)
        return *found, None, None, None


def _close(one: Tensor) -> Tensor:
    """With the numbers of a head next to each other."""
    return one if one.stride(-1) == 1 else one.contiguous()


def _like(one: Tensor) -> Tensor:
    """Room for as much, a token's heads behind each other."""
    batch, heads, length, width = one.shape
    return torch.empty(batch, length, heads, width, dtype=one.dtype).transpose(1, 2)


def _places(lengths: Sequence[int] | None, batch: int, length: int) -> tuple[int, ...]:
    """(row, first token, tokens) of each sequence, one behind the other."""
    if lengths is None:
        return tuple(number for row in range(batch) for number in (row, 0, length))
    ends = itertools.accumulate(lengths)
    return tuple(number for end, size in zip(ends, lengths, strict=True) for number in (0, end - size, size))


def _in_blocks(
    name: str, given: Sequence[Tensor], made: Sequence[Tensor], added: Tensor | None, rest: Sequence[Any],
    places: tuple[int, ...],
) -> None:  # fmt: skip
    """Call one of the two functions of `attention.c`."""
    steps = tuple(step for one in (*given, *made) for step in one.stride()[:3])
    step = 0 if added is None or len(added) == 1 else added.stride(0)
    _, heads, length, width = given[0].shape
    shared, sequences = given[1].shape[1], len(places) // 3
    if native.call(name, *given, steps, added, step, *rest, places, sequences, heads, shared, length, width):
        raise MemoryError("no room for attention's scores")


def _backward(given: tuple[Tensor, ...], added: Tensor | None, first: int, end: int, into: tuple[Tensor, ...]) -> None:
    """Gradients by the queries `first` to `end` of some sequences, without the scale that is in the queries already;
    those of keys and values are added to. Heads that share keys stand below each other: G x L queries for L keys."""
    query, key, value, gradient, log_sum, delta = given
    rows, heads, length, width = query.shape
    shared = key.shape[1]
    last = length if added is not None else end

    def grouped(one: Tensor, size: int) -> Tensor:
        return one[:, :, first:end].reshape(rows * shared, -1, size)

    query, gradient, log_sum, delta = (
        grouped(query, width), grouped(gradient, width), grouped(log_sum, 1), grouped(delta, 1)
    )  # fmt: skip
    key, value = (one[:, :, :last].reshape(rows * shared, last, width) for one in (key, value))
    scores = torch.baddbmm(log_sum, query.float(), key.float().transpose(1, 2), beta=-1)
    rise = torch.bmm(gradient, value.transpose(1, 2))
    moved, chances = _middle(scores, rise, delta, added, (heads, end - first, first))
    into[0][:, :, first:end] = torch.bmm(moved, key).view(rows, heads, end - first, width)
    into[1][:, :, :last] += torch.bmm(moved.transpose(1, 2), query).view(rows, shared, last, width)
    into[2][:, :, :last] += torch.bmm(chances.transpose(1, 2), gradient).view(rows, shared, last, width)


def _middle(
    scores: Tensor, rise: Tensor, delta: Tensor, added: Tensor | None, queries: tuple[int, int, int]
) -> tuple[Tensor, Tensor]:
    """(gradient by the scores, probabilities), from the scores and the gradient by the probabilities; `queries` are
    how many heads, how many queries each, and the number of the first."""
    heads, count, first = queries
    keys = scores.shape[-1]
    if native.usable(rise):
        moved, chances = torch.empty_like(rise), torch.empty_like(rise)
        step = 0 if added is None or len(added) == 1 else count * keys
        seen = None if added is None else added.contiguous()
        native.call(
            "attention_middle", scores, rise, delta, seen, heads * count, step, chances, moved,
            scores.numel() // keys, count, keys, first,
        )  # fmt: skip
        return moved, chances
    by_head = scores.view(-1, heads, count, keys)
    chances = by_head.exp_().tril_(first) if added is None else by_head.add_(added).clamp_(min=_LEAST).exp_()
    chances = chances.view_as(scores)
    moved = rise.float().sub_(delta).mul_(chances)
    return moved.to(rise.dtype), chances.to(rise.dtype)


def heard(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, lengths: Sequence[int] | None = None
) -> Tensor:
    """[B, H, L, D], in bf16 on a CPU; `mask` [B or 1, 1, L, L] is true, or 0, where a token is seen. `lengths` are
    those of the sequences that one row holds behind each other, which `in_lines` must have allowed."""
    length = query.shape[2]
    if native.attention_by() and query.shape[-1] % WIDTHS == 0:
        added = None if mask is None else _added(mask, query.dtype, 0)
        out: Tensor = _InBlocks.apply(query, key, value, added, scale, lengths)  # type: ignore[no-untyped-call]
        return out
    more = -length % LENGTHS
    added = None if mask is None else _added(mask, query.dtype, more)
    longer = (F.pad(one, (0, 0, 0, more)) if more else one for one in (query, key, value))
    out = _Attention.apply(*longer, added, scale)  # type: ignore[no-untyped-call]
    return out[:, :, :length]


def _added(mask: Tensor, dtype: torch.dtype, more: int) -> Tensor:
    """What is added to scores, with so many places more that nobody sees."""
    added = torch.zeros_like(mask, dtype=dtype).masked_fill_(~mask, -torch.inf) if mask.dtype == torch.bool else mask
    return F.pad(F.pad(added, (0, more), value=-torch.inf), (0, 0, 0, more))


def attention(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """Behind transformers' seam for attention: heads first in, [B, L, H, D] out."""
    if torch.is_autocast_enabled("cpu"):
        query, key, value = (one.to(torch.get_autocast_dtype("cpu")) for one in (query, key, value))
    lengths = options.get(LINE)
    if lengths is None and not _ours(module, query, key, value, attention_mask, options):
        told: tuple[Tensor, None] = sdpa_attention_forward(module, query, key, value, attention_mask, **options)
        return told
    scale = options.get("scaling") or query.shape[-1] ** -0.5
    out = heard(query, key, value, attention_mask, scale, lengths)
    return out.transpose(1, 2).contiguous(), None


def _ours(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, options: dict[str, Any]
) -> bool:
    """Whether this is what the function above is for: learning in bf16, or what it is held against, every token before
    a token seen or a mask."""
    causal = options.get("is_causal")
    causal = getattr(module, "is_causal", True) if causal is None else causal
    alike = {one.dtype for one in (query, key, value)} == {torch.bfloat16} and query.shape[2] == key.shape[2]
    bare = not any(options.get(name) is not None for name in ("softcap", "position_bias", "cache", "s_aux"))
    usual = alike and key.shape == value.shape and (causal or mask is not None) and not options.get("dropout") and bare
    known = mask is None or (mask.shape[1] == 1 and mask.shape[-2:] == (query.shape[2], key.shape[2]))
    return usual and known and query.device.type == "cpu" and not torch.is_inference_mode_enabled()


@contextmanager
def masked_by_lengths() -> Iterator[None]:
    """A model that is called inside the block, with `LINE`, makes no mask."""
    before = _in_line.set(True)
    try:
        yield
    finally:
        _in_line.reset(before)


def mask(*places: Any, **options: Any) -> Tensor | None:
    """Behind transformers' seam for masks: sdpa's, but none for a line, and none for padding that stands to the right
    of what is causal. No token sees it, and what it sees itself nobody reads."""
    if _in_line.get():
        return None
    padding = options.get("attention_mask")
    causal = options.get("allow_is_causal_skip", True) and not options.get("allow_is_bidirectional_skip")
    if causal and isinstance(padding, Tensor) and padding.ndim == 2 and bool((padding[:, 1:] <= padding[:, :-1]).all()):
        options["attention_mask"] = None
    made: Tensor | None = sdpa_mask(*places, **options)
    return made


AttentionInterface.register(NAME, attention)
AttentionMaskInterface.register(NAME, mask)
