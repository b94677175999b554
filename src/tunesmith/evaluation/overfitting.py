"""Did training go on after it stopped helping? A verdict from the curves of training and validation loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Curve = Sequence[tuple[int, float]]
Kind = Literal["none", "mild", "overfitting", "too_short", "underfit", "not_measured"]
MILD, SERIOUS = 0.02, 0.10
"""Relative rise of the validation loss above its lowest value that counts."""
STILL_FALLING = 0.02
"""Relative fall over the last quarter of the validations that says training was too short."""


@dataclass(frozen=True)
class Overfitting:
    """The verdict and its figures; losses in nats a labelled token."""

    verdict: Kind
    best_step: int | None
    last_step: int
    kept_step: int
    best_validation_loss: float | None
    last_validation_loss: float | None
    last_train_loss: float | None
    explanation: str


def judge(
    train: Curve, validation: Curve, kept_step: int, *, stopped_early: bool, watched: str = "loss"
) -> Overfitting:
    """Find where validation turned, and say which checkpoint is kept and why. `watched` is what it is the best in."""
    last_step = train[-1][0] if train else 0
    last_train = _recent(train)
    if not validation:
        return Overfitting(
            "not_measured", None, last_step, kept_step, None, None, last_train,
            "There were no validation rows, so overfitting could not be seen. The last weights are kept.",
        )  # fmt: skip
    best_step, best = min(validation, key=lambda point: point[1])
    last = validation[-1][1]
    kind = _kind(train, validation)
    return Overfitting(
        kind, best_step, last_step, kept_step, best, last, last_train,
        _explain(kind, best_step, best, last_step, last, last_train, kept_step, stopped_early, watched),
    )  # fmt: skip


def _kind(train: Curve, validation: Curve) -> Kind:
    losses = [loss for _, loss in validation]
    best = min(losses)
    rise = losses[-1] / best - 1 if best > 0 else 0.0
    if rise >= SERIOUS:
        return "overfitting"
    if rise >= MILD:
        return "mild"
    if len(losses) > 1 and best >= 0.98 * losses[0] and _recent(train) >= 0.9 * train[0][1]:
        return "underfit"
    quarter = losses[-max(2, len(losses) // 4) :]
    if losses[-1] == best and len(losses) > 2 and quarter[-1] < (1 - STILL_FALLING) * quarter[0]:
        return "too_short"
    return "none"


def _explain(
    kind: Kind,
    best_step: int,
    best: float,
    last_step: int,
    last: float,
    last_train: float,
    kept: int,
    stopped: bool,
    watched: str,
) -> str:
    curve = (
        f"Validation loss was lowest at step {best_step} ({best:.3f} nats a token) and {last:.3f} at the last step "
        f"{last_step}, where training loss was {last_train:.3f}."
    )
    advice = {
        "overfitting": " From there on the model learned the training rows by heart.",
        "mild": " It rose a little after that.",
        "too_short": " It was still falling: more epochs may help.",
        "underfit": " Neither loss moved much: raise the learning rate, or look at the data.",
    }.get(kind, "")
    early = " Early stopping ended the training." if stopped else ""
    if watched != "loss":
        reason = f"because its validation {watched} is the highest"
    elif kept == best_step:
        reason = "because its validation loss is the lowest"
    else:
        reason = "as the last one" if kept == last_step else "as no later one was clearly better"
    return f"{curve}{advice}{early} Step {kept} is kept, {reason}."


def _recent(train: Curve) -> float:
    """Mean training loss of the last tenth of the steps."""
    if not train:
        return float("nan")
    tail = train[-max(1, len(train) // 10) :]
    return sum(loss for _, loss in tail) / len(tail)
