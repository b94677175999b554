"""`tunesmith check`: the data audit, before a minute of training is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError
from .console import print_json
from .options import FORMAT_NAMES, Json, column_names


def command(
    files: Annotated[
        list[Path], typer.Argument(help="Files of training rows, or one recipe (.yaml).", show_default=False)
    ],
    base: Annotated[str | None, typer.Option("--base", help="The base whose tokenizer and length limit count.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="A held-out file that must not overlap.")] = None,
    validation: Annotated[
        Path | None,
        typer.Option("--validation", help="A file to choose checkpoints by, which must not overlap either."),
    ] = None,
    benchmarks: Annotated[
        list[Path] | None,
        typer.Option("--benchmark", help="A file whose questions must not be trained on; repeatable."),
    ] = None,
    format: Annotated[
        str | None, typer.Option("--format", help=f"The row format; detected otherwise. Known: {FORMAT_NAMES}.")
    ] = None,
    columns: Annotated[
        list[str] | None,
        typer.Option("--columns", metavar="KEY=NAME,...", help="The files' names for keys of the format."),
    ] = None,
    assistant: Annotated[str | None, typer.Option("--assistant", help="Who answers in a transcript.")] = None,
    rows_shown: Annotated[
        int, typer.Option("--show", min=0, metavar="N", help="Show N rows as the model sees them, token by token.")
    ] = 0,
    quick: Annotated[bool, typer.Option("--quick", help="Look at a sample of 5,000 rows, drawn by a seed.")] = False,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write the mended rows to OUT (.jsonl), and a log beside it."),
    ] = None,
    json: Json = False,
) -> None:
    """Audit files of rows of any kind, or everything that a recipe names. Exit 3 when something blocks training."""
    from ..pipelines.check import Request, check_files, check_recipe
    from ..pipelines.fix import fix as mend
    from ..pipelines.fix import require_possible
    from . import show, tokens
    from .progress import Watch

    names = column_names(columns or [], "--columns")
    request = Request(files, base, test, format, names, assistant, quick, validation, benchmarks or ())
    if len(files) == 1 and files[0].suffix in (".yaml", ".yml"):
        _require_absent(
            base=base, test=test, validation=validation, benchmark=benchmarks, format=format, columns=columns,
            assistant=assistant, fix=fix, quick=quick,
        )  # fmt: skip
        with Watch() as watch:
            checked = check_recipe(files[0], watch)
    else:
        if fix:
            require_possible(request, fix)
        with Watch() as watch:
            checked = check_files(request, watch)
    fixed = mend(request, checked, fix) if fix else None
    facts = checked.as_json()
    facts |= {"shown": checked.shown(rows_shown)} if rows_shown else {}
    facts |= {"fix": fixed.as_json()} if fixed else {}
    if json:
        print_json(facts)
    else:
        show.audit(facts)
        if rows_shown:
            tokens.rows(facts["shown"])
        if fixed:
            show.fixed(facts["fix"])
    (fixed.checked if fixed else checked).require_clean()


def _require_absent(**options: object) -> None:
    """UsageError for options that a recipe would have to say itself."""
    given = [name for name, value in options.items() if value]
    if given:
        raise UsageError(
            f"--{given[0]} is for files of rows; a recipe says it itself",
            mend="take it out, and write it into the recipe (base, data.test, data.validation, data.benchmarks, "
            "data.train: format, columns, assistant)",
        )
