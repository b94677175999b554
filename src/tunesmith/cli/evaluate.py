"""`tunesmith evaluate`: score a trained run again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..core.errors import UsageError
from .console import print_json, say
from .options import Json, RunArgument

if TYPE_CHECKING:
    from ..evaluation.config import GateSpec
    from ..evaluation.gate import Verdict


def command(
    run: RunArgument,
    data: Annotated[
        Path | None,
        typer.Option("--data", help="Other test rows; the run's own figures stay as they are.", show_default=False),
    ] = None,
    gate: Annotated[
        list[str] | None,
        typer.Option(
            "--gate",
            metavar="METRIC=GAIN",
            help="A gate of these gains in place of the recipe's; max_forgetting=0.1, too.",
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Ask the models again, though nothing has changed.")] = False,
    lm_eval: Annotated[
        list[str] | None,
        typer.Option(
            "--lm-eval",
            metavar="TASK[,TASK]",
            help="Tasks of lm-evaluation-harness as well, by name or YAML file; needs the extra lm-eval.",
        ),
    ] = None,
    lm_eval_shots: Annotated[
        int | None, typer.Option("--lm-eval-shots", min=0, help="Examples before each question of these.")
    ] = None,
    lm_eval_limit: Annotated[
        int | None, typer.Option("--lm-eval-limit", min=1, help="The first rows of each of these alone.")
    ] = None,
    lm_eval_chat: Annotated[
        bool, typer.Option("--lm-eval-chat", help="Their prompts in the base's chat template.")
    ] = False,
    json: Json = False,
) -> None:
    """Score base and tuned model on the run's test rows, judge, report. Exit 10 when the gate says no.

    Where nothing has changed since they were scored, what they answered then is judged, and no model is loaded.
    """
    from ..core.errors import GateError
    from . import show

    tasks = tuple(task.strip() for text in lm_eval or () for task in text.split(",") if task.strip())
    if tasks and data is not None:
        raise UsageError("--lm-eval goes without --data", mend="its tasks have rows of their own: ask for them alone")
    if not tasks and (lm_eval or lm_eval_shots is not None or lm_eval_limit or lm_eval_chat):
        raise UsageError("--lm-eval names no task", mend="--lm-eval TASK[,TASK]")
    ask = _harness(run, tasks, lm_eval_shots, lm_eval_limit, chat=lm_eval_chat) if tasks else None
    evaluation, verdict = _evaluation(run, data, _gate(gate) if gate else None, fresh=fresh)
    if ask:
        evaluation["lm_eval"] = ask()
    if json:
        print_json(evaluation)
    else:
        show.evaluation(evaluation)
        if data is None:
            show.places(run)
    if not verdict.passed:
        failed = "; ".join(reason.text for reason in verdict.reasons if not reason.ok)
        raise GateError("the gate said no", why=failed, mend=f"read {run / 'report.html'}")


def _evaluation(
    run: Path, data: Path | None, gate: GateSpec | None, *, fresh: bool
) -> tuple[dict[str, Any], Verdict]:  # fmt: skip
    """From what is known already, as far as that goes."""
    from ..pipelines import judged

    if not fresh and (known := judged.again(run, data, gate)):
        say("nothing has changed since the models were asked: their answers are judged as they are (--fresh asks anew)")
        if known.changed and data is None:
            from ..pipelines import report_facts
            from ..pipelines.rundir import RunDir

            opened = RunDir.open(run)
            opened.write_text("report.html", report_facts.page(opened))
        return known.evaluation, known.verdict
    from ..pipelines import journey
    from .progress import Watch

    with Watch() as watch:
        return journey.evaluate_run(run, sink=watch, data=data, gate=gate, fresh=fresh)


def _harness(
    run: Path, tasks: tuple[str, ...], shots: int | None, limit: int | None, *, chat: bool
) -> Callable[[], dict[str, Any]]:  # fmt: skip
    """What asks the tasks; that they can be asked is seen to before anything else is."""
    from ..evaluation.harness_config import HarnessSpec
    from ..pipelines.harness import measure
    from .progress import Watch

    spec = HarnessSpec(tasks=tasks, shots=shots, limit=limit, chat=chat)
    harness = spec.build()

    def ask() -> dict[str, Any]:
        with Watch() as watch:
            return measure(run, spec, harness, sink=watch)

    return ask


def _gate(conditions: list[str]) -> GateSpec:
    """The conditions of METRIC=GAIN and of the gate's own keys; UsageError for what is neither."""
    from ..evaluation.config import GateSpec

    require: dict[str, float] = {}
    keys: dict[str, Any] = {}
    for condition in conditions:
        name, _, text = condition.partition("=")
        own = name in GateSpec.model_fields and name != "require"
        try:
            value = None if own and text == "null" else float(text)
        except ValueError:
            mend = "--gate exact_match=0.2 --gate max_forgetting=0.1"
            raise UsageError(f"--gate takes METRIC=NUMBER, not '{condition}'", mend=mend) from None
        if own:
            keys[name] = value
        elif value is not None:
            require[name] = value
    return GateSpec(require=require or None, **keys)
