"""What a training will ask for, before it starts: operations, memory and, very roughly, time.

Operations of one training token (Kaplan et al. 2020, arXiv 2001.08361, section 2.1; a multiplication and an addition
are two): 2 for each weight that it passes forward, and 2 layers * hidden * length for causal attention. Backward as
much again for the gradients of what the layers were given, and where the weights are trained as much once more. The
head is passed by the tokens with loss alone.

Memory: the weights; 8 bytes for each trained one and its gradient, and its optimizer's state; what the backward pass
needs of what is computed at once, a micro-batch on a GPU and a piece of it on a CPU (`engine.gradients`): 34 bytes *
tokens * hidden * layers in 16 bits (Korthikanti et al. 2022, arXiv 2205.05198, equation 2, without the attention's
matrix, which the attention used here does not keep) and what the allocator keeps beside them, twice that in 32 bits;
and the logits of as many tokens as the head is given at once, with their gradients. The program itself comes on top:
its libraries and the audit take some 0.5 GB.

Time: the operations over a range of usual rates. Nothing is measured here; a run's own forecast, which measures, is in
`pipelines.foresee`.
"""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass
from typing import Any

from ..adapters.config import AdapterSpec
from ..data.audit import Audit, TokenFacts
from ..engine.gradients import at_once
from ..engine.steps import DEFAULT_BATCH_SIZE
from ..models.kernels.token_losses import TOKENS_AT_ONCE
from ..models.load import device
from ..models.refs import Base
from ..models.size import Size
from .recipe import RunSpec

CORE_RATE = (10e9, 50e9)
"""Operations a second of one core in a training, from slow to fast; the demo's two cores come to some 70e9 together."""
GPU_RATE = (50e12, 300e12)
"""Of one GPU made for it, since 2020, in 16 bits."""
WIDTHS = {"bf16": 2, "fp32": 4}
"""Bytes of a number."""
_STATE_BYTES = {"adamw": 8.0, "adamw8bit": 2.0, "adafactor": 0.1, "muon": 4.0}
"""Optimizer state for each trained weight."""
_ACTIVATION_BYTES, _KEPT_BYTES = 46, 2
"""Of one token, layer and hidden unit in 16 bits: all that backward needs, a third more than is counted above, which is
what the allocator keeps; what checkpointing keeps."""


@dataclass(frozen=True)
class Memory:
    """Bytes."""

    weights: int
    trained: int
    """Trained weights, gradients and optimizer state."""
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.trained + self.activations


@dataclass(frozen=True)
class Forecast:
    """An estimate; each figure may be wrong by a factor of two."""

    parameters: int
    trained_parameters: int
    tokens: int
    """Over all epochs."""
    operations: float
    memory: dict[str, Memory]
    """By the type of the weights: bf16, fp32."""
    cores: int

    def seconds(self) -> dict[str, tuple[float, float]]:
        """(least, most) on this machine's CPU, and on one GPU."""
        core = tuple(self.operations / (rate * self.cores) for rate in reversed(CORE_RATE))
        gpu = tuple(self.operations / rate for rate in reversed(GPU_RATE))
        return {"cpu": (core[0], core[1]), "gpu": (gpu[0], gpu[1])}

    def as_json(self) -> dict[str, Any]:
        """Plain values; memory in bytes, time in seconds as [least, most]."""
        memory = {name: asdict(parts) | {"total": parts.total} for name, parts in self.memory.items()}
        return asdict(self) | {"memory": memory, "seconds": {k: list(v) for k, v in self.seconds().items()}}


def of_audit(spec: RunSpec, base: Base, audit: Audit, times_larger: float = 1.0) -> Forecast | None:
    """Of a training on the rows of an audit, under their weights; None where there is none to train on."""
    tokens, epoch = audit.tokens, sum(source.tokens for source in audit.mixture)
    if not tokens or not tokens.rows:
        return None
    return forecast(spec, Size.of(base), tokens, times_larger, epoch if audit.mixture else None)


def audited(spec: RunSpec, base: Base, audit: Audit, times_larger: float = 1.0) -> dict[str, Any]:
    """The audit as `data-audit.json` holds it, with the forecast."""
    made = of_audit(spec, base, audit, times_larger)
    return audit.as_json() | {"forecast": made.as_json() if made else None}


