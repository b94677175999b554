"""What may help against forgetting, where a run has forgotten: lines for its recipe, from its own settings and figures.

None of it is sure, and the words say so. Grounds: rehearsal on what the base writes by itself (`docs/results.md` has
what it brought on the demo); general rows mixed in (replay of 5 % where the text shifts a little and of 25 % where it
shifts much: Ibrahim et al. 2024, arXiv 2403.08763); LoRA forgets less than full fine-tuning and learns less (Biderman
et al. 2024, arXiv 2405.09673); and steps half as long move the weights about half as far. No torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import yaml

from ..core.spec import Spec
from ..evaluation.config import GateSpec
from ..methods.sft.config import RehearsalSpec, SftSpec
from ..models.refs import Base
from .recipe import RunSpec
from .usual import usual_rank, usual_rate

KEY = "against_forgetting"
"""In evaluation.json; absent where nothing was forgotten."""
CHANCE = 0.05
SHARE_A_LITTLE, SHARE_MUCH = 0.05, 0.25
"""Of general rows in an epoch, to begin with: where the rise is within twice the limit, and where it is more."""
GENERAL = "general.jsonl"
_DEFAULT_LIMIT: float = GateSpec.model_fields["max_forgetting"].default


@dataclass(frozen=True)
class Remedy:
    """One thing to change: why, in words, and the lines of the recipe (YAML)."""

    words: str
    lines: str


def facts(spec: RunSpec, base: Base, evaluation: dict[str, Any], mixture: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """`against_forgetting` of evaluation.json, empty where nothing was; `mixture` is that of data-audit.json."""
    why = found(spec.gate, evaluation)
    if not why:
        return {}
    return {KEY: {"why": why, "remedies": [asdict(one) for one in remedies(spec, base, evaluation, mixture)]}}


def found(gate: GateSpec, evaluation: dict[str, Any]) -> list[str]:
    """What was forgotten, in words: general text over the limit (the usual one where the gate has none), skills."""
    told = []
    rise, limit = evaluation["forgetting"]["delta"], _limit(gate)
    if rise is not None and not rise <= limit:
        told.append(f"the loss on general text rose by {rise:+.3f} nats a token, more than {limit:.3f}")
    skills = (evaluation.get("skills") or {}).get("all")
    if skills and (fall := skills["base"] - skills["tuned"]) > 0:
        over = gate.max_skills_lost is not None and fall > gate.max_skills_lost
        if over or skills["p_value"] <= CHANCE:
            told.append(
                f"skills of the packaged suite fell from {skills['base']:.0%} to {skills['tuned']:.0%} of "
                f"{skills['items']} items (p = {skills['p_value']:.2g})"
            )
    return told


def remedies(
    spec: RunSpec, base: Base, evaluation: dict[str, Any], mixture: Sequence[dict[str, Any]]
) -> list[Remedy]:  # fmt: skip
    """What is not yet in the recipe, or not yet enough, the surest first."""
    made = (
        _adapter(spec, base), _rehearsal(spec, base), _general(spec, _much(spec.gate, evaluation), mixture), _rate(spec)
    )  # fmt: skip
    return [one for one in made if one]


def _limit(gate: GateSpec) -> float:
    return _DEFAULT_LIMIT if gate.max_forgetting is None else gate.max_forgetting


def _much(gate: GateSpec, evaluation: dict[str, Any]) -> bool:
    rise = evaluation["forgetting"]["delta"]
    return rise is not None and not rise <= 2 * _limit(gate)


def _adapter(spec: RunSpec, base: Base) -> Remedy | None:
    """LoRA for full fine-tuning, with rehearsal where that is then possible."""
    if spec.adapter.keeps_base:
        return None
    small = base.name.startswith("bundled/")
    rank, rate = usual_rank(small), float(usual_rate("preference" not in spec.method.kinds, small)[0])
    lines: dict[str, Any] = {
        "adapter": {"type": "lora", "r": rank, "alpha": 2 * rank}, "training": {"learning_rate": rate}
    }  # fmt: skip
    also = ""
    if isinstance(spec.method, SftSpec) and not base.encoder_decoder:
        lines["method"] = _given(spec.method) | {"rehearsal": {}}
        also = " Beneath an adapter the base stays, so it can be rehearsed, too."
    return Remedy(
        "Train an adapter in place of every weight: LoRA was found to forget less, and to learn less; watch "
        f"{_counted(spec)}.{also}", _yaml(lines),
    )  # fmt: skip


def _rehearsal(spec: RunSpec, base: Base) -> Remedy | None:
    """Rehearsal, or more of it."""
    method = spec.method
    if not isinstance(method, SftSpec) or not spec.adapter.keeps_base or base.encoder_decoder:
        return None
    if method.rehearsal is None:
        return Remedy(
            "Rehearse what the base can do: it needs no data of yours. On the packaged demo the rise was +0.029 with "
            "it and +0.325 without (one run each); here it is not measured yet.",
            _yaml({"method": _given(method) | {"rehearsal": {}}}),
        )
    more = _more(method.rehearsal)
    return Remedy(
        f"Rehearse more: this run did every {method.rehearsal.every} steps at weight {method.rehearsal.weight:g}. It "
        "takes longer, and holds the model nearer to the base in the task as well.",
        _yaml({"method": _given(method) | {"rehearsal": _given(more)}}),
    )


def _more(rehearsal: RehearsalSpec) -> RehearsalSpec:
    """Twice as often; where that cannot be, with twice the weight."""
    twice = {"every": rehearsal.every // 2} if rehearsal.every > 1 else {"weight": 2 * rehearsal.weight}
    return rehearsal.model_copy(update=twice)


def _general(spec: RunSpec, much: bool, mixture: Sequence[dict[str, Any]]) -> Remedy | None:
    """General rows in `data.train`, as many as make a share of an epoch. Pairs have no general rows to be had."""
    rows = sum(source["seen"] for source in mixture)
    if not rows or not {"supervised", "text"} & set(spec.method.kinds):
        return None
    share = SHARE_MUCH if much else SHARE_A_LITTLE
    wanted = max(1, round(rows * share / (1 - share)))
    sources: list[dict[str, Any]] = [_given(source) for source in spec.data.train]
    several = " Where one of your files is general already, raise its weight instead." if len(sources) > 1 else ""
    what = "texts" if "text" in spec.method.kinds else "questions and answers"
    return Remedy(
        f"Mix in general {what}: an epoch has {rows:,} rows, and about {wanted:,} more of them make {share:.0%}. A "
        "weight of 1 shows each once; with "
        f"fewer rows raise it (weight x rows = {wanted:,}), with more lower it.{several}",
        _yaml({"data": {"train": [*sources, {"path": GENERAL, "weight": 1.0}]}}),
    )


def _rate(spec: RunSpec) -> Remedy:
    rate = float(spec.training.learning_rate)
    return Remedy(
        f"Halve the learning rate of {rate:g}: the weights move less. It may cost {_counted(spec)}.",
        _yaml({"training": {"learning_rate": float(f"{rate / 2:.3g}")}}),
    )


def _counted(spec: RunSpec) -> str:
    """The metric that counts."""
    names = spec.evaluation.metric_names()
    return names[0] if names else "the first metric"


def _given(part: Spec) -> dict[str, Any]:
    """What a recipe would have to say of it: its type, and all that is not the default."""
    kind = getattr(part, "type", None)
    given: dict[str, Any] = part.model_dump(mode="json", exclude_defaults=True)
    return ({"type": kind} if kind else {}) | given


def _yaml(value: dict[str, Any]) -> str:
    return yaml.safe_dump(value, sort_keys=False, allow_unicode=True, width=100).rstrip()
