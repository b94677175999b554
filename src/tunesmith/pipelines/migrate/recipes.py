"""A job of the old service as a recipe that `tunesmith run` takes.

What carries over: the method, the files, the epochs, the batch size, the seed, DPO's beta. What does not: the learning
rate, for the service tells a multiplier of a rate that it does not tell; the usual rate of the base here is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ...core import files, fingerprints
from ...core.errors import TunesmithError
from ..read_recipe import read_recipe
from ..usual import usual_rank, usual_rate
from .aliases import Bases
from .folder import Folder, safe

_HEADER = """\
# Written by `tunesmith migrate openai` from job {id} ({model}, {status}).
# Run it:  tunesmith run {path} --out {run}
# The old job said: {said}
# learning_rate is the usual one here ({why}):
# of the old one only a multiplier is known.
# {tested}

"""
_METHODS = ("supervised", "dpo")
_WAIVED = (
    "no_supervision", "template_refuses", "near_leakage", "too_long", "served_prompt_differs", "too_few_rows",
)  # fmt: skip
_REHEARSED = (32, 256)
_WHY = "the old job was trained on these rows; the data audit of the run tells"
_SHARE, _MOST = 10, 100
"""Without a validation file one row in ten is held out, at most a hundred."""


@dataclass
class Plan:
    """What becomes of a job."""

    id: str
    job: dict[str, Any]
    """As the service tells it."""
    notes: list[str] = field(default_factory=list)
    recipe: Path | None = None
    base: str | None = None
    held_out: Path | None = None
    """Rows that are not trained on here: the job's validation file, or the last rows of its training file."""
    held_out_name: str = ""
    learned_before: bool = False
    """Whether the old model was trained on the held-out rows."""

    @property
    def model(self) -> str | None:
        """The old tuned model's name; None where the job made none."""
        return self.job.get("fine_tuned_model") or None


def plan(folder: Folder, record: dict[str, Any], bases: Bases) -> Plan:
    """The job of a `jobs/ID.json` with its held-out rows and its recipe, or the reasons why there is none."""
    job = record["job"]
    made = Plan(str(job["id"]), job, list(record["notes"]))
    for role in ("training_file", "validation_file"):
        made.notes += _missing(folder, "files", job.get(role), role.replace("_", " "))
    for id in job.get("result_files") or ():
        made.notes += _missing(folder, "results", id, "result file")
    parts = _parts(folder, made)
    if parts is None:
        return made
    kind = method(job)
    if kind not in _METHODS:
        made.notes.append(f"no recipe: method '{kind}' is not there yet")
        return made
    chosen = bases.of(str(job["model"]))
    if chosen is None:
        made.notes.append(f"no recipe: no base stands for {job['model']}; name one: --base {job['model']}=BASE")
        return made
    if chosen.note:
        made.notes.append(chosen.note)
    made.base = chosen.base
    _write(folder, made, kind, *parts)
    return made


def method(job: Mapping[str, Any]) -> str:
    """The job's method; jobs from before there were several are supervised."""
    return str((job.get("method") or {}).get("type") or "supervised")


def hyperparameters(job: Mapping[str, Any]) -> dict[str, Any]:
    """Those of the job's method, else the older ones beside it; what is "auto" to the end is left out."""
    inside = ((job.get("method") or {}).get(method(job)) or {}).get("hyperparameters") or {}
    both = (job.get("hyperparameters") or {}) | inside
    return {name: value for name, value in both.items() if value not in (None, "auto")}


def _missing(folder: Folder, kind: str, id: str | None, role: str) -> list[str]:
    record = folder.read(f"{kind}/{safe(id)}.json") if id else None
    return [f"the {role} {id} could not be had: {record['missing']}"] if record and "missing" in record else []


def _parts(folder: Folder, made: Plan) -> tuple[Path, Path] | None:
    """(training rows, held-out rows), the held-out ones noted in the plan; None where there are none."""
    job = made.job
    record = folder.fetched("files", str(job.get("training_file")))
    validation = folder.fetched("files", str(job["validation_file"])) if job.get("validation_file") else None
    if validation:
        made.held_out, made.held_out_name = folder.path / validation["path"], str(job["validation_file"])
    if record is None:
        made.notes.append("no recipe: the training file is not there")
        return None
    train = folder.path / record["path"]
    if made.held_out:
        return train, made.held_out
    return _split(folder, made, train)


