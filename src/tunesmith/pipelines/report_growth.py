"""The learning curve that was measured of a run's recipe, for its report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson

from ..core.errors import ConflictError, ContentError, MissingError
from ..report import ForecastPointFacts, GrowthFacts, GrowthPointFacts
from .rundir import RunDir

FILE = "learning-curve.json"
"""In a run's folder: what `tunesmith pilot --learning-curve` found of its recipe."""
_OF = ("recipe", "data", "base")


def require_same(of: dict[str, str], run: RunDir) -> None:
    """ConflictError for a curve of another recipe, other rows or another base than the run's."""
    known = run.read_json("run.json")
    differing = [part for part in _OF if of.get(part) != known.get(f"{part}_fingerprint")]
    if differing:
        raise ConflictError(
            f"the learning curve is not of this run: its {' and its '.join(differing)} differ", where=str(run.path),
            mend=f"measure it from {run.path / 'recipe.lock.yaml'}",
        )  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    """A `curve.json`. MissingError, ContentError."""
    if not path.is_file():
        raise MissingError(
            f"{path} is not there", mend="name the curve.json of tunesmith pilot RECIPE --learning-curve --out DIR"
        )
    try:
        found: dict[str, Any] = orjson.loads(path.read_bytes())
        _growth(found)
    except (orjson.JSONDecodeError, KeyError, TypeError, IndexError, ValueError) as error:
        raise ContentError(
            f"{path} is no learning curve", why=str(error), mend="name a curve.json that tunesmith pilot wrote"
        ) from error
    if "of" not in found:
        raise ContentError(
            f"{path} does not say what it was measured of", why="an older version wrote it", mend="measure it again"
        )
    return found


def keep(found: dict[str, Any], run: RunDir) -> None:
    """Put a curve into the folder of a run that it is of; its report shows it from then on."""
    require_same(found["of"], run)
    run.write_json(FILE, found)


def growth(run: RunDir) -> GrowthFacts | None:
    """None where no curve was measured."""
    return _growth(run.read_json(FILE)) if (run.path / FILE).is_file() else None


def _growth(found: dict[str, Any]) -> GrowthFacts:
    points = [_point(one) for one in found["points"]]
    higher = found["higher_is_better"]
    return GrowthFacts(
        metric=found["metric"], unit=found["points"][-1]["metrics"][0]["unit"], higher_is_better=higher,
        base=found["base"], held_out=found["held_out_rows"], measured_on=found["measured_on"], points=points,
        forecast=_forecast(found["forecast"], points[-1].value, higher=higher),
    )  # fmt: skip


def _point(one: dict[str, Any]) -> GrowthPointFacts:
    first = one["metrics"][0]
    return GrowthPointFacts(
        rows=one["rows"], value=first["tuned"], ci95=tuple(first["tuned_ci95"]), gain_ci95=tuple(first["ci95"]),
        forgetting=one["forgetting"], seconds=one["train_seconds"],
    )  # fmt: skip


def _forecast(ahead: dict[str, Any] | None, last: float, *, higher: bool) -> ForecastPointFacts | None:
    """The gain is of what is better, whichever way that is."""
    if ahead is None:
        return None
    low, high = ahead["gain_ci95"]
    ends = (last + low, last + high) if higher else (last - high, last - low)
    return ForecastPointFacts(rows=ahead["rows"], value=ahead["value"], ci95=ends, words=ahead["words"])
