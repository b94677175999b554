"""`tunesmith runs`: a list of runs, or two side by side."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError
from .console import out, print_json
from .options import Json


def command(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="Nothing or a folder: list. Two runs: compare.", show_default=False),
    ] = None,
    json: Json = False,
) -> None:
    """List the runs below a folder (runs/ by default), or compare two runs."""
    paths = paths or [Path("runs")]
    if len(paths) == 2:
        _compare(paths[0], paths[1], json)
    elif len(paths) == 1:
        _list(paths[0], json)
    else:
        raise UsageError("name one folder to list, or two runs to compare", mend="tunesmith runs RUN OTHER")


def _list(folder: Path, json: bool) -> None:
    from ..pipelines.runs import listed
    from . import show

    rows = listed(folder)
    if json:
        print_json({"runs": rows})
        return
    if not rows:
        out.print(f"no runs below {folder}")
        return
    columns = ("run", "status", "verdict", "metric", "base", "tuned", "created")
    show.table(
        "Runs", columns,
        [
            (r["path"], r["status"], r.get("verdict") or "", r.get("metric", ""), _figure(r.get("base_score")),
             _figure(r.get("tuned_score")), r.get("created") or "")
            for r in rows
        ], ("base", "tuned"),
    )  # fmt: skip


def _compare(a: Path, b: Path, json: bool) -> None:
    from ..pipelines.runs import side_by_side
    from . import show

    facts = side_by_side(a, b)
    if json:
        print_json(facts)
        return
    numbers = (str(a), str(b), "difference")
    show.table(
        "Tuned models", ("metric", *numbers),
        [(m["name"], _figure(m["a"]), _figure(m["b"]), f"{m['difference']:+.3f}") for m in facts["metrics"]], numbers,
    )  # fmt: skip
    if not facts["same_test_rows"]:
        out.print("[yellow]note:[/] the test rows differ: these figures cannot be compared\n")
    show.table("Facts", ("", str(a), str(b)), [(f["name"], f["a"], f["b"]) for f in facts["facts"]])
    if facts["recipe"]:
        show.table(
            "Recipe, where it differs",
            ("key", str(a), str(b)),
            [(r["key"], r["a"], r["b"]) for r in facts["recipe"]],
        )


def _figure(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
