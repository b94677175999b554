"""`tunesmith advise`: should it be a prompt, retrieval or fine-tuning? Six questions."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer

from ..core.errors import UsageError
from .console import out, print_json
from .options import Json

QUESTIONS = {
    "task": "What shall the model do",
    "trouble": "What is wrong with what you have",
    "examples": "How many prompts with the right answer do you have",
    "changes": "How often do the facts behind the answers change",
    "volume": "How many answers a day",
    "may_leave": "May the data leave your machines",
}


def command(
    task: Annotated[
        str | None, typer.Option("--task", help="classify, extract, rewrite, answer, converse, code or reason.")
    ] = None,
    trouble: Annotated[
        str | None,
        typer.Option("--trouble", help="What is wrong today: untried, format, facts, style, cost or quality."),
    ] = None,
    examples: Annotated[int | None, typer.Option("--examples", min=0, help="Prompts with the right answer.")] = None,
    changes: Annotated[
        str | None, typer.Option("--changes", help="The facts change: never, monthly, weekly or daily.")
    ] = None,
    volume: Annotated[int | None, typer.Option("--volume", min=0, help="Answers a day.")] = None,
    may_leave: Annotated[
        bool | None, typer.Option("--may-leave/--may-not-leave", help="Whether data may leave your machines.")
    ] = None,
    json: Json = False,
) -> None:
    """Say which way to try first and why, with the number of examples usually needed. Asks for what no option tells."""
    from ..evaluation.advice import CHOICES, Situation, advise

    given: dict[str, Any] = {
        "task": task, "trouble": trouble, "examples": examples, "changes": changes, "volume": volume,
        "may_leave": may_leave,
    }  # fmt: skip
    found = advise(Situation(**_checked(given, CHOICES)))
    if json:
        print_json({"steps": [s.as_json() for s in found.steps], "examples": found.examples, "notes": found.notes})
        return
    for number, step in enumerate(found.steps, 1):
        told = step.as_json()
        out.print(f"[bold]{number}. {told['name']}[/]: {step.because}\n   {told['next']}")
    for note in found.notes:
        out.print(f"- {note}", style="dim")


def _checked(given: dict[str, Any], choices: dict[str, tuple[str, ...]]) -> dict[str, Any]:
    """The answers, those that are missing asked for. UsageError without a terminal, and for an unknown word."""
    missing = [f"--{name.replace('_', '-')}" for name, value in given.items() if value is None]
    if missing and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(f"not told: {', '.join(missing)}", mend="give these options, or ask in a terminal")
    told = {name: _asked(name, choices) if value is None else value for name, value in given.items()}
    for name, known in choices.items():
        if told[name] not in known:
            raise UsageError(f"--{name} is not '{told[name]}'", mend=f"one of: {', '.join(known)}")
    return told


def _asked(name: str, choices: dict[str, tuple[str, ...]]) -> Any:
    if name in choices:
        return _one_of(QUESTIONS[name], choices[name])
    if name == "may_leave":
        return typer.confirm(f"{QUESTIONS[name]}?")
    return typer.prompt(f"{QUESTIONS[name]}?", type=int)


def _one_of(question: str, known: tuple[str, ...]) -> str:
    while (said := str(typer.prompt(f"{question}? ({', '.join(known)})")).strip()) not in known:
        out.print(f"one of: {', '.join(known)}")
    return said