def _split(folder: Folder, made: Plan, train: Path) -> tuple[Path, Path] | None:
    """The last rows of a training file, apart from the others."""
    lines = [line for line in train.read_bytes().splitlines(keepends=True) if line.strip()]
    count = min(_MOST, len(lines) // _SHARE)
    if not count:
        made.notes.append(f"no recipe: {len(lines)} training rows and no validation file: none can be held out")
        return None
    paths = [folder.path / "recipes" / f"{safe(made.id)}-{name}.jsonl" for name in ("train", "held-out")]
    for path, part in zip(paths, (lines[:-count], lines[-count:]), strict=True):
        if not path.is_file() or path.read_bytes() != b"".join(part):
            files.write_bytes(path, b"".join(part))
    made.held_out, made.learned_before = paths[1], True
    made.held_out_name = f"last {count} rows of {made.job['training_file']}"
    made.notes.append(
        f"no validation file: the last {count} of {len(lines)} training rows are held out here; the old model has "
        "learned them, so on them it looks better than it is"
    )
    return paths[0], paths[1]


def _write(folder: Folder, made: Plan, kind: str, train: Path, test: Path) -> None:
    """`recipes/ID.yaml`; one that was changed by hand since it was written is left as it is."""
    name = safe(made.id)
    path = folder.path / "recipes" / f"{name}.yaml"
    text = _text(folder, made, kind, train, test)
    written = folder.state().get("recipes", {})
    if not path.is_file():
        files.write_text(path, text)
    elif path.read_text("utf-8") != text:
        if written.get(made.id) != fingerprints.of_file(path):
            made.recipe = path
            made.notes.append(f"recipes/{name}.yaml was changed by hand and is left as it is")
            return
        files.write_text(path, text)
    folder.remember(recipes=written | {made.id: fingerprints.of_file(path)})
    try:
        read_recipe(path)
    except TunesmithError as error:
        made.notes.append(f"the recipe cannot be run: {error.what} ({error.where or path.name})")
        return
    made.recipe = path


def _text(folder: Folder, made: Plan, kind: str, train: Path, test: Path) -> str:
    job, known, small = made.job, hyperparameters(made.job), str(made.base).startswith("bundled/")
    rate, why = usual_rate(kind == "supervised", small)
    rank = usual_rank(small)
    rows = sum(bool(line.strip()) for line in train.read_bytes().splitlines())
    # As `tunesmith init` and the server have it: what the base can do is kept.
    sft = {"type": "sft", "rehearsal": {"rows": max(_REHEARSED[0], min(_REHEARSED[1], rows))}}
    dpo = {"type": "preference", "loss": {"type": "dpo", "beta": known.get("beta", 0.1)}}
    values = {
        "name": safe(made.id)[:64],
        "seed": job.get("seed") or 0,
        "base": made.base,
        "data": {
            "train": _from_recipes(folder, train), "validation": 0, "test": _from_recipes(folder, test),
            "on_overlap": "drop", "on_long": "truncate", "waive": dict.fromkeys(_WAIVED, _WHY),
        },
        "method": dpo if kind == "dpo" else sft,
        "adapter": {"type": "lora", "r": rank, "alpha": 2 * rank, "targets": "all-linear"},
        "training": {
            "epochs": known.get("n_epochs", 3), "batch_size": known.get("batch_size", 1),
            "learning_rate": float(rate), "early_stopping": None,
        },
    }  # fmt: skip
    header = _HEADER.format(
        id=_line(made.id), model=_line(job["model"]), status=_line(job.get("status")),
        path=f"recipes/{safe(made.id)}.yaml", run=f"runs/{safe(made.id)}", why=why,
        said=_line(", ".join(f"{name} {value}" for name, value in known.items())) or "nothing but auto",
        tested=f"Held out, and what base and tuned model are compared on: {_line(made.held_out_name)}.",
    )  # fmt: skip
    return header + yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)


def _line(value: object) -> str:
    """What the service said, for a comment: on one line, whatever it holds."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(value)).split())


def _from_recipes(folder: Folder, path: Path) -> str:
    inside = path.relative_to(folder.path)
    return inside.name if inside.parts[0] == "recipes" else f"../{inside.as_posix()}"
