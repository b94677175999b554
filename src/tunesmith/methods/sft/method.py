"""Supervised fine-tuning: the loss, and the rehearsal that keeps the base's abilities."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from ...adapters.base import Adapter
from ...core.errors import ContentError
from ...data.batch import collate
from ...data.packing import Packed
from ...data.tokenize import Encoded
from ...engine.objective import Tally, TorchBatch
from ...engine.packed import PackedTensors, keeps_apart, packed_batch, said_of
from ...engine.steps import SEED_STRIDE
from ...inference.generate import Sampling, generate
from ...models.head import logits_at
from ...models.modes import evaluating
from ...models.targets import is_encoder_decoder
from ..base import Figures, Learned, Scene, Scores
from .config import RehearsalSpec, SftSpec
from .neftune import noisy_embeddings

Row = Encoded | Packed


class Sft:
    """Weighted cross entropy on labelled tokens.

    Sum over labelled tokens t of w_t * -log p(x_t | x_<t), in nats; under label smoothing e, of w_t times 1 - e of that
    and e of the mean of -log p over the vocabulary. The loop divides by the sum of w over the whole optimizer step.
    What an encoder-decoder is asked is told in `models.targets`.

    A mixture of experts whose config.json says `"output_router_logits": true` adds `router_aux_loss_coef` x its
    load-balancing loss, as in transformers; where the config leaves it off, as most published ones do, there is none.
    It is a mean over a micro-batch, so it is summed here in proportion to the micro-batch's weight: divided by the
    loop it is the weighted mean over the micro-batches. It is not a sum over tokens, though: with it, 1 x 8 and 8 x 1
    are not quite the same training.
    """

    def __init__(self, spec: SftSpec):
        self.spec, self.figures = spec, spec.figures
        self.tally = Tally()
        self._rehearsal: Rehearsal | None = None
        self._together = False

    def prepare(self, scene: Scene) -> Learned:
        """Sample the rehearsal texts from the base, when the recipe asks for them."""
        if self.spec.rehearsal:
            self._rehearse(self.spec.rehearsal, scene)
        if self.spec.packing and len(scene.train):
            self._together = keeps_apart(scene.model, scene.train, scene.pad_id, scene.sink)
        return Learned(scene.train, scene.validation)

    def _rehearse(self, spec: RehearsalSpec, scene: Scene) -> None:
        if not scene.adapter.keeps_base:
            raise ContentError(
                "method.rehearsal needs an adapter: in full fine-tuning no base is left to compare with",
                mend="use adapter: {type: lora}, or leave method.rehearsal out and mix in general rows (data.train)",
            )
        if is_encoder_decoder(scene.model):
            raise ContentError(
                "method.rehearsal needs a base that writes text by itself: this one is an encoder-decoder",
                why="it answers a prompt and does not go on from nothing, so there is no text of its own to reread",
                mend="leave method.rehearsal out and mix in general rows (data.train)",
            )
        self._rehearsal = Rehearsal(spec, scene.model, scene.adapter, scene.tokenizer, scene.seed)

    def step_rows(self, model: Any, rows: Sequence[Row], step: int | None) -> Sequence[Row]:
        """Those of the data."""
        return rows

    def batch(self, rows: Sequence[Row], pad_id: int, device: torch.device) -> PackedTensors | TorchBatch:
        """Padded on the right. Under packing validation rows are not packed: they may be answered too."""
        packed = [row for row in rows if isinstance(row, Packed)]
        if packed:
            return packed_batch(packed, pad_id, device, together=self._together)
        return TorchBatch.of(collate([row for row in rows if isinstance(row, Encoded)], pad_id), device)

    def loss_sum(self, model: Any, batch: PackedTensors | TorchBatch) -> Tensor:
        """Sum over labelled tokens of weight x cross entropy, and the router's term where the base has one."""
        with self._noise(model, batch):
            said = said_of(model, batch)
        if self.spec.token_accuracy:
            self.tally.add("token_accuracy", (said.said.logits().argmax(-1) == said.tokens_N) * said.weight_N)
        loss = (said.losses(self.spec.label_smoothing) * said.weight_N).sum()
        return loss if said.router_loss is None else loss + said.router_loss * said.weight_N.sum()

    def _noise(self, model: Any, batch: PackedTensors | TorchBatch) -> AbstractContextManager[None]:
        """NEFTune's, where the recipe asks for it; it does not go with packing."""
        alpha = self.spec.neftune_alpha
        if alpha is None or not isinstance(batch, TorchBatch):
            return nullcontext()
        return noisy_embeddings(model, batch.attention_mask_BL, alpha)

    def held_out(self, model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str) -> Figures:
        """Nothing: answers and losses say it all."""
        return {}

    def compared(self, base: Figures, tuned: Figures) -> dict[str, tuple[Scores, Scores]]:
        """Nothing besides."""
        return {}

    def regulariser(self, model: Any, step: int) -> Tensor | None:
        """The rehearsal's term, on the steps that have one."""
        if self._rehearsal is None or step % self._rehearsal.spec.every:
            return None
        return self._rehearsal.divergence(model, step)


class Rehearsal:
    """Texts of the base's own, and the distance of the tuned model from the base on them."""

    def __init__(self, spec: RehearsalSpec, model: Any, adapter: Adapter, tokenizer: Any, seed: int):
        self.spec, self._adapter, self._seed = spec, adapter, seed
        start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
        sampling = Sampling(max_tokens=spec.length - 1, temperature=1.0, seed=seed, min_tokens=spec.length - 1)
        with adapter.disabled():
            answers = generate(model, [[start]] * spec.rows, sampling, pad_id=tokenizer.pad_token_id, stop_ids=set())
        self._ids_RL = torch.tensor([[start, *a.token_ids] for a in answers], device=next(model.parameters()).device)

    def divergence(self, model: Any, step: int) -> Tensor:
        """weight x KL(base || tuned), the mean over the tokens of this step's texts, in nats.

        Nothing drops out of the base while it teaches.
        """
        pick = torch.Generator().manual_seed(self._seed * SEED_STRIDE + step)
        rows = torch.randperm(len(self._ids_RL), generator=pick)[: self.spec.batch]
        # Text is met with and without a start-of-document token in front: both must be kept.
        first = (step // self.spec.every) % 2
        ids_BL = self._ids_RL[rows.to(self._ids_RL.device), first:]
        mask_BL = torch.ones_like(ids_BL)
        with torch.no_grad(), self._adapter.disabled(), evaluating(model):
            base_NV = logits_at(model, ids_BL, mask_BL, mask_BL.bool()).float().log_softmax(-1)
        tuned_NV = logits_at(model, ids_BL, mask_BL, mask_BL.bool()).float().log_softmax(-1)
        return self.spec.weight * F.kl_div(tuned_NV, base_NV, reduction="batchmean", log_target=True)
