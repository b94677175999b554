"""The next token of each row, from the model's logits and the row's own rules.

Rows that draw from one generator under the same temperature and top_p are drawn together, so that who generates a
whole batch under one seed has one stream of random numbers; a row with a generator of its own gets the same answer in
any company.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from .sampling import Sampling


class Constrained(Protocol):
    """What keeps an answer to a grammar."""

    @property
    def done(self) -> bool:
        """Whether nothing more can come."""

    def allowed(self, vocabulary: int) -> Tensor:
        """Which tokens may come next: bool [vocabulary], on the CPU, never none; where it may end, what ends it."""

    def take(self, token: int) -> None:
        """The token that came."""


@dataclass(frozen=True)
class Told:
    """What the model itself says of one place: log-probabilities before temperature, penalties and constraints."""

    logprob: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


class Row(Protocol):
    """What `choose` has to know of a row; `Line` is one."""

    sampling: Sampling
    random: torch.Generator | None
    constraint: Constrained | None
    logprobs: int | None
    tokens: list[int]
    told: list[Told]


def choose(logits_BV: Tensor, rows: Sequence[Row], stop_ids: set[int]) -> Tensor:
    """The next token of each row [B]. `logits_BV` is float32 and may be changed; `told` grows where it is asked for."""
    telling = [place for place, row in enumerate(rows) if row.logprobs is not None]
    said_TV = logits_BV[telling].log_softmax(-1) if telling else None
    for place, row in enumerate(rows):
        _bend(logits_BV[place], row, stop_ids)
    chosen_B = logits_BV.argmax(-1)
    drawing: dict[tuple[int, float, float], list[int]] = {}
    for place, row in enumerate(rows):
        if row.sampling.temperature:
            drawing.setdefault((id(row.random), row.sampling.temperature, row.sampling.top_p), []).append(place)
    for (_, temperature, top_p), places in drawing.items():
        whole = len(places) == len(rows)
        drawn = _draw(logits_BV if whole else logits_BV[places], temperature, top_p, rows[places[0]].random)
        chosen_B[places] = drawn
    if said_TV is not None:
        _tell(said_TV, chosen_B[telling], [rows[place] for place in telling])
    return chosen_B


def _bend(logits_V: Tensor, row: Row, stop_ids: set[int]) -> None:
    """Bias, penalties, what may not come yet and what may not come at all, in place."""
    sampling = row.sampling
    if not sampling.plain:
        added = dict(sampling.logit_bias)
        for token, times in Counter(row.tokens).items():
            penalty = sampling.presence_penalty + times * sampling.frequency_penalty
            added[token] = added.get(token, 0.0) - penalty
        ids = torch.tensor(list(added), device=logits_V.device, dtype=torch.long)
        logits_V[ids] += torch.tensor(list(added.values()), device=logits_V.device, dtype=logits_V.dtype)
    if row.constraint:
        logits_V.masked_fill_(~row.constraint.allowed(len(logits_V)).to(logits_V.device), float("-inf"))
    elif len(row.tokens) < sampling.min_tokens and stop_ids:
        logits_V[torch.tensor(sorted(stop_ids), device=logits_V.device)] = float("-inf")


def _draw(logits_BV: Tensor, temperature: float, top_p: float, random: torch.Generator | None) -> Tensor:
    probabilities_BV = (logits_BV / temperature).softmax(-1)
    if top_p < 1:
        probabilities_BV = _nucleus(probabilities_BV, top_p)
    return torch.multinomial(probabilities_BV, 1, generator=random).squeeze(1)


def _nucleus(probabilities_BV: Tensor, top_p: float) -> Tensor:
    """Zero all but the likeliest tokens that together reach `top_p` (Holtzman et al. 2020, arXiv 1904.09751)."""
    sorted_BV, order_BV = probabilities_BV.sort(dim=-1, descending=True)
    outside_BV = sorted_BV.cumsum(-1) - sorted_BV >= top_p
    return probabilities_BV.masked_fill(outside_BV.gather(-1, order_BV.argsort(-1)), 0.0)


def _tell(said_TV: Tensor, chosen_T: Tensor, rows: Sequence[Row]) -> None:
    """Put down what the model said of the tokens that were chosen."""
    most = max(row.logprobs or 0 for row in rows)
    logprob_T = said_TV.gather(1, chosen_T.unsqueeze(1)).squeeze(1).tolist()
    top = said_TV.topk(most, dim=-1)
    found = zip(rows, logprob_T, top.indices.tolist(), top.values.tolist(), strict=True)
    for row, logprob, ids, values in found:
        wanted = row.logprobs or 0
        row.told.append(Told(logprob, tuple(ids[:wanted]), tuple(values[:wanted])))
