"""`tunesmith train`: the training only."""

from __future__ import annotations

from .console import out as stdout
from .console import print_json
from .options import Json, Out, Processes, RecipeArgument, Resume, Settings
from .processes import in_processes, rank


def command(
    recipe: RecipeArgument,
    out: Out,
    resume: Resume = False,
    set_: Settings = None,
    json: Json = False,
    nproc: Processes = 1,
) -> None:
    """Check the data and train; score nothing."""
    from ..pipelines import journey
    from ..pipelines.read_recipe import placed, read_recipe
    from .progress import Watch

    if nproc > 1:
        in_processes("train", recipe, out, resume=resume, settings=set_ or (), json=json, processes=nproc)
    spec = read_recipe(recipe, set_ or ())
    with placed(recipe), Watch() as watch:
        run = journey.train_only(spec, out, resume=resume, sink=watch, folder=recipe.parent)
    if rank() != 0:
        return
    facts = run.read_json("run.json")
    if json:
        print_json(facts)
        return
    stdout.print(
        f"trained {facts['steps']} steps, {facts['trained_tokens']:,} tokens, {facts['tokens_per_s']:,.0f} tokens/s, "
        f"peak memory {facts['peak_memory_mb']:,} MiB; kept step {facts['kept_step']}"
    )
    stdout.print(f"run {run.path}")
