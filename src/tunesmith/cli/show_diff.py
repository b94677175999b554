"""What differs between two files of rows, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.text import Text

from .console import out

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ..pipelines.diff import Alone, Change, Difference, Side

_OLD, _NEW = r"\[-.*?-\]", r"\{\+.*?\+\}"


def difference(found: Difference, shown: int) -> None:
    """Both files, the counts, then the first rows of each kind of difference."""
    for name, side in (("A", found.a), ("B", found.b)):
        _side(name, side)
    counts = found.counts
    if found.equal:
        _line(f"the same {counts['same']:,} rows in both; order, places and formats do not count")
        return
    _line(
        f"same {counts['same']:,}, changed {counts['changed']:,}, only in A {counts['only_a']:,}, "
        f"only in B {counts['only_b']:,}"
    )
    _changes(found.changed, shown)
    _alone("only in A", found.only_a, shown, "red")
    _alone("only in B", found.only_b, shown, "green")


def _side(name: str, side: Side) -> None:
    _line(f"{name}  {side.path}: {side.rows:,} rows, {side.format}, root {side.root[:12]}")
    if side.unread:
        more = f" and {len(side.unread) - 3:,} more" if len(side.unread) > 3 else ""
        _line(f"   {len(side.unread):,} rows cannot be read and are not compared: {'; '.join(side.unread[:3])}{more}")


def _changes(changed: Sequence[Change], shown: int) -> None:
    if changed:
        _head("changed (same prompt)", len(changed), shown)
    for change in changed[:shown]:
        _line(f"  {change.a} -> {change.b}")
        for part, words in change.difference.items():
            _line(f"    {part}: " + words.replace("\n", "\n      "))


def _alone(title: str, rows: Sequence[Alone], shown: int, colour: str) -> None:
    if rows:
        _head(title, len(rows), shown)
    for row in rows[:shown]:
        line = Text(f"  {row.place}", style=colour)
        out.print(line.append(f"  {row.text}", style="default"), soft_wrap=True)


def _head(title: str, count: int, shown: int) -> None:
    rest = f", the first {shown:,} of them" if count > shown else ""
    out.print(f"\n[bold]{title}: {count:,}[/]{rest}")


def _line(text: str) -> None:
    line = Text(text)
    line.highlight_regex(_OLD, "red")
    line.highlight_regex(_NEW, "green")
    out.print(line, soft_wrap=True)
