"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

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
