"""Figures that were measured once and need no model to be judged again. No torch.

Beside `evaluation.json` lie `judged.json`, which tells of what the figures are (model, data, settings, each as far as
it can change them), and `draws.safetensors`, the resampled differences that a gate's intervals come from. Where all is
as it was, another gate, or the same again, is a matter of reading these.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save

from .. import __version__
from ..core import files, fingerprints
from ..evaluation.compare import MetricResult
from ..evaluation.config import GateSpec
from ..evaluation.forgetting import Forgetting
from ..evaluation.gate import Reason, Verdict, check_names, judge, judge_probes
from ..evaluation.significance import Difference
from ..evaluation.stats import Interval, Paired
from ..models.find import find
from . import compatible, remedies
from .recipe import RunSpec
from .rundir import RunDir

ASKED, DRAWS = "judged.json", "draws.safetensors"
_MODEL = ("*.safetensors", "config.json", "adapter_config.json", "tokenizer.json", "tokenizer_config.json", "*.jinja")


def place(data: Path | None) -> str:
    """Where in a run's folder the figures of other test rows lie; those of its own in the folder itself."""
    return "." if data is None else f"evaluations/{data.name.partition('.')[0]}"


def asked(run: RunDir, data: Path | None) -> str | None:
    """Fingerprint of all that the figures of a finished run hang on, but the gate; None where that cannot be told, for
    a data file lies on a hub or is gone."""
    spec = run.recipe()
    sources = [source.path for source in spec.data.train]
    for source in (spec.data.validation, str(data.absolute()) if data else spec.data.test):
        if source is not None and not isinstance(source, float):
            sources.append(source if isinstance(source, str) else source.path)
    sources += spec.data.benchmarks
    if not all(Path(path).is_file() for path in sources):
        return None
    base = find(spec.base)
    described = spec.as_json()
    described.pop("gate")
    return fingerprints.of_object({
        "version": __version__, "recipe": described, "data": None if data is None else str(data.absolute()),
        "files": [fingerprints.of_file(Path(path)) for path in sources],
        "own": [fingerprints.of_file(path) for path in _named(described["evaluation"])],
        "models": [*_states(base.folder), *_states(run.path / "adapter"), *_states(run.path / "model")],
    })  # fmt: skip


def _named(value: Any) -> Iterator[Path]:
    """Files that the settings of metrics name: a schema, a function of the user's own."""
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            yield from _named(one)
    elif isinstance(value, str) and value.startswith("/"):
        path = Path(value.partition(":")[0])
        if path.is_file():
            yield path


def _states(folder: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of a model's files: weights are too large to be read for this alone."""
    found = sorted({path for pattern in _MODEL for path in folder.glob(pattern)})
    return [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in found]


def keep(run: RunDir, data: Path | None, metrics: Sequence[MetricResult]) -> None:
    """Beside an `evaluation.json` that was written: what it is of, and the draws of its metrics."""
    into = place(data)
    known = asked(run, data)
    if known is None:
        return
    draws = {one.name: one.figures.draws for one in metrics if one.figures.draws is not None}
    files.write_bytes(run.path / into / DRAWS, save(draws))
    run.write_json(f"{into}/{ASKED}", {"asked": known})


@dataclass(frozen=True)
class Again:
    """An evaluation judged again. `changed`: whether the verdict, or a reason, is another than it was."""

    evaluation: dict[str, Any]
    verdict: Verdict
    changed: bool


def again(path: Path, data: Path | None, gate: GateSpec | None) -> Again | None:
    """Judge figures that are there under the recipe's gate or another, and write `evaluation.json` where that changes
    it; the report is then to be made again. None where something has changed since, or nothing was kept: then they must
    be measured."""
    run, into = RunDir.open(path), place(data)
    if not all((run.path / into / name).is_file() for name in (ASKED, DRAWS, "evaluation.json")):
        return None
    if run.read_json(f"{into}/{ASKED}").get("asked") != asked(run, data):
        return None
    spec = run.recipe()
    spec = spec if gate is None else spec.model_copy(update={"gate": gate})
    compatible.require(spec, find(spec.base))
    evaluation = run.read_json(f"{into}/evaluation.json")
    before = evaluation["reasons"]
    verdict = _verdict(spec, evaluation, load_file(run.path / into / DRAWS))
    evaluation["verdict"] = "pass" if verdict.passed else "fail"
    evaluation["reasons"] = [vars(reason) for reason in verdict.reasons]
    if evaluation["forgetting"]["base_loss"] is not None:
        evaluation["forgetting"]["limit"] = spec.gate.max_forgetting
    evaluation.pop(remedies.KEY, None)
    mixture = run.read_json("data-audit.json").get("mixture", [])
    evaluation |= remedies.facts(spec, find(spec.base), evaluation, mixture)
    changed = before != evaluation["reasons"]
    if changed:
        run.write_json(f"{into}/evaluation.json", evaluation)
        if data is None:
            run.update(verdict=evaluation["verdict"])
    return Again(evaluation, verdict, changed)


def _verdict(spec: RunSpec, evaluation: dict[str, Any], draws: dict[str, Any]) -> Verdict:
    metrics = [_metric(one, evaluation["rows"], draws[one["name"]]) for one in evaluation["metrics"]]
    told = evaluation["forgetting"]
    forgetting = None
    if told["base_loss"] is not None:
        forgetting = Forgetting(told["base_loss"], told["tuned_loss"], told["rows"], told["tokens"])
    gate = spec.gate if forgetting else spec.gate.model_copy(update={"max_forgetting": None})
    check_names(gate, [metric.name for metric in metrics])
    reasons: list[Reason] = judge(gate, metrics, forgetting).reasons
    return Verdict([*reasons, *judge_probes(gate, evaluation)])


def _metric(told: dict[str, Any], rows: int, draws: Any) -> MetricResult:
    """A metric as it was measured, from its entry in evaluation.json."""
    base, tuned, delta = (
        Interval(told[name], *told[ends])
        for name, ends in (("base", "base_ci95"), ("tuned", "tuned_ci95"), ("delta", "ci95"))
    )
    chance = None if told["test"] is None else Difference(told["p_value"], told["test"])
    figures = Paired(base, tuned, delta, rows, np.asarray(draws, dtype=np.float64))
    return MetricResult(told["name"], figures, chance, not told["higher_is_better"], told["unit"])
