"""Whether two forms of a model are the same model: logits on packaged text, and greedy answers to test prompts."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from ..core.messages import Message
from ..data.branches import Family
from ..data.tokenize import Encoded, encode_prompt
from ..engine.branches import sequences
from ..evaluation.forgetting import general_rows
from ..evaluation.general_loss import scored
from ..inference.generate import Sampling, generate
from ..models.head import labelled
from ..models.pooling import head_name
from ..models.pooling import scored as head_scores
from ..models.quantize import Int8Linear, QuantizedLinear, quantize
from .bench import Bench
from .rundir import RunDir

try:
    from ..models.nf4 import Nf4Linear
except ImportError:  # the extra `quantize` is not installed: what cannot be had is absent
    _KINDS: dict[str, type[QuantizedLinear]] = {"int8": Int8Linear}
else:
    _KINDS = {"int8": Int8Linear, "nf4": Nf4Linear}

PROBE_ROWS, PROBE_TOKENS = 8, 96
PROMPTS, LONGEST_ANSWER = 16, 64


@dataclass(frozen=True)
class Said:
    """What one form of a model gave: of each text its logits [tokens, vocabulary], and its answers in tokens."""

    logits: list[torch.Tensor]
    answers: list[list[int]]


@dataclass(frozen=True)
class Parity:
    """One form against another: logits' largest difference and equal best tokens on packaged text, and the share of
    test prompts with the very same greedy answer; None where no prompt was asked."""

    tokens: int
    largest_difference: float
    same_best_token: float
    prompts: int = 0
    same_answers: float | None = None


@dataclass(frozen=True)
class Parities:
    """The merged model against the adapter, and the merged model in fewer bits against the adapter, by kind."""

    merged: Parity
    fewer_bits: dict[str, Parity]

    def as_json(self) -> dict[str, Any]:
        """The merged one's figures, and `quantized`."""
        return vars(self.merged) | {"quantized": {kind: vars(one) for kind, one in self.fewer_bits.items()}}


@dataclass(frozen=True)
class Probe:
    """What all forms are asked, in float32."""

    rows: Sequence[Encoded]
    prompts: Sequence[Sequence[int]] = ()
    how: dict[str, Any] = field(default_factory=dict)
    headed: bool = False

    @staticmethod
    def of(bench: Bench, run: RunDir, *, headed: bool) -> Probe:
        """Packaged text and, of models that write answers, prompts of the run's test rows."""
        rows = scored(bench.model, general_rows(bench.tokenizer, PROBE_TOKENS)[:PROBE_ROWS])
        if headed:
            return Probe(rows, headed=True)
        asked = [row for row in run.read_lines("predictions.jsonl")[:PROMPTS] if row.get("tuned") is not None]
        messages = [[Message.model_validate(turn) for turn in row["prompt"]] for row in asked]
        prompts = [encode_prompt(bench.tokenizer, turns) for turns in messages]
        how: dict[str, Any] = {"pad_id": bench.pad_id, "stop_ids": bench.stop_ids, "context": bench.context}
        return Probe(rows, prompts, how)

    def ask(self, model: Any) -> Said:
        """One form of the model."""
        said = generate(model, self.prompts, Sampling(LONGEST_ANSWER), **self.how) if self.prompts else []
        return Said(_logits(model, self.rows), [answer.token_ids for answer in said])


def parity(before: Said, after: Said) -> Parity:
    """What differs between two forms."""
    pairs = list(zip(before.logits, after.logits, strict=True))
    tokens = sum(len(a) for a, _ in pairs)
    largest = max(float((a - b).abs().max()) for a, b in pairs)
    same = sum(int((a.argmax(-1) == b.argmax(-1)).sum()) for a, b in pairs)
    alike = [a == b for a, b in zip(before.answers, after.answers, strict=True)]
    return Parity(tokens, largest, same / tokens, len(alike), sum(alike) / len(alike) if alike else None)


def in_fewer_bits(plain: Any, before: Said, probe: Probe) -> dict[str, Parity]:
    """The plain model with its linear layers held in fewer bits, by kind; of models with another head none."""
    if probe.headed:
        return {}
    found = {}
    for kind, layer in _KINDS.items():
        small = copy.deepcopy(plain)
        quantize(small, layer)
        found[kind] = parity(before, probe.ask(small))
    return found


def _logits(model: Any, rows: Sequence[Encoded]) -> list[torch.Tensor]:
    """For each text, the logits [tokens, vocabulary] that it is scored by; of another head [1, labels]."""
    device = next(model.parameters()).device
    with torch.inference_mode():
        return [_of_one(model, row, device).float().cpu() for row in rows]


def _of_one(model: Any, row: Encoded, device: torch.device) -> torch.Tensor:
    ids_BL = torch.tensor(row.input_ids, dtype=torch.long, device=device).unsqueeze(0)
    if head_name(model):
        return head_scores(model, *sequences([Family((row,), 0)], 0, device, share=False).ends(model))
    weight_BL = torch.tensor(row.loss_weight, device=device).unsqueeze(0)
    return labelled(model, ids_BL, torch.ones_like(ids_BL), weight_BL).said.logits()
