"""`tunesmith run`: the whole way."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from .console import print_json
from .options import Json, Out, Processes, RecipeArgument, Resume, Settings
from .processes import in_processes, rank

if TYPE_CHECKING:
    from ..pipelines.recipe import RunSpec
    from ..pipelines.rundir import RunDir


def command(
    recipe: RecipeArgument,
    out: Out,
    resume: Resume = False,
    set_: Settings = None,
    json: Json = False,
    nproc: Processes = 1,
) -> None:
    """Check, score the base, train, score the tuned model, judge, report. Exit 10 when the gate says no."""
    from ..pipelines.read_recipe import placed, read_recipe

    if nproc > 1:
        in_processes("run", recipe, out, resume=resume, settings=set_ or (), json=json, processes=nproc)
    with placed(recipe):
        go(read_recipe(recipe, set_ or ()), out, resume=resume, json=json, folder=recipe.parent)


def go(spec: RunSpec, out: Path, *, resume: bool, json: bool, folder: Path | None = None) -> None:
    """Run a recipe that is read already, show what came out, and leave by the gate."""
    from ..core.errors import GateError
    from ..pipelines import journey
    from .progress import Watch

    with Watch() as watch:
        run, verdict = journey.run(spec, out, resume=resume, sink=watch, folder=folder)
    if rank() == 0:
        _show(run, json=json)
    if not verdict.passed:
        failed = "; ".join(reason.text for reason in verdict.reasons if not reason.ok)
        raise GateError("the gate said no", why=failed, mend=f"read {run.path / 'report.html'}")


def _show(run: RunDir, *, json: bool) -> None:
    """What came out of a run."""
    from ..pipelines.report_facts import next_commands
    from . import show

    evaluation = run.read_json("evaluation.json")
    if json:
        print_json(evaluation | {"run": str(run.path)})
    else:
        show.audit(run.read_json("data-audit.json"))
        show.evaluation(evaluation)
        show.differing_rows(run.read_lines("predictions.jsonl"))
        show.places(run.path)
        show.next_commands(next_commands(run))
