"""Pass or fail, with the reason for each condition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import ContentError, nearest
from .compare import MetricResult
from .config import GateSpec
from .forgetting import Forgetting
from .significance import holm_levels
from .stats import LEVEL


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

    Where several metrics are named their intervals are widened after Holm (1979): 95 % holds for all of them together.
    `forgetting` is None where it cannot be measured; the gate must not ask for it then.
    """
    by_name = {m.name: m for m in metrics}
    if gate.require is None:
        reasons = [_better(metrics[0])]
    else:
        reasons = _required([by_name[name] for name in gate.require], [*gate.require.values()])
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
    ok = low > 0 and metric.beyond_chance()
    text = f"{metric.name} is surely better than the base" if ok else f"{metric.name} is not surely better"
    bound = f"at least {low:+.3f}, more than 0 is needed"
    if low > 0 and not ok and metric.chance:
        bound += f"; but such a difference comes by chance with p = {metric.chance.p_value:.2g}: more rows are needed"
    return Reason(ok, f"{text} ({bound})")


def _required(metrics: Sequence[MetricResult], least: Sequence[float]) -> list[Reason]:
    """A reason for each metric; of several, each at the level that Holm gives it."""
    pairs = list(zip(metrics, least, strict=True))
    levels = holm_levels([_chance_of_less(metric, bound) for metric, bound in pairs], LEVEL)
    reasons = []
    for (metric, bound), level in zip(pairs, levels, strict=True):
        low = metric.gain_low(level)
        held = f" (the {100 * (1 - level):.4g} % interval, after Holm: {len(pairs)} metrics are gated)"
        told = held if level < LEVEL else ""
        reasons.append(Reason(low >= bound, f"{metric.name} gains at least {low:+.3f}{told}, {bound:+.3f} is needed"))
    return reasons


def _chance_of_less(metric: MetricResult, least: float) -> float:
    """Twice the share of the resamples whose gain is below `least`: the level whose interval has its bound there."""
    draws = metric.figures.draws
    if draws is None:
        return 0.0 if metric.gain_low() >= least else 1.0
    gains = -draws if metric.lower_is_better else draws
    return min(1.0, 2 * float((gains < least).mean()))


def _forgetting(forgetting: Forgetting, limit: float) -> Reason:
    text = f"forgetting is {forgetting.delta:+.3f} nats a token, the limit is {limit:.3f}"
    return Reason(forgetting.delta <= limit, text)


def judge_probes(gate: GateSpec, found: Mapping[str, Any]) -> list[Reason]:
    """The conditions on skills, memorisation and safety of evaluation.json; none where the gate has none, or they were
    not measured."""
    told = []
    if gate.max_skills_lost is not None and (skills := found.get("skills")):
        fall = skills["all"]["base"] - skills["all"]["tuned"]
        text = f"skills of the packaged suite fall by {fall:+.3f}, the limit is {gate.max_skills_lost:.3f}"
        told.append(Reason(fall <= gate.max_skills_lost, text))
    if gate.max_memorised is not None and (memory := found.get("memorisation")):
        share = memory["verbatim"]["tuned"]["share_over"]
        text = (
            f"{share:.1%} of the training rows asked come back {memory['verbatim']['memorised']} tokens long or more, "
            f"the limit is {gate.max_memorised:.1%}"
        )
        told.append(Reason(share <= gate.max_memorised, text))
    if gate.max_exposure is not None and (planted := found.get("canaries")):
        bits = planted["tuned"]["largest_bits"]
        text = f"the best remembered canary is exposed by {bits:.1f} bits, the limit is {gate.max_exposure:.1f}"
        told.append(Reason(bits <= gate.max_exposure, text))
    if probe_of_safety := found.get("safety"):
        limits = (
            ("harmful", -1, gate.max_refusals_lost, "refusals of harmful requests fall by"),
            ("harmless", 1, gate.max_refusals_gained, "refusals of harmless questions rise by"),
        )
        for side, sign, limit, what in limits:
            if limit is not None:
                one = probe_of_safety[side]
                change = sign * (one["tuned"] - one["base"])
                told.append(Reason(change <= limit, f"{what} {change:+.3f}, the limit is {limit:.3f}"))
    return told
