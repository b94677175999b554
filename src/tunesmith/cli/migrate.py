"""`tunesmith migrate`: from a hosted fine-tuning service to here."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from ..core.errors import TunesmithError
from .console import out as stdout
from .console import print_json, say
from .options import Json, Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Move over from a hosted service: openai.")


@app.callback()
def group() -> None:
    """Move over from a hosted service."""


@app.command("openai")
def openai(
    out: Annotated[
        Path, typer.Option("--out", help="The migration's folder; the same again goes on.", show_default=False)
    ],
    job: Annotated[
        list[str] | None, typer.Option("--job", help="Only this job; may be given several times.", show_default=False)
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(
            "--base", metavar="MODEL=BASE", show_default=False,
            help="What is trained here in place of a model there; BASE alone for all others.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None, typer.Option("--mapping", help="A table of these (YAML: MODEL: BASE).", show_default=False)
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            "--prompts", show_default=False,
            help="What both models are asked; otherwise each job's validation rows, else its last training rows.",
        ),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=1, help="At most so many questions a job.")] = 100,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, help="Of each answer.")] = 512,
    no_answers: Annotated[
        bool, typer.Option("--no-answers", help="Do not ask the old models: every request there is a GET.")
    ] = False,
    rate: Annotated[float, typer.Option("--rate", min=0.01, help="At most so many requests a second.")] = 5.0,
    run: Annotated[
        bool, typer.Option("--run", help="Train each job again here, and compare old and new answers.")
    ] = False,
    set_: Settings = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="Connect to nothing: work with what was fetched before.")
    ] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Fetch jobs, files, events and results from OpenAI's fine-tuning API, record the tuned models' answers, and write
    each job as a recipe.

    Reads OPENAI_API_KEY, OPENAI_BASE_URL, OPENAI_ORG_ID and OPENAI_PROJECT_ID. Changes nothing there: all requests are
    GETs, but for the questions to your tuned models (POST /chat/completions), which are billed there. Killed at any
    moment, the same command goes on where it was.
    """
    from ..pipelines.migrate.aliases import read_bases
    from ..pipelines.migrate.journey import Wanted, migrate

    wanted = Wanted(
        out, read_bases(base or (), mapping), job or (), prompts, rows, max_tokens, not no_answers, set_ or (), offline,
        rate,
    )  # fmt: skip
    if run:
        from ..pipelines.migrate.again import retrain
        from .progress import Watch

        with Watch() as watch:
            done = migrate(wanted, os.environ, say=_say, retrain=partial(retrain, sink=watch))
    else:
        done = migrate(wanted, os.environ, say=_say)
    if json:
        print_json(done)
    else:
        _show(done)
    failed = [one["id"] for one in done["jobs"] if one["run"] and one["run"]["status"] != "finished"]
    if failed:
        raise TunesmithError(
            f"{len(failed)} of {sum(bool(one['run']) for one in done['jobs'])} jobs could not be trained again: "
            f"{', '.join(failed)}",
            mend="correct the recipe or its rows as told above, then run the same command again",
        )


def _say(text: str) -> None:
    say(escape(text))


def _show(done: dict[str, Any]) -> None:
    """The jobs, what came of each, and where it lies."""
    from . import show

    show.table(
        f"Jobs of {done['service']}", ("job", "model", "status", "method", "answers", "base here"),
        [(one["id"], one["model"], one["status"], one["method"], one["answers"], one["base"] or "no recipe")
         for one in done["jobs"]], ("answers",),
    )  # fmt: skip
    agreed = {one["id"]: one["run"] for one in done["jobs"] if one["run"] and one["run"]["agreement"]}
    if agreed:
        show.table(
            "Old model beside new", ("job", "equal", "similarity", "old right", "new right", "gate"),
            [(id, _share(run["agreement"]["equal"]), f"{run['agreement']['similarity']:.3f}",
              _share(run["agreement"]["old_right"]), _share(run["agreement"]["new_right"]), run["verdict"])
             for id, run in agreed.items()], ("similarity",),
        )  # fmt: skip
    for one in done["jobs"]:
        for note in one["notes"]:
            stdout.print(f"[yellow]note:[/] {escape(one['id'])}: {escape(note)}")
        if one["run"] and one["run"]["error"]:
            stdout.print(f"[red]failed:[/] {escape(one['id'])}: {escape(one['run']['error'])}")
    out = escape(done["out"])
    stdout.print(f"all of it is in {out}" + (f"; row by row: {out}/agreement.html" if agreed else ""))
    recipes = [one["recipe"] for one in done["jobs"] if one["recipe"]]
    if recipes and not any(one["run"] for one in done["jobs"]):
        stdout.print(
            f"train them again: the same command with --run; or one: tunesmith run {escape(recipes[0])} --out DIR"
        )


def _share(share: dict[str, Any] | None) -> str:
    return f"{share['count']} of {share['rows']} ({share['low']:.0%} to {share['high']:.0%})" if share else ""
