"""`tunesmith data`: work on files of rows."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from ..core.errors import UsageError
from .console import out as stdout
from .console import print_json
from .options import FORMAT_NAMES, Json, column_names
from .stores import Database, Storage, actor, opened

_FOUND = {"named": "named by the row", "answer": "by the answer", "words": "by the words"}
_SHOWN = 10

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Work on files of rows: convert, diff, with-context, from-feedback.",
)  # fmt: skip


@app.callback()
def group() -> None:
    """Work on files of rows."""


@app.command("convert")
def convert(
    file: Annotated[Path, typer.Argument(help="The file to read.", show_default=False)],
    to: Annotated[str, typer.Option("--to", help=f"The format to write: {FORMAT_NAMES}.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", help="The file to write: .jsonl or .json, also .gz or .zst.", show_default=False)
    ],
    format: Annotated[str | None, typer.Option("--format", help="The format to read; detected otherwise.")] = None,
    columns: Annotated[
        list[str] | None, typer.Option("--column", metavar="KEY=NAME", help="The file's name for a key of the format.")
    ] = None,
    assistant: Annotated[str | None, typer.Option("--assistant", help="Who answers in a transcript.")] = None,
    json: Json = False,
) -> None:
    """Write a file of rows in another format. A row that the format cannot hold stops it; nothing is lost unsaid."""
    from ..pipelines.convert import convert as run

    done = run(file, out, to=to, format=format, columns=column_names(columns or [], "--column"), assistant=assistant)
    if json:
        print_json({**vars(done), "path": str(done.path)})
        return
    stdout.print(f"{done.rows} rows read as {done.read_as} ({done.kind}), written to {done.path} as {done.written_as}")


@app.command("diff")
def diff(
    a: Annotated[Path, typer.Argument(help="The one file.", show_default=False)],
    b: Annotated[Path, typer.Argument(help="The other file.", show_default=False)],
    show: Annotated[int, typer.Option("--show", min=0, help="Differences of each kind to show in words.")] = 10,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit 1 when they differ.")] = False,
    json: Json = False,
) -> None:
    """Rows that changed, came or went between two files. Their order and format, and a row's place, do not count."""
    from ..pipelines.diff import diff as run
    from . import show_diff

    found = run(a, b, show=show)
    if json:
        print_json(found.as_json())
    else:
        show_diff.difference(found, show)
    if exit_code and not found.equal:
        raise typer.Exit(1)


@app.command("with-context")
def with_context(
    rows: Annotated[Path, typer.Argument(help="The questions and answers: rows of any format.", show_default=False)],
    documents: Annotated[
        list[Path],
        typer.Argument(metavar="DOCS...", help="Folders or files of texts, or JSONL with `text`.", show_default=False),
    ],
    out: Annotated[
        Path, typer.Option("--out", help="The file to write: .jsonl or .json, also .gz or .zst.", show_default=False)
    ],
    passages: Annotated[int, typer.Option("--passages", min=1, help="Passages in a row.")] = 4,
    words: Annotated[int, typer.Option("--words", min=5, help="The most words of a passage.")] = 150,
    unanswerable: Annotated[
        float, typer.Option("--unanswerable", min=0, max=1, help="The share of rows whose answer is not there.")
    ] = 0.1,
    unsaid: Annotated[
        str, typer.Option("--unanswerable-answer", help="What is answered then.")
    ] = "The context does not say.",
    passage_key: Annotated[
        str | None, typer.Option("--passage-key", help="The key of a row that names its document or passage.")
    ] = None,
    floor: Annotated[
        float, typer.Option("--floor", min=0, max=1, help="Share of the words that the right passage must hold.")
    ] = 0.4,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of what is drawn.")] = 0,
    json: Json = False,
) -> None:
    """Rows that teach to use a context: the right passage among others, and rows whose answer is not there."""
    from ..data.contexts import ContextPlan
    from ..pipelines.with_context import build

    if not unsaid.strip():
        raise UsageError("--unanswerable-answer is empty", mend="say what the model should answer then")
    plan = ContextPlan(passages, unanswerable, unsaid, floor, seed)
    done = build(rows, documents, out, plan, words=words, key=passage_key)
    if json:
        print_json({**asdict(done), "path": str(done.path)})
        return
    ways = ", ".join(f"{count} {_FOUND[how]}" for how, count in done.found.items())
    stdout.print(f"{done.rows} rows written to {done.path}, {done.unanswerable} of them without the answer")
    stdout.print(f"right passage: {ways}; {done.passages} passages of {done.documents} documents")
    for left in done.left_out[:_SHOWN]:
        stdout.print(f"  left out: {left.place}: {left.reason}", markup=False, soft_wrap=True)
    if len(done.left_out) > _SHOWN:
        stdout.print(f"  and {len(done.left_out) - _SHOWN} more; --json lists them all")


@app.command("from-feedback")
def from_feedback(
    out: Annotated[
        Path,
        typer.Option("--out", help="The file of training rows: .jsonl or .json, also .gz or .zst.", show_default=False),
    ],
    preferences: Annotated[
        Path | None, typer.Option("--preferences", help="A file for pairs of a better and a worse answer.")
    ] = None,
    project: Annotated[str | None, typer.Option("--project", help="Whose feedback; the default project's.")] = None,
    since: Annotated[
        datetime | None, typer.Option("--since", formats=["%Y-%m-%d"], metavar="DAY", help="What was said since (UTC).")
    ] = None,
    database: Database = None, storage: Storage = None, json: Json = False,
) -> None:  # fmt: skip
    """What people said of a served model's answers, as rows: good and corrected answers, and pairs to prefer by."""
    from ..governance.keys import DEFAULT_PROJECT
    from ..pipelines.feedback import from_feedback as run

    done = run(
        opened(database, storage), out, preferences=preferences, project=project or DEFAULT_PROJECT, actor=actor(),
        since=since.replace(tzinfo=UTC).timestamp() if since else None,
    )  # fmt: skip
    if json:
        print_json(asdict(done) | {"path": str(out), "preferences_path": str(preferences) if preferences else None})
        return
    stdout.print(f"{done.feedback} pieces of feedback on {done.answers} answers: {done.training} rows in {out}")
    if preferences:
        stdout.print(f"{done.preferences} pairs in {preferences}")
    left = {
        "bad answers without a better one": done.unused, "plain completions": done.plain,
        "answers to conversations that are not kept any more": done.lost,
        "rows that no format holds": len(done.refused),
    }  # fmt: skip
    for what, count in left.items():
        if count:
            stdout.print(f"  left out: {count} {what}")
