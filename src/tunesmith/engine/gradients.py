"""The gradient of one optimizer step, whatever it is cut into: micro-batches, processes, or halves after a shortage
of memory. Always that of the mean over all labelled tokens of the step.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn import Parameter

from ..core.errors import ShortageError, TunesmithError
from ..data.batch import Item, Step, within
from ..models.trunk import idle_layers
from . import distributed, precision
from .checkpoint import rng_state, set_rng_state
from .config import TrainingSpec
from .distributed import World
from .memory import free, out_of_memory
from .objective import Objective


@dataclass(frozen=True)
class Measured:
    """What a step's forward and backward passes told: mean loss in nats over its rows' weight (of labelled tokens, of
    pairs), gradient norm before clipping, real tokens, labelled tokens; of all processes together."""

    loss: float
    norm: float
    tokens: int
    labelled: int
    figures: dict[str, float]
    """Means of what the method counts beside its loss, by name."""


@dataclass(frozen=True)
class _Share:
    """What this process computed of a step: sums over its rows; and of all rows their weight and tokens."""

    loss: float
    figures: dict[str, float]
    weight: float
    tokens: int
    labelled: int


@dataclass(frozen=True)
class _Part:
    """Places in a step of the rows that are computed at once, and whether they count."""

    rows: list[int]
    counts: bool = True


AT_ONCE = 1000 << 20
"""Bytes; see `tokens_at_once`."""
_BYTES, _HALF = 34, 2
SAME_STEP = "the step stays the same"
_MEND = "lower training.max_length, set training.devices.activation_checkpointing: true, or take a smaller base"


class Gradients:
    """Computes `.grad` of every trained parameter for one optimizer step at a time."""

    def __init__(
        self, model: Any, trainable: dict[str, Parameter], objective: Objective, rows: Sequence[Item],
        spec: TrainingSpec, pad_id: int, world: World, note: Callable[[str], None],
    ):  # fmt: skip
        self._model, self._trainable, self._objective = model, trainable, objective
        self._rows, self._spec, self._pad_id, self._world, self._note = rows, spec, pad_id, world, note
        self._device = distributed.local(next(iter(trainable.values()))).device
        distributed.equalise(model, world)
        self._tokens = tokens_at_once(model) if self._device.type == "cpu" else None
        self.parts = 1
        """Into how many parts each micro-batch is cut; doubled whenever memory runs out."""

    def compute(self, number: int, step: Step) -> Measured:
        """Gradients of optimizer step `number` (from 0), clipped. TunesmithError when one row finds no memory.

        Nothing is exchanged before every process has computed its share (but under FSDP): so one that finds no memory
        can say so, and all halve together.
        """
        self._model.train()
        before = rng_state()
        while True:
            share, shortage = self._try(number, step)
            short = self._world.max(int(share is None))
            if share is not None and not short:
                return self._together(share)
            self._halve(step, shortage or "another process ran out of memory")
            set_rng_state(before)

    def clear(self) -> None:
        """Forget the gradients."""
        for parameter in self._trainable.values():
            parameter.grad = None

    def _try(self, number: int, step: Step) -> tuple[_Share | None, str]:
        """This process's share of the step; None, and what was said, where memory ran out."""
        try:
            return self._accumulate(number, step), ""
        except (RuntimeError, MemoryError) as error:
            if not out_of_memory(error):
                raise
            shortage = str(error).splitlines()[0]
            if self._world.size > 1 and distributed.is_sharded(self._model):
                # The others wait for this process's weights, in the middle of a forward or backward pass.
                self._require_several(step, shortage)
                raise ShortageError("a process ran out of memory", why=shortage) from None
        # Here the error and with it every tensor that its frames held is gone.
        return None, shortage

    def _accumulate(self, number: int, step: Step) -> _Share:
        """Forward and backward over this process's rows: their gradients, not yet exchanged, and sums."""
        places = [i for micro in step for i in micro]
        total, figures = 0.0, dict.fromkeys(self._objective.figures, 0.0)
        self._objective.tally.take()
        with precision.context(str(self._spec.precision), self._model):
            rows = self._objective.step_rows(self._model, [self._rows[i] for i in places], number)
            weight = sum(row.weight for row in rows)
            with distributed.exchanging(self._model, wanted=False):
                extra = self._objective.regulariser(self._model, number)
                if extra is not None:
                    torch.autograd.backward(extra)
            parts = self._mine(_renumbered(step), [row.length for row in rows])
            for place, part in enumerate(parts):
                with distributed.exchanging(self._model, wanted=place == len(parts) - 1):
                    batch = self._objective.batch([rows[i] for i in part.rows], self._pad_id, self._device)
                    loss = self._objective.loss_sum(self._model, batch)
                    # Over several processes gradients are averaged, and a sum is wanted.
                    torch.autograd.backward(loss * (part.counts * self._world.size / weight))
                total += float(loss.detach()) * part.counts
                sums = self._objective.tally.take()
                figures = {name: figures[name] + sums.get(name, 0.0) * part.counts for name in figures}
        return _Share(total, figures, weight, sum(row.length for row in rows), sum(row.labelled for row in rows))

    def _together(self, share: _Share) -> Measured:
        """The step's gradients and figures, from every process's share."""
        distributed.average_gradients(self._model, list(self._trainable.values()), self._world)
        norm = torch.nn.utils.clip_grad_norm_(
            self._trainable.values(), self._spec.clip_norm or float("inf"), foreach=True
        )
        total, *sums = self._world.sum([share.loss, *share.figures.values()])
        means = {name: value / share.weight for name, value in zip(share.figures, sums, strict=True)}
        return Measured(total / share.weight, float(distributed.whole(norm)), share.tokens, share.labelled, means)

    def _mine(self, step: Step, lengths: Sequence[int]) -> list[_Part]:
        """The micro-batches of this process: every n-th where they can be dealt out evenly, else the n-th rows of
        each. A process left without rows takes one that does not count, so that all do the same number of passes."""
        micros = [part for micro in step for part in self._cut(micro, lengths)]
        rank, size = self._world.rank, self._world.size
        if len(micros) % size == 0:
            return [_Part(micro) for micro in micros[rank::size]]
        return [_Part(micro[rank::size]) if micro[rank::size] else _Part(micro[:1], False) for micro in micros]

    def _cut(self, micro: list[int], lengths: Sequence[int]) -> list[list[int]]:
        """A micro-batch of rows of these lengths in what is computed at once."""
        rows = -(-(self._spec.batch_size or len(micro)) // self.parts)
        parts = [micro[at : at + rows] for at in range(0, len(micro), rows)]
        return [piece for part in parts for piece in within(part, lengths, self._tokens)]

    def _halve(self, step: Step, shortage: str) -> None:
        """Cut micro-batches smaller and forget what was computed; TunesmithError where that cannot help."""
        self.clear()
        free()
        self._require_several(step, shortage)
        self.parts *= 2
        self._note(f"out of memory: each micro-batch is now computed in {self.parts} parts; {SAME_STEP}")

    def _require_several(self, step: Step, shortage: str) -> None:
        lengths = [row.length for row in self._rows]
        if max(len(part) for micro in step for part in self._cut(micro, lengths)) == 1:
            raise TunesmithError("one row alone finds no memory", why=shortage, mend=_MEND)


def tokens_at_once(model: Any) -> int:
    """Padded tokens that are computed at once on a CPU, where a larger batch is no faster; see `at_once`."""
    hidden: int = model.get_input_embeddings().weight.shape[-1]
    layers: int = getattr(model.config.get_text_config(), "num_hidden_layers", 1)
    return at_once(hidden, max(1, layers - idle_layers(model)), next(model.parameters()).dtype.itemsize)


def at_once(hidden: int, layers: int, width: int) -> int:
    """Padded tokens whose backward pass needs about `AT_ONCE` bytes, with weights of `width` bytes.

    34 bytes a token, layer and hidden unit in 16 bits (Korthikanti et al. 2022, arXiv 2205.05198, equation 2); layers
    below all that is trained keep nothing, and are not counted.
    """
    return max(1, AT_ONCE // (_BYTES * hidden * layers * (1 if width <= _HALF else 2)))


def _renumbered(step: Step) -> Step:
    """The step with each row's place among the step's rows instead of its number."""
    places = itertools.count()
    return [[next(places) for _ in micro] for micro in step]
