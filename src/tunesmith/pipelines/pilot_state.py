"""What a pilot has done so far, in `state.json` of its folder: by it one that was stopped goes on.

The trials themselves keep what came of them in their own folders (`trial.json`). Here stands what was planned from
times, which no second run would measure alike: the rows of each rung, and how much of the budget is spent.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ..core import files
from ..core.errors import ConflictError, ContentError
from ..data import identity
from .candidates import Candidate
from .prepare import Prepared

FILE = "state.json"
_TOLD = 5
"""Differences that a refusal names."""


@dataclass
class State:
    """Times are seconds."""

    identity: dict[str, Any]
    """What must not change while a pilot goes on, as `identified` tells it."""
    date: str
    """The day that templates show, YYYY-MM-DD."""
    budget: float
    spent: float = 0.0
    base: dict[str, Any] | None = None
    """The untrained model's score, as `kept_scores` writes it."""
    first_cost: tuple[float, float] | None = None
    """What a trial was expected to take before there was one: whatever its rows, and for each of them."""
    rungs: list[int] = field(default_factory=list)
    """Training rows of each rung that was begun."""
    begun: dict[str, float] = field(default_factory=dict)
    """How much was spent when a trial began, by its folder's name."""
    failed: dict[str, str] = field(default_factory=dict)
    """Why a trial failed, by its folder's name."""

    def write(self, out: Path) -> None:
        """Keep it. OutputError where it cannot be written."""
        files.write_json(out / FILE, asdict(self))


def read(out: Path, *, resume: bool) -> State | None:
    """The state of the pilot in `out`; None where a new one begins. ConflictError where something is in the way."""
    if not out.exists():
        return None
    if not resume:
        raise ConflictError(f"{out} is there already", mend="add --resume to continue it, or choose another --out")
    file = out / FILE
    if not file.is_file():
        if out.is_dir() and set(out.iterdir()) == set(files.leftovers(out)):
            return None  # stopped before there was anything to keep
        raise ConflictError(f"{out} holds other things and no pilot", mend="choose another --out")
    try:
        return State(**json.loads(file.read_text("utf-8")))
    except (ValueError, TypeError) as error:
        raise ContentError(f"{file} is damaged", why=str(error), mend="start anew with another --out") from error


def identified(candidates: Sequence[Candidate], first: Prepared) -> dict[str, Any]:
    """What must not change while a pilot goes on. `first` is the first candidate's, with its held-out rows as test."""
    recipe = candidates[0].spec.as_json()
    del recipe["name"]
    return {
        "candidates": {one.name: one.spec.training_fingerprint() for one in candidates},
        "recipe": recipe,
        "training rows": first.data_fingerprint,
        "validation rows": identity.root(identity.digests(first.test.examples)),
        "base": first.base.fingerprint(),
        "tokenizer": first.base.tokenizer_fingerprint(),
        "teacher": first.teacher,
    }


def require_same(state: State, now: dict[str, Any], out: Path) -> None:
    """ConflictError that says what is another than it was."""
    found = [
        *_candidates(state.identity["candidates"], now["candidates"]),
        *_changed(state.identity["recipe"], now["recipe"]),
        *(name for name in now if name not in ("candidates", "recipe") and now[name] != state.identity.get(name)),
    ]
    if found:
        more = f" and {len(found) - _TOLD} more" if len(found) > _TOLD else ""
        raise ConflictError(
            f"this pilot cannot be resumed: changed since it was started: {', '.join(found[:_TOLD])}{more}",
            where=str(out), mend="restore what changed, or start a new pilot with another --out",
        )  # fmt: skip


def _candidates(before: dict[str, str], now: dict[str, str]) -> list[str]:
    """In words; order counts too, for the first of equal ones wins."""
    gone, new = [name for name in before if name not in now], [name for name in now if name not in before]
    told = [f"the candidate '{name}' is {how}" for how, names in (("gone", gone), ("new", new)) for name in names]
    told += [f"the settings of '{name}'" for name in now if before.get(name, now[name]) != now[name]]
    return told or (["the order of the candidates"] if list(before) != list(now) else [])


def _changed(before: Any, now: Any, place: str = "") -> list[str]:
    """Dotted keys whose values differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = dict.fromkeys([*before, *now])
        return [
            found for key in keys for found in _changed(before.get(key), now.get(key), f"{place}.{key}".lstrip("."))
        ]
    return [] if before == now else [f"{place} ({_short(before)} before, {_short(now)} now)"]


def _short(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
