"""Mean loss over rows without training."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from ..core.errors import ShortageError
from ..data.batch import Item, collate, evaluation_batches
from ..data.tokenize import Encoded
from ..models.head import labelled
from ..models.modes import evaluating
from . import precision
from .distributed import ALONE, World, is_sharded
from .memory import free, out_of_memory
from .objective import Objective, TorchBatch

T = TypeVar("T")
EVALUATION_TOKENS, FEWEST_TOKENS = 8192, 256
"""Padded tokens of a batch; halved when memory runs out."""


@dataclass(frozen=True)
class Validation:
    """The objective on held-out rows: its mean loss in nats over the rows' weight, and the means of its figures."""

    loss: float
    figures: dict[str, float]


def validate(
    model: Any, objective: Objective, rows: Sequence[Item], *, pad_id: int, number_type: str, world: World = ALONE,
    alive: Callable[[], None] = lambda: None, parts: int = 1,
) -> Validation:  # fmt: skip
    """The objective on rows without training, weighted like in training; nan where nothing has weight.

    Several processes share the rows; each gets the whole result. `alive` is called behind every batch. `parts` is into
    how many training has had to cut its batches. ShortageError where memory runs out under FSDP.
    """
    sharded = world.size > 1 and is_sharded(model)
    with evaluating(model), torch.no_grad(), precision.context(number_type, model):
        rows = objective.step_rows(model, rows, None)
        sums = _fitting(
            lambda tokens: _sums(model, objective, rows, pad_id, world, tokens, alive), world, parts, sharded=sharded
        )
    weight = sum(row.weight for row in rows) or float("nan")
    loss, *figures = (total / weight for total in world.sum(sums))
    return Validation(loss, dict(zip(objective.figures, figures, strict=True)))


def _fitting(attempt: Callable[[int], T], world: World = ALONE, parts: int = 1, *, sharded: bool = False) -> T:
    """`attempt` with as many padded tokens a batch as memory takes: fewer after each shortage, in all processes."""
    tokens = max(min(FEWEST_TOKENS, EVALUATION_TOKENS), EVALUATION_TOKENS // parts)
    while True:
        made: list[T] = []
        try:
            made.append(attempt(tokens))
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error) or tokens <= FEWEST_TOKENS:
                raise
            if sharded:  # the others wait for this process's weights
                raise ShortageError("a process ran out of memory", why=str(error).splitlines()[0]) from None
        # Here the error and with it every tensor that its frames held is gone.
        if not world.max(int(not made)):
            return made[0]
        tokens //= 2
        free()


def mean_loss(
    model: Any, objective: Objective, rows: Sequence[Item], *, pad_id: int, number_type: str, world: World = ALONE
) -> float:
    """The loss alone of `validate`."""
    return validate(model, objective, rows, pad_id=pad_id, number_type=number_type, world=world).loss


def _sums(
    model: Any, objective: Objective, rows: Sequence[Item], pad_id: int, world: World, tokens: int,
    alive: Callable[[], None],
) -> list[float]:  # fmt: skip
    """[loss, figures...], summed over this process's batches."""
    device, total = next(model.parameters()).device, 0.0
    objective.tally.take()
    counted = dict.fromkeys(objective.figures, 0.0)
    for places, counts in _shared(rows, world, tokens):
        batch = objective.batch([rows[i] for i in places], pad_id, device)
        total += float(objective.loss_sum(model, batch)) * counts
        found = objective.tally.take()
        counted = {name: value + found.get(name, 0.0) * counts for name, value in counted.items()}
        alive()
    return [total, *counted.values()]


def _shared(rows: Sequence[Item], world: World, tokens: int) -> Iterator[tuple[list[int], bool]]:
    """(rows, whether they count) of this process's batches; one that does not count where others have one more, so
    that all make as many passes."""
    planned = evaluation_batches([row.length for row in rows], tokens)
    for start in range(0, len(planned), world.size):
        mine = start + world.rank < len(planned)
        yield planned[start + world.rank if mine else start], mine


def row_losses(
    model: Any, rows: Sequence[Encoded], *, pad_id: int, number_type: str
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """For each row, the summed negative log-likelihood of its labelled tokens [rows] in nats, and their count [rows].

    Whatever the training objective, this is the plain cross entropy that models are compared by: without weights, and
    without a mixture of experts' router loss.
    """
    with torch.no_grad(), precision.context(number_type, model):
        return _fitting(lambda tokens: _row_losses(model, rows, pad_id, tokens))


def _row_losses(
    model: Any, rows: Sequence[Encoded], pad_id: int, tokens: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    sums, counts = np.zeros(len(rows)), np.zeros(len(rows), dtype=np.int64)
    device = next(model.parameters()).device
    for indices in evaluation_batches([len(r.input_ids) for r in rows], tokens):
        batch = TorchBatch.of(collate([rows[i] for i in indices], pad_id), device)
        said = labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
        owner_N = said.owner_N.cpu()
        local = torch.zeros(len(indices), dtype=torch.float64)
        sums[indices] = local.index_add_(0, owner_N, said.losses().double().cpu()).numpy()
        counts[indices] = owner_N.bincount(minlength=len(indices)).numpy()
    return sums, counts
