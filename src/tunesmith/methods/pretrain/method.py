"""Pre-training: every token of a text predicted from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.errors import ContentError
from ...data.packing import Packed
from ...engine.objective import Tally, TorchBatch
from ...engine.packed import PackedTensors, keeps_apart, packed_batch, said_of
from ...models.targets import is_encoder_decoder
from ..base import Figures, Learned, Scene, Scores
from .config import PretrainSpec


class Pretrain:
    """Cross entropy on the tokens of packed rows: the sum over tokens t of -log p(x_t | its document's x_<t), in nats.

    Where a model cannot keep documents of one row apart, each becomes a row of its own in the batch: the same loss, for
    more padding. In a mixture of experts the router's loss counts as in `sft`.
    """

    figures: tuple[str, ...] = ()

    def __init__(self, spec: PretrainSpec):
        self.spec = spec
        self.tally = Tally()
        self._together = False

    def prepare(self, scene: Scene) -> Learned:
        """Find out whether the base keeps documents of one row apart. ContentError for an encoder-decoder."""
        if is_encoder_decoder(scene.model):
            raise ContentError(
                "pre-training needs a base that writes text by itself: this one is an encoder-decoder",
                mend="use a decoder, or method: {type: sft} on questions and answers",
            )
        if len(scene.train):
            self._together = keeps_apart(scene.model, scene.train, scene.pad_id, scene.sink)
        return Learned(scene.train, scene.validation)

    def step_rows(self, model: Any, rows: Sequence[Packed], step: int | None) -> Sequence[Packed]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Packed], pad_id: int, device: torch.device) -> PackedTensors | TorchBatch:
        """Padded on the right; rows of one document each as any rows are."""
        return packed_batch(rows, pad_id, device, together=self._together)

    def loss_sum(self, model: Any, batch: PackedTensors | TorchBatch) -> Tensor:
        """Sum over tokens of the cross entropy, and the router's term where the base has one."""
        said = said_of(model, batch)
        loss = (said.losses() * said.weight_N).sum()
        return loss if said.router_loss is None else loss + said.router_loss * said.weight_N.sum()

    def held_out(self, model: Any, rows: Sequence[Any], *, pad_id: int, number_type: str) -> Figures:
        """Nothing: losses say it all."""
        return {}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """Nothing besides."""
        return {}

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """None."""
        return None
