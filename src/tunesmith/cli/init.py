"""`tunesmith init`: a commented recipe for the user's own file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError
from .console import out as stdout
from .console import print_json


def command(
    file: Annotated[Path | None, typer.Argument(help="Your file of examples.", show_default=False)] = None,
    out: Annotated[Path, typer.Option("--out", help="The recipe to write.")] = Path("recipe.yaml"),
    base: Annotated[str | None, typer.Option("--base", help="The base model; the bundled one otherwise.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="A test file; split off from FILE otherwise.")] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the recipe's JSON Schema and do nothing else.")
    ] = False,
) -> None:
    """Write a commented recipe for FILE, with a sixth of its rows held back as a test."""
    if schema:
        from ..pipelines.recipe import json_schema

        print_json(json_schema())
        return
    from ..models.refs import DEFAULT
    from ..pipelines.start import write_recipe

    if file is None:
        if not sys.stdin.isatty():
            raise UsageError("name a file of examples", mend="tunesmith init FILE [--out recipe.yaml]")
        file = Path(typer.prompt("File of examples"))
    written = write_recipe(file, out, base=base or DEFAULT, test=test)
    stdout.print(f"{written.rows} rows of format '{written.format}'; wrote {written.recipe}")
    for path in written.files:
        stdout.print(f"  {path}")
    stdout.print(f"next: tunesmith run {written.recipe} --out runs/{written.recipe.stem}")
