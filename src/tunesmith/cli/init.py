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
    out: Annotated[
        Path | None, typer.Option("--out", help="The recipe to write (recipe.yaml), or the base's folder (base).")
    ] = None,
    base: Annotated[str | None, typer.Option("--base", help="The base model; the bundled one otherwise.")] = None,
    test: Annotated[Path | None, typer.Option("--test", help="A test file; split off from FILE otherwise.")] = None,
    from_scratch: Annotated[
        Path | None,
        typer.Option(
            "--from-scratch",
            metavar="SPEC",
            show_default=False,
            help="Make an untrained base of SPEC's sizes instead, its tokenizer trained on FILE's texts.",
        ),
    ] = None,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the recipe's JSON Schema and do nothing else.")
    ] = False,
) -> None:
    """Write a commented recipe for FILE, with a sixth of its rows held back as a test; or a fresh base."""
    if schema:
        from ..pipelines.recipe import json_schema

        print_json(json_schema())
        return
    if file is None:
        if not sys.stdin.isatty():
            raise UsageError("name a file of examples", mend="tunesmith init FILE [--out recipe.yaml]")
        file = Path(typer.prompt("File of examples"))
    if from_scratch:
        if base or test:
            raise UsageError("--from-scratch makes a base: it takes neither --base nor --test", mend="leave them out")
        _make_base(file, from_scratch, out or Path("base"))
        return
    from ..models.refs import DEFAULT
    from ..pipelines.start import write_recipe

    written = write_recipe(file, out or Path("recipe.yaml"), base=base or DEFAULT, test=test)
    stdout.print(f"{written.rows} rows of format '{written.format}'; wrote {written.recipe}")
    for path in written.files:
        stdout.print(f"  {path}")
    stdout.print(f"next: tunesmith run {written.recipe} --out runs/{written.recipe.stem}")


def _make_base(corpus: Path, spec: Path, out: Path) -> None:
    from ..pipelines.from_scratch import make_base, read_spec
    from .progress import Watch

    with Watch() as watch:
        made = make_base(corpus, read_spec(spec), out, sink=watch)
    done = "is there already, made of the same" if made.already else "written: its weights are random"
    stdout.print(
        f"{made.folder} {done}; {made.parameters:,} parameters, {made.vocabulary:,} tokens from {made.rows:,} rows"
    )
    stdout.print(
        f"next: a recipe with base: {made.folder}, method: pretrain and adapter: full (docs/how-to/pretrain.md)"
    )
