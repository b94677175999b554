"""Which training rows move a test row: the gradients of the trained weights, held against each other.

To first order, a step of gradient descent at rate h on training row z lowers the loss of test row t by h <g(z), g(t)>,
g the gradient of a row's mean loss: TracInCP (Pruthi et al. 2020, arXiv 2002.08484) of one checkpoint, the kept one, in
place of a sum over several. Short answers have large gradients and would be named for every test row, so rows are
ranked by the cosine, as in LESS (Xia et al. 2024, arXiv 2402.04333, section 3.2). Where we differ from LESS: the
gradient itself in place of Adam's step, which the kept weights no longer tell.

What this cannot say: that a row would not be wrong without the rows named. It tells which way their gradients pull now.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import Parameter

from ..data.batch import collate
from ..data.tokenize import Encoded
from ..engine import precision
from ..engine.objective import TorchBatch
from ..models.head import labelled
from ..models.modes import evaluating

Array = NDArray[np.float64]
MOST_BYTES = 2**28
"""Of the test rows' gradients, float32; beyond this they are projected."""
PROJECTED = 2**16
"""Numbers that a projected gradient has: a cosine then errs by 1 / 256 or so."""


@dataclass(frozen=True)
class Influence:
    """T test rows beside C training rows. `dot` [T, C]: how fast a step on the training row lowers the test row's loss,
    in nats a token for each unit of learning rate; below 0 it raises it. `cosine` [T, C] is the same of unit length."""

    dot_TC: Array
    cosine_TC: Array
    parameters: int
    dimensions: int
    """Numbers that gradients were held against each other by; as many as `parameters` where they are exact."""


class Projection:
    """A fixed random map of gradients of `parameters` numbers to `dimensions`, which keeps dot products on average.

    A count sketch (Charikar, Chen & Farach-Colton 2002; Weinberger et al. 2009, arXiv 0902.2206): each number is added
    to a place under a random sign. Places are consecutive from a random start for each stretch of `dimensions` numbers,
    instead of drawn for each number: signs alone make it unbiased, and a gradient's memory is read in order.
    """

    def __init__(self, parameters: int, dimensions: int, seed: int):
        self.exact = dimensions >= parameters
        self.dimensions = min(parameters, dimensions)
        self._seed = seed

    def __call__(self, parts: Iterable[Tensor]) -> Tensor:
        """[dimensions] in float32, from a gradient in parts."""
        flat = [part.reshape(-1).float() for part in parts]
        if self.exact:
            return torch.cat(flat)
        draw = torch.Generator(device=flat[0].device).manual_seed(self._seed)
        made = torch.zeros(self.dimensions, device=flat[0].device)
        pieces = (part[at : at + self.dimensions] for part in flat for at in range(0, len(part), self.dimensions))
        for stretch in pieces:
            how: dict[str, Any] = {"generator": draw, "device": stretch.device}
            signs = 2 * torch.randint(0, 2, stretch.shape, dtype=torch.int8, **how) - 1
            start = int(torch.randint(0, self.dimensions, (1,), **how))
            signed = stretch * signs
            behind = min(len(signed), self.dimensions - start)
            made[start : start + behind] += signed[:behind]
            made[: len(signed) - behind] += signed[behind:]
        return made


def influence(
    model: Any, parameters: Sequence[Parameter], test: Sequence[Encoded], train: Sequence[Encoded], *, pad_id: int,
    number_type: str, seed: int, on_progress: Callable[[int], None] = lambda done: None,
) -> Influence:  # fmt: skip
    """Of rows that each have a labelled token. One backward pass for each row, and memory for the test rows' gradients
    and one more."""
    size = sum(parameter.numel() for parameter in parameters)
    wanted = size if 4 * size * len(test) <= MOST_BYTES else PROJECTED
    project = Projection(size, wanted, seed)
    with evaluating(model), precision.context(number_type, model):
        known_TD, known_T = [], []
        for row in test:
            parts = gradient(model, parameters, row, pad_id)
            known_TD.append(project(parts))
            known_T.append(_norm(parts))
            on_progress(len(known_T))
        of_test_TD, norm_T = torch.stack(known_TD), np.array(known_T)
        dot_TC, norm_C = np.zeros((len(test), len(train))), np.zeros(len(train))
        for place, row in enumerate(train):
            parts = gradient(model, parameters, row, pad_id)
            dot_TC[:, place] = (of_test_TD @ project(parts)).double().cpu().numpy()
            norm_C[place] = _norm(parts)
            on_progress(len(test) + place + 1)
    lengths_TC = norm_T[:, None] * norm_C
    cosine_TC = np.divide(dot_TC, lengths_TC, out=np.zeros_like(dot_TC), where=lengths_TC > 0)
    return Influence(dot_TC, cosine_TC.clip(-1, 1), size, project.dimensions)


def gradient(model: Any, parameters: Sequence[Parameter], row: Encoded, pad_id: int) -> list[Tensor]:
    """Of the row's mean loss by its own weights, in nats, with respect to each parameter."""
    device = next(model.parameters()).device
    batch = TorchBatch.of(collate([row], pad_id), device)
    said = labelled(model, batch.input_ids_BL, batch.attention_mask_BL, batch.loss_weight_BL)
    loss = (said.losses() * said.weight_N).sum() / said.weight_N.sum()
    found = torch.autograd.grad(loss, list(parameters), allow_unused=True)
    return [torch.zeros_like(of) if one is None else one for one, of in zip(found, parameters, strict=True)]


def _norm(parts: Sequence[Tensor]) -> float:
    return float(torch.stack([part.detach().float().norm() for part in parts]).norm())
