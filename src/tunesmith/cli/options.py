"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError

FORMAT_NAMES = (
    "openai_preference, preference, kto, reinforcement, chat, prompt_completion, instruction, sharegpt, "
    "question_answer, transcript, text"
)
"""Written out, for the table itself loads pydantic and `--help` shall be quick; a test compares."""
RecipeArgument = Annotated[Path, typer.Argument(help="The recipe (YAML).", show_default=False)]
RunArgument = Annotated[Path, typer.Argument(help="The folder of a run.", show_default=False)]
Out = Annotated[Path, typer.Option("--out", help="Folder of the run; it must not exist yet.", show_default=False)]
Resume = Annotated[bool, typer.Option("--resume", help="Continue the run in --out from its newest checkpoint.")]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a value: --set training.epochs=2."),
]
Processes = Annotated[
    int, typer.Option("--nproc", min=1, help="Train in this many processes on this machine, one a GPU or share of CPU.")
]
Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]


def column_names(columns: list[str], option: str) -> dict[str, str]:
    """KEY=NAME, given one by one or in a list with commas, as the names of the columns by the format's keys."""
    found: dict[str, str] = {}
    for pair in (pair for text in columns for pair in text.split(",")):
        key, mark, name = (part.strip() for part in pair.partition("="))
        example = f"{option} prompt=question"
        if not (key and mark and name):
            raise UsageError(f"{option} takes KEY=NAME, not '{pair}'", mend=example)
        if key in found:
            raise UsageError(f"{option} names '{key}' twice: as '{found[key]}' and as '{name}'", mend=example)
        found[key] = name
    return found
