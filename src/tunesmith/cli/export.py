"""`tunesmith export`: a run's model in a form that others load."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .console import out as stdout
from .console import print_json, say
from .options import Json, RunArgument

if TYPE_CHECKING:
    from ..pipelines.parity import Parity


def command(
    run: RunArgument,
    to: Annotated[Literal["merged"], typer.Option("--to", help="merged: one plain Hugging Face folder.")] = "merged",
    out: Annotated[Path | None, typer.Option("--out", help="The folder to write; RUN/merged otherwise.")] = None,
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"],
        typer.Option("--dtype", help="auto: as the base's weights are stored."),
    ] = "auto",
    json: Json = False,
) -> None:
    """Merge the adapter into the base, read the result back, and compare logits and answers with the adapter's."""
    from ..pipelines.export import merged, stored_dtype

    target = out or run / to
    number_type = stored_dtype(run) if dtype == "auto" else dtype
    found = merged(run, target, dtype=number_type)
    if json:
        print_json({"folder": str(target), "dtype": number_type, **found.as_json()})
        return
    stdout.print(f"{target} ({number_type})")
    stdout.print(_told("parity with the adapter", found.merged))
    for kind, one in found.fewer_bits.items():
        stdout.print(_told(f"held in {kind} it would have", one))
    if number_type == "bfloat16":
        say("merged weights are rounded to bfloat16; --dtype float32 keeps every digit")


def _told(what: str, one: Parity) -> str:
    answers = "" if one.same_answers is None else f", same answers to {one.same_answers:.0%} of {one.prompts} prompts"
    return (
        f"{what} over {one.tokens} tokens: largest difference of a logit {one.largest_difference:.2e}, same best token "
        f"{one.same_best_token:.2%}{answers}"
    )
