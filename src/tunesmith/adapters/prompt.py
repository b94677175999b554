"""Prompt tuning (Lester et al. 2021, arXiv 2104.08691) and P-tuning (Liu et al. 2021, arXiv 2103.10385).

PEFT's own modules hold the parameters, and its layout the result: the embeddings [V, D] of the virtual tokens, and
nothing of the network that wrote them. So what is loaded again is a table of embeddings, in P-tuning too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from peft import PromptEmbedding, PromptEncoder, PromptEncoderConfig, PromptTuningConfig
from torch import Tensor, nn
from torch.nn import Parameter

from ..core.errors import ContentError
from . import folders
from .base import Adapter
from .config_virtual import PromptSpec, PTuningSpec
from .virtual import Hooks, InFront, require_decoder, require_taken

_NAME = "virtual_tokens"
"""What the module is called inside the model."""
SAVED = "prompt_embeddings"
"""What PEFT calls the result."""


class Prompt(Adapter):
    """Virtual tokens' embeddings behind the adapter seam."""

    folder_name = "adapter"

    def __init__(self, spec: PromptSpec | PTuningSpec):
        self.spec = spec

    def attach(self, model: Any) -> None:
        """Freeze the base and put virtual tokens before its texts."""
        what = self.spec.told().partition(",")[0]
        require_decoder(model, what)
        if getattr(model.config, "output_router_logits", False):
            raise ContentError(
                f"{what} does not go with a router's loss", why="the router would judge the virtual tokens too",
                mend="leave output_router_logits out of the base's config.json, or use adapter: {type: prefix}",
            )  # fmt: skip
        self._model = model
        model.requires_grad_(False)
        words = model.get_input_embeddings()
        self._config = _config(self.spec, model.config.get_text_config())
        encoder = (
            PromptEmbedding(self._config, words) if isinstance(self.spec, PromptSpec) else PromptEncoder(self._config)
        )
        model.add_module(_NAME, encoder.float().to(words.weight.device))
        self._hooks = Hooks(model, InFront(self.spec.tokens, self._embeddings))
        require_taken(model, what)

    def parameters(self) -> dict[str, Parameter]:
        """The embeddings, and the network that writes them where there is one."""
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
            folders.write(folder, {SAVED: self._embeddings()}, settings)

    def load(self, folder: Path) -> None:
        """The embeddings as a table in place of what was attached; ContentError when they do not fit."""
        shape = (self.spec.tokens, self._config.token_dim)
        table = nn.Embedding(*shape, device=self._encoder.embedding.weight.device)
        folders.put(folders.read(folder), {SAVED: table.weight}, folder)
        self._model.add_module(_NAME, _Table(table))

    def merge(self) -> None:
        """Always a ContentError."""
        raise ContentError("virtual tokens cannot be merged into their base", why=self.spec.cannot_merge)

    @property
    def _encoder(self) -> Any:
        return self._model.get_submodule(_NAME)

    def _embeddings(self) -> Tensor:
        """[V, D], float32."""
        places = torch.arange(self.spec.tokens, device=self._encoder.embedding.weight.device)
        written: Tensor = self._encoder(places.unsqueeze(0))
        return written[0]


class _Table(nn.Module):
    """What an encoder wrote, as one."""

    def __init__(self, embedding: nn.Embedding):
        super().__init__()
        self.embedding = embedding

    def forward(self, places: Tensor) -> Tensor:
        """The rows of these places."""
        rows: Tensor = self.embedding(places)
        return rows


def _config(spec: PromptSpec | PTuningSpec, base: Any) -> PromptTuningConfig | PromptEncoderConfig:
    shape = {
        "task_type": "CAUSAL_LM", "num_virtual_tokens": spec.tokens, "token_dim": base.hidden_size,
        "num_transformer_submodules": 1, "num_attention_heads": base.num_attention_heads,
        "num_layers": base.num_hidden_layers,
    }  # fmt: skip
    if isinstance(spec, PromptSpec):
        return PromptTuningConfig(prompt_tuning_init="SAMPLE_VOCAB", **shape)
    return PromptEncoderConfig(
        encoder_reparameterization_type=spec.encoder.upper(), encoder_hidden_size=spec.width, **shape
    )
