"""`tunesmith rate`: which of two answers is better? Blind, by one key, until there is a verdict."""

from __future__ import annotations

import getpass
import os
import sys
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.columns import Columns
from rich.panel import Panel
from rich.text import Text

from ..core.errors import UsageError
from .console import out, print_json, say
from .options import Json, RunArgument

if TYPE_CHECKING:
    from ..evaluation.rating import Shown
    from ..pipelines.rate import Rating, Side, Summary, Table

Key = Literal["skip", "undo", "quit"]
_SIDES: dict[str, Side] = {"a": "left", "b": "right", "t": "tie"}
_KEYS: dict[str, Key] = {"s": "skip", "u": "undo", "q": "quit"}
_HELP = "a or b: the better answer   t: as good as each other   s: later   u: undo   q: stop, go on another time"


def command(
    run: RunArgument,
    other: Annotated[
        Path | None, typer.Argument(help="A second run: its tuned model beside the first's.", show_default=False)
    ] = None,
    rater: Annotated[str | None, typer.Option("--rater", help="Who rates; the user's name otherwise.")] = None,
    rows: Annotated[int | None, typer.Option("--rows", min=1, help="Rate so many pairs at most.")] = None,
    seed: Annotated[int, typer.Option("--seed", help="Draws order and sides.")] = 0,
    preferences: Annotated[
        Path | None, typer.Option("--preferences", help="Write decided pairs as preference rows.", show_default=False)
    ] = None,
    judge: Annotated[
        str | None, typer.Option("--judge", help="A model rates: of --endpoint, or here: a base, or a run's folder.")
    ] = None,
    endpoint: Annotated[str | None, typer.Option("--endpoint", help="URL of an OpenAI-compatible endpoint.")] = None,
    rubric: Annotated[
        Path | None, typer.Option("--rubric", help="A text by which the judge scores each answer, 1 to 5.")
    ] = None,
    price_in: Annotated[float | None, typer.Option("--price-in", help="Of a million tokens to the endpoint.")] = None,
    price_out: Annotated[float | None, typer.Option("--price-out", help="Of a million tokens from it.")] = None,
    verdict: Annotated[bool, typer.Option("--verdict", help="Rate nothing, tell the verdict so far.")] = False,
    json: Json = False,
) -> None:
    """Choose the better answer, not knowing whose it is: of base and tuned model, or of two runs' tuned models."""
    from ..pipelines import rate

    table = rate.table(run, other)
    if judge is None and (endpoint or rubric):
        raise UsageError("--endpoint and --rubric belong to --judge", mend="name the model: --judge MODEL")
    told = _judged(table, judge, endpoint, rubric, rows, (price_in, price_out)) if judge else None
    if not (judge or verdict or json or preferences):
        _rate(rate.Rating(table, rater or getpass.getuser(), seed, rows))
    summed = rate.summary(table)
    written = rate.write_preferences(table, preferences) if preferences else None
    if json:
        more = {"judge": told} if told else {}
        print_json(_as_json(table, summed) | more | ({} if written is None else {"preferences": written}))
        return
    if told:
        _tell_judge(told)
    _tell(summed)
    if written is not None:
        out.print(f"{written} preference rows: {preferences}")


def _judged(
    table: Table, model: str, endpoint: str | None, rubric: Path | None, rows: int | None,
    prices: tuple[float | None, float | None],
) -> dict[str, Any]:  # fmt: skip
    """What a model said of the pairs, as plain values; its choices are kept."""
    from ..core.errors import MissingError
    from ..inference.backends.remote import Endpoint, Remote
    from ..pipelines.judge import judge
    from ..pipelines.local_model import LocalModel
    from .progress import Watch

    if rubric and not rubric.is_file():
        raise MissingError(f"no such rubric: {rubric}", mend="name a text file")
    text = rubric.read_text("utf-8") if rubric else None
    how: dict[str, Any] = {"rubric": text, "rows": rows}
    with Watch() as watch:
        if endpoint:
            with Remote(Endpoint(endpoint, model)) as remote:
                made = judge(table, remote, model, where=endpoint, sink=watch, **how)
        else:
            local = LocalModel(model)
            made = judge(table, local, model, where=local.fingerprint, sink=watch, **how)
    return vars(made) | {"reliability": vars(made.reliability), "cost": made.cost(*prices)}


