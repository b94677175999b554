"""Prefix tuning (Li & Liang 2021, arXiv 2101.00190, sections 4.2 and 4.3): trained keys and values of virtual tokens
at the start of every layer's key-value cache. PEFT's module holds the parameters, and its layout the result.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PrefixEncoder, PrefixTuningConfig
from torch import Tensor, nn
from torch.nn import Parameter
from transformers import DynamicCache

from ..core.errors import ContentError
from . import folders
from .base import Adapter
from .config_virtual import PrefixSpec
from .prompt import SAVED
from .virtual import Hooks, InCache, require_decoder, require_taken

_NAME = "virtual_tokens"
_WHAT = "prefix tuning"


class Prefix(Adapter):
    """Virtual tokens' keys and values behind the adapter seam."""

    folder_name = "adapter"

    def __init__(self, spec: PrefixSpec):
        self.spec = spec

    def attach(self, model: Any) -> None:
        """Freeze the base and put a prefix into its caches."""
        require_decoder(model, _WHAT)
        _require_whole_view(model)
        self._model = model
        model.requires_grad_(False)
        self._base = model.config.get_text_config()
        self._config = _config(self.spec, self._base)
        device = model.get_input_embeddings().weight.device
        model.add_module(_NAME, PrefixEncoder(self._config).float().to(device))
        self._hooks = Hooks(model, InCache(self.spec.tokens, self._fill))
        require_taken(model, _WHAT)

    def parameters(self) -> dict[str, Parameter]:
        """The keys and values, or the network that writes them."""
        return dict(self._encoder.named_parameters())

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The base alone."""
        self._hooks.enabled = False
        try:
            yield
        finally:
            self._hooks.enabled = True

    def save(self, folder: Path, base_name: str) -> None:
        """PEFT's two files."""
        settings = self._config.to_dict() | {"inference_mode": True, "base_model_name_or_path": base_name}
        with torch.no_grad():
            folders.write(folder, {SAVED: self._written()}, settings)

    def load(self, folder: Path) -> None:
        """The keys and values as a table in place of what was attached; ContentError when they do not fit."""
        c = self._config
        table = nn.Embedding(self.spec.tokens, 2 * c.num_layers * c.token_dim)
        folders.put(folders.read(folder), {SAVED: table.weight}, folder)
        loaded = PrefixEncoder(_config(self.spec.model_copy(update={"projection": False}), self._base))
        loaded.embedding = table
        self._model.add_module(_NAME, loaded.to(self._encoder.embedding.weight.device))

    def merge(self) -> None:
        """Always a ContentError."""
        raise ContentError("a prefix cannot be merged into its base", why=self.spec.cannot_merge)

    @property
    def _encoder(self) -> Any:
        return self._model.get_submodule(_NAME)

    def _written(self) -> Tensor:
        """[V, layers x 2 x heads x width], float32."""
        places = torch.arange(self.spec.tokens, device=self._encoder.embedding.weight.device)
        written: Tensor = self._encoder(places.unsqueeze(0))
        return written[0]

    def _fill(self, cache: Any, batch: int) -> Any:
        """The prefix in an empty cache, or a new one, for `batch` rows."""
        cache = DynamicCache(config=self._base) if cache is None else cache
        c = self._config
        heads, width = c.num_attention_heads, c.token_dim // c.num_attention_heads
        dtype = self._model.get_input_embeddings().weight.dtype
        written = self._written().to(dtype).view(self.spec.tokens, c.num_layers, 2, heads, width)
        # [layers, 2, heads, V, width], the same for every row
        for layer, (keys, values) in enumerate(written.permute(1, 2, 3, 0, 4)):
            cache.update(keys.expand(batch, -1, -1, -1), values.expand(batch, -1, -1, -1), layer)
        return cache


def _config(spec: PrefixSpec, base: Any) -> PrefixTuningConfig:
    """PEFT's settings: its `token_dim` is the width of all keys of a layer."""
    heads = getattr(base, "num_key_value_heads", None) or base.num_attention_heads
    width = getattr(base, "head_dim", None) or base.hidden_size // base.num_attention_heads
    return PrefixTuningConfig(
        task_type="CAUSAL_LM", num_virtual_tokens=spec.tokens, token_dim=heads * width, num_transformer_submodules=1,
        num_attention_heads=heads, num_layers=base.num_hidden_layers, encoder_hidden_size=spec.width,
        prefix_projection=spec.projection,
    )  # fmt: skip


def _require_whole_view(model: Any) -> None:
    """ContentError for layers that look back over a window: rows padded on the left would lose the prefix sooner, and
    an answer would depend on what stands beside it in a batch."""
    kinds = set(getattr(model.config.get_text_config(), "layer_types", None) or ())
    window = getattr(model.config.get_text_config(), "sliding_window", None)
    if kinds - {"full_attention"} or (not kinds and window):
        raise ContentError(
            "prefix tuning needs layers that see the whole text",
            why="some of this base's look back over a window alone, and lose sight of the prefix",
            mend="use adapter: {type: prompt}, {type: p_tuning} or {type: lora}",
        )
