"""How large a base is, from the headers of its weights. Loads neither torch nor a single weight."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import ContentError
from .refs import Base

_EMBEDDINGS = ("embed", "wte", "wpe", "shared", "position")
_HEADS = ("lm_head", "embed_out")
_EXPERTS = ("expert",)
_LARGEST_HEADER = 100 << 20


@dataclass(frozen=True)
class Size:
    """A base in parameters and dimensions."""

    parameters: int
    body: int
    """Weights that each token passes: all but embeddings and head, of a mixture the experts that it is sent to."""
    head: int
    """Weights that a token passes whose successor is predicted."""
    linear: tuple[tuple[str, int, int], ...]
    """(name, out, in) of every matrix of the body that an adapter can stand beside."""
    layers: int
    hidden: int
    vocabulary: int
    key_value: int = 0
    """Width of a layer's keys, all heads together."""
    shapes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    """(name, shape) of every tensor in the files."""

    @staticmethod
    def of(base: Base) -> Size:
        """ContentError for weights whose header cannot be read."""
        shapes = {name: shape for file in sorted(base.folder.glob("*.safetensors")) for name, shape in _shapes(file)}
        config = base.config()
        share = _active_share(config)
        embeddings = {name: shape for name, shape in shapes.items() if _is(name, _EMBEDDINGS) and not _is(name, _HEADS)}
        heads = sum(math.prod(shape) for name, shape in shapes.items() if _is(name, _HEADS))
        inner = {n: s for n, s in shapes.items() if n not in embeddings and not _is(n, _HEADS)}
        body = sum(math.prod(s) * (share if _is(n, _EXPERTS) else 1.0) for n, s in inner.items())
        tied = max((math.prod(shape) for shape in embeddings.values()), default=0)
        linear = tuple((n, s[0], s[1]) for n, s in inner.items() if len(s) == 2 and not _is(n, _EXPERTS))
        parameters = sum(math.prod(shape) for shape in shapes.values())
        layers = _first(config, "num_hidden_layers", "n_layer", "num_layers")
        hidden = _first(config, "hidden_size", "n_embd", "d_model")
        every = tuple((name, tuple(shape)) for name, shape in shapes.items())
        return Size(
            parameters, round(body), heads or tied, linear, layers, hidden, _first(config, "vocab_size"),
            _key_value(config, hidden), every,
        )  # fmt: skip


def _shapes(file: Path) -> list[tuple[str, list[int]]]:
    """(name, shape) of each tensor: 8 bytes of length, little end first, then the header as JSON."""
    try:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > _LARGEST_HEADER:
                raise ValueError("its header has no sensible length")
            header = json.loads(stream.read(size))
        return [(name, list(entry["shape"])) for name, entry in header.items() if name != "__metadata__"]
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ContentError(f"cannot read the header of {file}", why=str(error), mend="fetch the base anew") from error


def _key_value(config: dict[str, Any], hidden: int) -> int:
    """Heads of keys x their width; the hidden size where all heads have their own."""
    heads = _first(config, "num_attention_heads", "n_head", "num_heads")
    keys = _first(config, "num_key_value_heads") or heads
    return keys * (_first(config, "head_dim") or hidden // max(heads, 1))


def _is(name: str, marks: tuple[str, ...]) -> bool:
    return any(mark in name for mark in marks)


def _active_share(config: dict[str, Any]) -> float:
    """The share of a mixture's experts that a token is sent to."""
    experts = _first(config, "num_experts", "num_local_experts", "n_routed_experts")
    chosen = _first(config, "num_experts_per_tok", "num_experts_per_token")
    return chosen / experts if experts and chosen else 1.0


def _first(config: dict[str, Any], *names: str) -> int:
    """The first of the keys that the config, or its part on text, holds; 0 where none does."""
    for part in (config, config.get("text_config") or {}):
        for name in names:
            if isinstance(part.get(name), int):
                return int(part[name])
    return 0