def _tell_judge(told: dict[str, Any]) -> None:
    """How far the judge can be trusted, and what it cost."""
    trust = told["reliability"]
    out.print(f"{told['rater']}: {trust['pairs']} pairs, {told['asked']} questions asked, {told['known']} known before")
    if trust["unclear"]:
        out.print(f"  {trust['unclear']} pairs with a verdict that cannot be read count as ties")
    if trust["same"] is not None:
        first = "-" if trust["first"] is None else f"{trust['first']:.0%}"
        out.print(
            f"  both orders gave the same verdict in {trust['same']:.0%}; the answer shown first was preferred in "
            f"{first} of its choices (50% is no side)"
        )
    if told["mean_scores"]:
        out.print("  mean scores: " + ", ".join(f"{one:.2f}" for one in told["mean_scores"]))
    if told["tokens_in"] is not None:
        money = "" if told["cost"] is None else f", cost {told['cost']:.4f}"
        out.print(f"  {told['tokens_in']:,} tokens in, {told['tokens_out']:,} out{money}")


def _rate(rating: Rating) -> None:
    """Show pair after pair until all are rated or the rater stops."""
    if not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise UsageError(
            "rating needs a terminal: answers are chosen by single keys",
            mend="run it in a terminal, or ask for what is there already: --verdict, --json, --preferences FILE",
        )
    if not rating.total:
        say("all answers are equal: there is nothing to choose")
    with _keys() as terminal:
        while (shown := rating.next()) is not None:
            _show(shown, f"{rating.done + 1} of {rating.total}")
            act = _key(terminal)
            if act == "quit":
                return
            if act == "undo":
                say("the last choice is taken back" if rating.undo() else "there is no choice to take back")
            elif act == "skip":
                rating.put_off(shown)
            else:
                rating.choose(shown, act)


@contextmanager
def _keys() -> Iterator[int]:
    """The terminal's handle, which inside the block gives keys as they are struck, and does not show them."""
    handle = sys.stdin.fileno()
    before = termios.tcgetattr(handle)
    tty.setcbreak(handle, termios.TCSADRAIN)  # what was typed ahead stays
    try:
        yield handle
    finally:
        termios.tcsetattr(handle, termios.TCSADRAIN, before)


def _key(terminal: int) -> Side | Key:
    """The next key that means something. Ctrl-C and the end of input stop."""
    while True:
        try:
            key = os.read(terminal, 1).decode("ascii", "replace").lower()
        except KeyboardInterrupt:
            return "quit"
        if not key:
            return "quit"
        if key in _SIDES:
            return _SIDES[key]
        if key in _KEYS:
            return _KEYS[key]
        say(_HELP)


def _show(shown: Shown, count: str) -> None:
    out.rule(count)
    for turn in shown.pair.prompt:
        out.print(Text(f"{turn['role']}: ", style="bold"), Text(str(turn.get("content") or "")), sep="")
    width = max(30, out.width // 2 - 2)
    sides = (("a", shown.left[1]), ("b", shown.right[1]))
    out.print(Columns([Panel(Text(answer), title=name, width=width) for name, answer in sides]))
    if shown.pair.reference:
        out.print(Text(f"reference: {shown.pair.reference}", style="dim"))
    say(_HELP)


def _tell(summed: Summary) -> None:
    if not summed.by_rater:
        out.print("nothing is rated yet")
        return
    if len(summed.by_rater) > 1:
        for rater, found in summed.by_rater.items():
            out.print(f"{rater}: {found.words()}")
        for one in summed.agreements:
            kappa = "undefined" if one.kappa is None else f"{one.kappa:.2f}"
            out.print(
                f"{' and '.join(one.raters)} agree on {one.same:.0%} of {one.pairs} pairs (Cohen's kappa {kappa})"
            )
    out.print(summed.together.words())


def _as_json(table: Table, summed: Summary) -> dict[str, Any]:
    return {
        "names": table.names, "pairs": summed.pairs, "alike": summed.alike,
        "together": vars(summed.together) | {"better": summed.together.better},
        "raters": {rater: vars(found) | {"better": found.better} for rater, found in summed.by_rater.items()},
        "agreements": [vars(one) for one in summed.agreements],
    }  # fmt: skip
