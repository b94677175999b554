"""Mean loss over rows without training."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..data.batch import Batch, collate, evaluation_batches
from ..data.tokenize import Encoded
from ..models.head import labelled
from . import precision
from .distributed import ALONE, World
from .memory import out_of_memory
from .objective import Objective, TorchBatch

EVALUATION_TOKENS, FEWEST_TOKENS = 8192, 256
"""Padded tokens of a batch; halved when memory runs out."""


def mean_loss(
    model: Any, objective: Objective, rows: Sequence[Encoded], *, pad_id: int, number_type: str, world: World = ALONE
) -> float:
    """The objective's loss in nats a labelled token, weighted like in training; nan without labelled tokens.

    Several processes share the rows; each gets the whole result.
    """
    was_training = model.training
    model.eval()
    tokens, total = EVALUATION_TOKENS, None
    with torch.no_grad(), precision.context(number_type, model):
        while total is None:
            try:
                total = _loss_sum(model, objective, _shared_batches(rows, pad_id, world, tokens))
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error) or tokens <= FEWEST_TOKENS or world.size > 1:
                    raise
                tokens //= 2
    model.train(was_training)
    [total] = world.sum([total])
    weight = sum(float(row.loss_weight.sum(dtype="float64")) for row in rows)
    return total / weight if weight else float("nan")


def _loss_sum(model: Any, objective: Objective, batches: Iterable[Batch]) -> float:
    device = next(model.parameters()).device
    return sum(float(objective.loss_sum(model, TorchBatch.of(batch, device))) for batch in batches)


def _shared_batches(rows: Sequence[Encoded], pad_id: int, world: World, tokens: int) -> Iterator[Batch]:
    """This process's batches; one that weighs nothing where others have one more, so that all make as many passes."""
    planned = evaluation_batches([len(row.input_ids) for row in rows], tokens)
    for start in range(0, len(planned), world.size):
        mine = start + world.rank < len(planned)
        batch = collate([rows[i] for i in planned[start + world.rank if mine else start]], pad_id)
        if not mine:
            batch.loss_weight[:] = 0
        yield batch


def row_losses(
    model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each row, the summed negative log-likelihood of its labelled tokens [rows] in nats, and their count [rows].

    Whatever the training objective, this is the plain cross entropy that models are compared by: without weights, and
    without a mixture of experts' router loss.
    """
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    device = next(model.parameters()).device
    with torch.no_grad(), precision.context(number_type, model):
        for indices in evaluation_batches([len(r.input_ids) for r in rows], EVALUATION_TOKENS):
            batch = TorchBatch.of(collate([rows[i] for i in indices], pad_id), device)
            said = labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
            owner_N = said.owner_N.cpu()
            local = torch.zeros(len(indices), dtype=torch.float64)
            sums[indices] = local.index_add_(0, owner_N, said.losses().double().cpu()).numpy()
            counts[indices] = owner_N.bincount(minlength=len(indices)).numpy()
    return sums, counts
