"""Pass or fail, with the reason for each condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ..core.errors import ContentError, nearest
from .compare import MetricResult
from .config import GateSpec
from .forgetting import Forgetting


@dataclass(frozen=True)
class Reason:
    """One condition of the gate, and whether it holds."""

    ok: bool
    text: str


@dataclass(frozen=True)
class Verdict:
    """The gate's word."""

    reasons: list[Reason]

    @property
    def passed(self) -> bool:
        """Whether every condition holds."""
        return all(reason.ok for reason in self.reasons)


def judge(gate: GateSpec, metrics: Sequence[MetricResult], forgetting: Forgetting | None) -> Verdict:
    """Hold the figures against the gate. Bounds are the lower ends of 95 % intervals of the improvement.

    `forgetting` is None where it cannot be measured; the gate must not ask for it then.
    """
    by_name = {m.name: m for m in metrics}
    if gate.require is None:
        reasons = [_better(metrics[0])]
    else:
        reasons = [_required(by_name, name, least) for name, least in gate.require.items()]
    if gate.max_forgetting is not None and forgetting:
        reasons.append(_forgetting(forgetting, gate.max_forgetting))
    return Verdict(reasons)


def check_names(gate: GateSpec, metric_names: Sequence[str]) -> None:
    """ContentError before any training when the gate names a metric that is not measured."""
    if gate.require == {} and gate.max_forgetting is None:
        raise ContentError("the gate has no condition: every model would pass", mend="name a metric in gate.require")
    for name in gate.require or {}:
        if name not in metric_names:
            raise ContentError(
                f"gate.require names '{name}', which evaluation.metrics does not measure",
                mend=nearest(name, metric_names),
            )


def _better(metric: MetricResult) -> Reason:
    low = metric.gain_low()
    text = f"{metric.name} is surely better than the base" if low > 0 else f"{metric.name} is not surely better"
    return Reason(low > 0, f"{text} (at least {low:+.3f}, more than 0 is needed)")


def _required(by_name: dict[str, MetricResult], name: str, least: float) -> Reason:
    low = by_name[name].gain_low()
    return Reason(low >= least, f"{name} gains at least {low:+.3f}, {least:+.3f} is needed")


def _forgetting(forgetting: Forgetting, limit: float) -> Reason:
    text = f"forgetting is {forgetting.delta:+.3f} nats a token, the limit is {limit:.3f}"
    return Reason(forgetting.delta <= limit, text)
