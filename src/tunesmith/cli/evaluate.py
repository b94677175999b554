"""`tunesmith evaluate`: score a trained run again."""

from __future__ import annotations

from .console import print_json
from .options import Json, RunArgument


def command(run: RunArgument, json: Json = False) -> None:
    """Score base and tuned model on the run's test rows, judge, report. Exit 10 when the gate says no."""
    from ..core.errors import GateError
    from ..pipelines import journey
    from . import show
    from .progress import Watch

    with Watch() as watch:
        opened, verdict = journey.evaluate_run(run, sink=watch)
    evaluation = opened.read_json("evaluation.json")
    if json:
        print_json(evaluation)
    else:
        show.evaluation(evaluation)
        show.places(run)
    if not verdict.passed:
        failed = "; ".join(reason.text for reason in verdict.reasons if not reason.ok)
        raise GateError("the gate said no", why=failed, mend=f"read {run / 'report.html'}")
