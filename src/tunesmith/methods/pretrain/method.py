"""Pre-training: every token of a text predicted from those before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...core.errors import ContentError
from ...core.events import Note
from ...data.batch import collate
from ...data.packing import Packed
from ...engine.objective import Tally, TorchBatch
from ...models.head import Labelled, labelled
from ...models.packed import PackedTensors, can_pack
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
        self._packs = False

    def prepare(self, scene: Scene) -> Learned:
        """Find out whether the base keeps documents of one row apart. ContentError for an encoder-decoder."""
        if is_encoder_decoder(scene.model):
            raise ContentError(
                "pre-training needs a base that writes text by itself: this one is an encoder-decoder",
                mend="use a decoder, or method: {type: sft} on questions and answers",
            )
        if len(scene.train):
            ends = scene.train[0].sequences[0], scene.train[len(scene.train) - 1].sequences[-1]
            self._packs = can_pack(scene.model, ends, scene.pad_id)
            if not self._packs:
                scene.sink(Note("this base cannot keep documents of one row apart: each gets its own row"))
        return Learned(scene.train, scene.validation)

    def step_rows(self, model: Any, rows: Sequence[Packed], step: int | None) -> Sequence[Packed]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Packed], pad_id: int, device: torch.device) -> PackedTensors | TorchBatch:
        """Padded on the right; rows of one document each as any rows are."""
        if self._packs and any(len(row.starts) > 1 for row in rows):
            return PackedTensors.of(rows, pad_id, device)
        return TorchBatch.of(collate([one for row in rows for one in row.sequences], pad_id), device)

    def loss_sum(self, model: Any, batch: PackedTensors | TorchBatch) -> Tensor:
        """Sum over tokens of the cross entropy, and the router's term where the base has one."""
        said = _said(model, batch)
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


def _said(model: Any, batch: PackedTensors | TorchBatch) -> Labelled:
    if isinstance(batch, PackedTensors):
        return batch.said(model)
    return labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
