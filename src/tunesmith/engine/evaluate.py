"""Mean loss over rows without training."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.batch import collate, evaluation_batches
from ..data.tokenize import Encoded
from ..models.head import logits_at
from . import precision
from .objective import Objective, TorchBatch

EVALUATION_TOKENS = 8192


def mean_loss(model: Any, objective: Objective, rows: Sequence[Encoded], *, pad_id: int, number_type: str) -> float:
    """The objective's loss in nats a labelled token, weighted like in training; nan without labelled tokens."""
    was_training = model.training
    model.eval()
    total, weight = 0.0, 0.0
    device = next(model.parameters()).device
    with torch.no_grad(), precision.context(number_type, model):
        for indices in evaluation_batches([len(r.input_ids) for r in rows], EVALUATION_TOKENS):
            batch = collate([rows[i] for i in indices], pad_id)
            total += float(objective.loss_sum(model, TorchBatch.of(batch, device)))
            weight += float(batch.loss_weight.sum())
    model.train(was_training)
    return total / weight if weight else float("nan")


def row_losses(
    model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each row, the summed negative log-likelihood of its labelled tokens [rows] in nats, and their count [rows].

    Whatever the training objective, this is the plain cross entropy that models are compared by.
    """
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    device = next(model.parameters()).device
    with torch.no_grad(), precision.context(number_type, model):
        for indices in evaluation_batches([len(r.input_ids) for r in rows], EVALUATION_TOKENS):
            batch = TorchBatch.of(collate([rows[i] for i in indices], pad_id), device)
            wanted_BL = batch.loss_weight_BL[:, 1:] > 0
            wanted_BL = torch.nn.functional.pad(wanted_BL, (0, 1))
            logits_NV = logits_at(model, batch.input_ids_BL, batch.attention_mask_BL, wanted_BL).float()
            targets_N = batch.input_ids_BL.roll(-1, dims=1)[wanted_BL]
            loss_N = torch.nn.functional.cross_entropy(logits_NV, targets_N, reduction="none").double().cpu()
            owner_N = wanted_BL.nonzero()[:, 0].cpu()
            local = torch.zeros(len(indices), dtype=torch.float64).index_add_(0, owner_N, loss_N)
            sums[indices] = local.numpy()
            counts[indices] = wanted_BL.sum(1).cpu().numpy()
    return sums, counts
