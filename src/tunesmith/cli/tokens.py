"""Rows token by token: what carries loss in green, or between brackets where there is no colour."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

from rich.markup import escape
from rich.text import Text

from .console import out

LONGEST_RUN = 160
"""Tokens in a row, all with loss or all without, that are shown; the middle of a longer run is left out."""
_SHADES = {"loss": ("green", "bright_green"), "given": ("", "dim"), "special": ("magenta", "bright_magenta")}
"""Two for each, by turns, so that one sees where a token ends."""

Token = dict[str, Any]


def rows(shown: Sequence[dict[str, Any]]) -> None:
    """Each row under its place, with what was found there."""
    coloured = out.is_terminal and not out.no_color
    legend = "green carries loss, magenta is special" if coloured else "⟦carries loss⟧, ‹special›"
    out.print(f"[bold]rows as the model sees them[/] ({legend}, ⏎ is a line end)")
    for row in shown:
        loss = sum(len(t["ids"]) for t in row["tokens"] if t["weight"])
        found = ", ".join(row["findings"])
        name = f"{row['row']} {row['part']}".rstrip()
        out.print(f"\n[bold]{escape(name)}[/] {row['length']} tokens, {loss} with loss{f' ({found})' if found else ''}")
        out.print(_coloured(row["tokens"]) if coloured else _bracketed(row["tokens"]))
        if row["error"]:
            out.print(f"  {escape(row['error'])}")
    out.print()


def _runs(tokens: Sequence[Token]) -> Iterator[tuple[bool, list[Token | int]]]:
    """(whether it carries loss, tokens and, where some are left out, how many) of each run."""
    for loss, group in groupby(tokens, key=lambda t: bool(t["weight"])):
        run: list[Token | int] = list(group)
        left_out = len(run) - LONGEST_RUN
        if left_out > 0:
            run[LONGEST_RUN // 2 : LONGEST_RUN // 2 + left_out] = [left_out]
        yield loss, run


def _coloured(tokens: Sequence[Token]) -> Text:
    text = Text()
    for loss, run in _runs(tokens):
        for number, token in enumerate(run):
            if isinstance(token, int):
                text.append(_gap(token), "italic")
                continue
            kind = "special" if token["special"] else "loss" if loss else "given"
            style = _SHADES[kind][number % 2]
            text.append(visible(token["text"]), f"{style} underline" if kind == "special" and loss else style)
    return text


def _bracketed(tokens: Sequence[Token]) -> Text:
    text = Text()
    for loss, run in _runs(tokens):
        parts = [_gap(t) if isinstance(t, int) else _plain(t) for t in run]
        text.append(f"⟦{''.join(parts)}⟧" if loss else "".join(parts))
    return text


def _plain(token: Token) -> str:
    return f"‹{visible(token['text'])}›" if token["special"] else visible(token["text"])


def _gap(count: int) -> str:
    return f" [… {count:,} tokens …] "


def visible(text: str) -> str:
    """The text with what a terminal would obey or hide written out, and a mark before each line end."""
    return "".join(_seen(letter) for letter in text)


def _seen(letter: str) -> str:
    if letter == "\n":
        return "⏎\n"
    hidden = unicodedata.category(letter) in ("Cc", "Cf", "Cs", "Co", "Zl", "Zp")
    return f"\\u{ord(letter):04x}" if hidden else letter
