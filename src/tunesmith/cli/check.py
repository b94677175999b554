"""`tunesmith check`: the data audit, before a minute of training is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import print_json
from .options import FORMAT_NAMES, Json


def command(
    files: Annotated[
        list[Path], typer.Argument(help="Files of training rows, or one recipe (.yaml).", show_default=False)
    ],
    base: Annotated[str | None, typer.Option("--base", help="The base whose tokenizer and length limit count.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="A held-out file that must not overlap.")] = None,
    format: Annotated[
        str | None, typer.Option("--format", help=f"The row format; detected otherwise. Known: {FORMAT_NAMES}.")
    ] = None,
    json: Json = False,
) -> None:
    """Audit files of examples, or everything that a recipe names. Exit 3 when something blocks training."""
    from ..pipelines.check import check_files, check_recipe
    from . import show

    as_recipe = len(files) == 1 and files[0].suffix in (".yaml", ".yml")
    prepared = check_recipe(files[0]) if as_recipe else check_files(files, base=base, test=test, format=format)
    facts = prepared.audit.as_json()
    if json:
        print_json(facts)
    else:
        show.audit(facts)
    prepared.require_clean()
