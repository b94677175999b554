"""`tunesmith pilot`: adapters, ranks and learning rates under one budget; or how quality grows with the rows."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UsageError
from .console import out as screen
from .console import print_json
from .options import Json, RecipeArgument, Settings

_PARTS = {"h": 3600.0, "m": 60.0, "s": 1.0}


def command(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of what comes of it.", show_default=False)],
    budget: Annotated[
        str | None,
        typer.Option("--budget", metavar="TIME", help="90s, 20m, 1h30m; of all trials together. 20m unless told."),
    ] = None,
    tries: Annotated[
        list[str] | None,
        typer.Option("--try", metavar="KEY=V1,V2", help="Values to try; several --try are combined."),
    ] = None,
    learning_curve: Annotated[
        bool, typer.Option("--learning-curve", help="The recipe on 10, 25, 50 and 100 % of its rows instead.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="With --learning-curve: a finished run of this recipe, whose report shows it."),
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the pilot in --out.")] = False,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Try adapters, ranks and rates on a part of the rows, go on with the better ones, write the winning recipe."""
    if learning_curve and (budget or tries or resume):
        raise UsageError(
            "--learning-curve takes no --budget, no --try and no --resume", mend="its trainings follow from the recipe"
        )
    if run and not learning_curve:
        raise UsageError("--run goes with --learning-curve", mend="a pilot's trials are no part of a run's report")
    if learning_curve:
        found = _curve(recipe, out, settings or [], run)
        print_json(found) if json else _show_curve(found, out)
        return
    seconds = _seconds(budget) if budget else None
    found = _pilot(recipe, out, seconds, tries or [], settings or [], resume=resume)
    print_json(found) if json else _show_pilot(found)


def _pilot(
    recipe: Path, out: Path, budget: float | None, tries: list[str], settings: list[str], *, resume: bool
) -> dict[str, Any]:  # fmt: skip
    from ..pipelines.candidates import asked_for, usual
    from ..pipelines.pilot import Pilot
    from ..pipelines.read_recipe import read_recipe
    from .progress import Watch

    def read(more: Any) -> Any:
        return read_recipe(recipe, [*settings, *more])

    candidates = asked_for(read, tries) if tries else usual(read)
    with Watch() as watch:
        return Pilot(candidates, out, budget, watch, recipe.parent, resume=resume).run()


def _curve(recipe: Path, out: Path, settings: list[str], run: Path | None) -> dict[str, Any]:
    from ..pipelines import report_facts
    from ..pipelines.learning_curve import learning_curve
    from ..pipelines.read_recipe import read_recipe
    from ..pipelines.rundir import RunDir
    from .progress import Watch

    opened = RunDir.open(run) if run else None
    with Watch() as watch:
        found = learning_curve(read_recipe(recipe, settings), out, sink=watch, folder=recipe.parent, run=opened)
    if opened:
        opened.write_text("report.html", report_facts.page(opened))
    return found


def _seconds(text: str) -> float:
    """Of a time as 20m or 1h30m."""
    parts = re.findall(r"(\d+(?:\.\d+)?)([hms])", text)
    total = sum(float(number) * _PARTS[unit] for number, unit in parts)
    if "".join(number + unit for number, unit in parts) != text or not total:
        raise UsageError(f"--budget takes a time, not '{text}'", mend="for example --budget 20m, or 1h30m")
    return total


def _show_pilot(found: dict[str, Any]) -> None:
    from . import show

    columns = (
        "candidate",
        found["metric"],
        "95 % interval",
        "loss",
        "forgetting",
        "trained",
        "MiB",
        "s",
        "s, all rows",
    )
    for number, rung in enumerate(found["rungs"], start=1):
        title = f"Rung {number}: {rung['rows']:,} training rows, {found['validation_rows']} validation rows"
        show.table(title, columns, [_trial(one) for one in rung["trials"]], columns[1:])
    if found["stopped"]:
        screen.print(f"  {found['stopped']}")
    screen.print(f"  the base: {found['metric']} {found['base']:.3f}")
    screen.print(f"[bold]take: {found['winner']['name']}[/]")
    if alike := found["not_surely_worse"]:
        screen.print("  not surely worse on these rows:")
        for name in alike:
            screen.print(f"  - {name}", markup=False)
    screen.print(f"\nrecipe   {found['recipe']}")


def _trial(one: dict[str, Any]) -> tuple[Any, ...]:
    if one["failed"]:
        return one["name"], "failed", *("" for _ in range(7))
    first = one["metrics"][0]
    low, high = first["tuned_ci95"]
    loss = next(metric["tuned"] for metric in one["metrics"] if metric["name"] == "loss")
    return (
        one["name"], f"{first['tuned']:.3f}", f"{low:.3f} to {high:.3f}", f"{loss:.3f}", _signed(one["forgetting"]),
        f"{one['trained_parameters']:,}", one["memory_mb"] or "-", f"{one['seconds']:.0f}",
        f"{one['whole_train_seconds']:.0f}",
    )  # fmt: skip


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{value:+.3f}"


def _show_curve(found: dict[str, Any], out: Path) -> None:
    from . import show

    columns = ("rows", found["metric"], "95 % interval", "gain over the base", "loss", "forgetting", "s")
    rows = []
    for one in found["points"]:
        first = one["metrics"][0]
        loss = next(metric["tuned"] for metric in one["metrics"] if metric["name"] == "loss")
        (low, high), (least, most) = first["tuned_ci95"], first["ci95"]
        rows.append((
            f"{one['rows']:,}", f"{first['tuned']:.3f}", f"{low:.3f} to {high:.3f}", f"{least:+.3f} to {most:+.3f}",
            f"{loss:.3f}", _signed(one["forgetting"]), f"{one['train_seconds']:.0f}",
        ))  # fmt: skip
    show.table(f"{found['held_out_rows']} {found['measured_on']} rows", columns, rows, columns)
    if found["forecast"]:
        screen.print(f"[bold]{found['forecast']['words']}[/]")
    screen.print(f"\ncurve    {out / 'curve.json'}")
