"""`tunesmith demo`: the main job on the bundled base and the packaged example data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from .console import say
from .options import Json, Settings


def command(
    out: Annotated[Path, typer.Option("--out", help="Folder of the run; an earlier demo there is replaced.")] = Path(
        "runs/demo"
    ),
    set_: Settings = None,
    json: Json = False,
) -> None:
    """Turn the bundled base into a reader of support tickets, and prove it. Four to six minutes on two cores."""
    from ..pipelines.demo import RECIPE
    from ..pipelines.demo.replace import remove_earlier
    from ..pipelines.read_recipe import read_recipe
    from .run import go

    spec = read_recipe(RECIPE, set_ or ())
    if remove_earlier(out, spec.name):
        say(f"replacing the earlier demo in {out}")
    go(spec, out, resume=False, json=json)