def forecast(
    spec: RunSpec, size: Size, tokens: TokenFacts, times_larger: float = 1.0, epoch: int | None = None
) -> Forecast:
    """Of a training on rows with these figures; of a sample, `times_larger` is how many times more the whole has.

    `epoch` is how many tokens an epoch has where rows do not come once each.
    """
    trained = trained_parameters(spec.adapter, size)
    passes = spec.training.epochs * times_larger
    mean = tokens.tokens / max(tokens.rows, 1)
    seen = (tokens.tokens if epoch is None else epoch) * passes
    if spec.training.max_steps:
        seen = min(seen, spec.training.max_steps * spec.training.gradient_accumulation * _batch(spec, mean))
    # Rows are padded: most batches hold a long one.
    batch, labelled = _batch(spec, tokens.length_p95), tokens.labelled_tokens / max(tokens.tokens, 1)
    return Forecast(
        size.parameters, trained, round(seen), seen * _operations(spec.adapter, size, tokens, trained, mean),
        {name: memory_of(spec, size, name, _piece(spec, size, name, batch, tokens), labelled) for name in WIDTHS},
        _cores(),
    )  # fmt: skip


def trained_parameters(adapter: AdapterSpec, size: Size) -> int:
    """What the adapter trains in a base of this size; every weight in full fine-tuning."""
    return adapter.trained(size)


def _operations(adapter: AdapterSpec, size: Size, tokens: TokenFacts, trained: int, mean: float) -> float:
    """Of one token, forward and backward; see the head of this module."""
    labelled = tokens.labelled_tokens / max(tokens.tokens, 1)
    forward = 2 * size.body + 2 * size.layers * size.hidden * mean + 2 * size.head * labelled
    if not adapter.keeps_base:
        return 3 * forward
    # Parts of the base are passed already, and of them only the gradients come on top.
    return 2 * forward + (2 if adapter.trains_base else 6) * trained


def _batch(spec: RunSpec, length: float) -> float:
    """Tokens of a micro-batch of rows of this length."""
    training = spec.training
    return training.batch_tokens or (training.batch_size or DEFAULT_BATCH_SIZE) * length


def _piece(spec: RunSpec, size: Size, number_type: str, batch: float, tokens: TokenFacts) -> float:
    """Tokens of a micro-batch that are computed at once on this machine."""
    if device().type != "cpu":
        return batch
    width = 4 if spec.adapter.trains_base else WIDTHS[number_type]
    layers = max(1, round(size.layers * spec.adapter.reach(size)))
    return min(batch, max(at_once(size.hidden, layers, width), tokens.length_max))


def memory_of(spec: RunSpec, size: Size, number_type: str, tokens: float, labelled: float) -> Memory:
    """With so many padded `tokens` computed at once, of which the share `labelled` carries loss. Weights are of the
    number type; those that are trained have 4 bytes."""
    width, adapter, trained = WIDTHS[number_type], spec.adapter, trained_parameters(spec.adapter, size)
    layers = size.layers * adapter.reach(size)
    again = spec.training.devices.activation_checkpointing is True
    kept = layers * _KEPT_BYTES + _ACTIVATION_BYTES if again else layers * _ACTIVATION_BYTES
    activations = tokens * size.hidden * kept * width / 2
    whole = any(getattr(spec.method, name, None) for name in ("label_smoothing", "token_accuracy"))
    said = tokens * labelled if whole else min(tokens * labelled, TOKENS_AT_ONCE)
    # Under mixed precision the weights are cast, and the casts of a pass are kept until it is over.
    cast = 2 * size.parameters if adapter.trains_base and number_type == "bf16" else 0
    return Memory(
        _held(spec, size, width, trained), trained * 8 + state_bytes(spec, size),
        round(activations + said * size.vocabulary * 8 + cast),
    )  # fmt: skip


def state_bytes(spec: RunSpec, size: Size) -> int:
    """Of the optimizer, and of the mean of the weights."""
    each = _STATE_BYTES[spec.training.optimizer.type] + (4 if spec.training.ema else 0)
    return round(trained_parameters(spec.adapter, size) * each)


def _held(spec: RunSpec, size: Size, width: int, trained: int) -> int:
    """Bytes of the weights that are not trained."""
    if spec.adapter.trains_base:
        return (size.parameters - trained) * 4
    small = {"nf4": 0.52, "int8": 1.0}.get(getattr(spec.adapter, "quantize", None) or "", width)
    linear = sum(out * into for _, out, into in size.linear)
    return round((size.parameters - linear) * width + linear * small)


def _cores() -> int:
    """The cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
