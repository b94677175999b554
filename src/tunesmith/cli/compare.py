"""`tunesmith compare`: prompt, examples, retrieval and fine-tuning on the same test rows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from ..core.errors import UsageError
from .console import out as screen
from .console import print_json
from .options import Json, RecipeArgument, Settings


def command(
    recipe: RecipeArgument,
    out: Annotated[Path, typer.Option("--out", help="Folder of the table and what is trained.", show_default=False)],
    run: Annotated[
        Path | None, typer.Option("--run", help="The tuned model: a run; trained into --out otherwise.")
    ] = None,
    distilled: Annotated[
        Path | None, typer.Option("--distilled", help="A smaller model, too: the run that taught it.")
    ] = None,
    docs: Annotated[Path | None, typer.Option("--docs", help="Documents for retrieval.", show_default=False)] = None,
    shots: Annotated[int, typer.Option("--shots", min=0, help="Examples in the prompt.")] = 4,
    system: Annotated[
        list[str] | None,
        typer.Option("--system", help="A system message to try; validation rows choose."),
    ] = None,
    rows: Annotated[int, typer.Option("--rows", min=2, help="Test rows, drawn by the seed.")] = 100,
    endpoint: Annotated[
        str | None, typer.Option("--endpoint", help="URL of an OpenAI-compatible endpoint, with --model.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="The endpoint's model.")] = None,
    price_hour: Annotated[float | None, typer.Option("--price-hour", help="Money for an hour of this machine.")] = None,
    price_in: Annotated[float | None, typer.Option("--price-in", help="Of a million tokens to the endpoint.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", help="Of a million tokens from it.")] = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Measure every way that can be had on the same test rows: scores, tokens, time, cost, and which one to take."""
    from ..core import files
    from ..inference.backends.remote import Endpoint
    from ..pipelines.compare import Prices, Wanted, compare
    from ..pipelines.read_recipe import read_recipe
    from .progress import Watch

    if (endpoint is None) != (model is None):
        raise UsageError("--endpoint and --model belong together", mend="give both, or neither")
    wanted = Wanted(
        shots=shots, documents=docs, systems=tuple(system or ()), rows=rows, distilled=distilled,
        endpoint=Endpoint(endpoint, model) if endpoint and model else None,
        prices=Prices(price_hour, price_in, price_out),
    )  # fmt: skip
    spec = read_recipe(recipe, settings or [])
    with Watch() as watch:
        compared = compare(spec, out, wanted, run=run, sink=watch, folder=recipe.parent)
    found = compared.as_json()
    files.make_folder(out)
    files.write_json(out / "compare.json", found)
    shown = compared.publish(found)
    if json:
        print_json(found)
    else:
        _show(found)
        screen.print(f"\ntable    {out / 'compare.json'}")
        if shown:
            screen.print(f"report   {compared.run.path / 'report.html'}")


def _show(found: dict[str, Any]) -> None:
    from . import show

    metrics = list(found["ways"][0]["metrics"])
    columns = ("way", *metrics, "tokens in", "out", "s/answer", "MiB", "cost/1,000")
    rows = [
        (
            way["name"], *(_figure(way["metrics"][name]) for name in metrics), f"{way['tokens_in']:.0f}",
            f"{way['tokens_out']:.0f}", f"{way['seconds_per_answer']:.2f}",
            "-" if way["memory_mb"] is None else f"{way['memory_mb']:.0f}",
            "-" if way["cost_per_1000"] is None else f"{way['cost_per_1000']:.2f}",
        )
        for way in found["ways"]
    ]  # fmt: skip
    show.table(f"{found['rows']} test rows", columns, rows, columns[1:])
    for model in dict.fromkeys(way["model"] for way in found["ways"]):
        named = ", ".join(way["name"] for way in found["ways"] if way["model"] == model)
        screen.print(f"  {model}: {named}", markup=False)
    for way in found["ways"]:
        if (paid := way["break_even"]) and paid["answers"]:
            screen.print(f"  {way['name']} has paid for its training after {paid['answers']:,.0f} answers, "
                         f"beside {paid['against']}")  # fmt: skip
    advice = found["recommendation"]
    screen.print(f"[bold]take: {advice['take']}[/]")
    for reason in advice["reasons"]:
        screen.print(f"  - {reason}")


def _figure(metric: dict[str, Any]) -> str:
    low, high = metric["ci95"]
    return f"{metric['value']:.3f} [{low:.2f}, {high:.2f}]"
