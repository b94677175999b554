"""`tunesmith bench`: how fast a recipe trains here, before it is trained."""

from __future__ import annotations

from typing import Annotated

import typer

from .console import out, print_json
from .options import Json, RecipeArgument, Settings


def command(
    recipe: RecipeArgument,
    steps: Annotated[int, typer.Option("--steps", min=1, help="Optimizer steps to compute.")] = 8,
    set_: Settings = None,
    json: Json = False,
) -> None:
    """Compute some steps of a recipe: tokens a second, memory, share of the machine's rate, time for the whole."""
    from ..pipelines.read_recipe import placed, read_recipe
    from ..pipelines.speed import measure
    from .progress import Watch

    spec = read_recipe(recipe, set_ or ())
    with placed(recipe), Watch() as watch:
        found = measure(spec, recipe.parent, steps, watch)
    if json:
        print_json(found.as_json())
        return
    share = "" if found.share is None else f", {found.share:.0%} of it used"
    out.print(
        f"{found.tokens_per_s:,.0f} tokens/s over {found.steps} steps of {found.tokens / found.steps:,.0f} tokens"
    )
    out.print(f"peak memory {found.peak_memory_mb:,} MiB; {found.number_type}")
    out.print(f"matrix rate {found.matrix_rate / 1e9:,.0f} GFLOP/s{share}")
    out.print(
        f"the whole training, {found.planned_steps:,} steps and {found.planned_tokens:,} tokens: "
        f"about {_time(found.train_seconds)}, validations and evaluation not counted"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
