"""`tunesmith index`: documents to an index, and questions to it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from ..core.errors import UsageError
from .console import out as stdout
from .console import print_json, say
from .options import Json

if TYPE_CHECKING:
    from ..pipelines.index import Built, Quality

_SHOWN = 10


def command(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="DOCS|INDEX", show_default=False,
            help="With --out the documents: a folder, or a file (Markdown, text, HTML, PDF, JSONL with `text`). "
            "With --ask, --delete or --questions the folder of an index.",
        ),
    ],
    out: Annotated[
        Path | None, typer.Option("--out", help="Folder of the index to make, or to bring up to date.")
    ] = None,
    ask: Annotated[str | None, typer.Option("--ask", metavar="QUESTION", help="Show what answers a question.")] = None,
    delete: Annotated[
        str | None, typer.Option("--delete", metavar="SOURCE", help="Erase all that came of a file, by its name there.")
    ] = None,
    questions: Annotated[
        Path | None,
        typer.Option("--questions", help="Measure on rows with a `question` and the name of its `document`."),
    ] = None,
    k: Annotated[int, typer.Option("-k", min=1, help="Chunks to show; documents that count as found.")] = 5,
    words: Annotated[
        int | None, typer.Option("--words", min=5, help="The most words of a chunk; 150, or as the index has it.")
    ] = None,
    embedder: Annotated[
        str | None,
        typer.Option(
            "--embedder", help="Find by meaning too: minilm, encoder:FOLDER; none for words alone."
        ),
    ] = None,
    links: Annotated[bool, typer.Option("--links", help="Read files that links in DOCS lead to.")] = False,
    json: Json = False,
) -> None:  # fmt: skip
    """Find passages of documents: make an index, bring it up to date, ask it, measure it, erase a source from it."""
    asked = [name for name, value in (("--out", out), ("--ask", ask), ("--delete", delete), ("--questions", questions))
             if value is not None]  # fmt: skip
    if len(asked) != 1:
        raise UsageError(
            f"{' and '.join(asked)} are two things to do" if asked else "nothing is asked for",
            mend="give one of --out DIR (make an index), --ask QUESTION, --questions FILE, --delete SOURCE",
        )
    _require_fitting(asked[0], words=words is not None, links=links, embedder=embedder is not None)
    if out is not None:
        _build(path, out, words, embedder, links, json)
    elif ask is not None:
        _ask(path, ask, k, embedder, json)
    elif delete is not None:
        _delete(path, delete, json)
    elif questions is not None:
        _measure(path, questions, k, embedder, json)


def _require_fitting(mode: str, **given: bool) -> None:
    """UsageError for an option that another mode has."""
    fitting = {"--out": ("words", "links", "embedder"), "--delete": ()}.get(mode, ("embedder",))
    wrong = next((name for name, there in given.items() if there and name not in fitting), None)
    if wrong:
        raise UsageError(f"--{wrong} says nothing with {mode}", mend="leave it out")


def _build(path: Path, out: Path, words: int | None, embedder: str | None, links: bool, json: bool) -> None:
    from ..pipelines.index import build
    from .progress import Watch

    with Watch() as watch:
        built = build(path, out, words=words, embedder=embedder, links=links, sink=watch)
    if json:
        print_json(_built(built))
    else:
        _show_built(built)


def _built(built: Built) -> dict[str, Any]:
    from ..retrieval.folder import summary

    changes = built.changes
    return {
        "path": str(built.path), **summary(built.index), "added": changes.added, "changed": changes.changed,
        "removed": changes.removed, "unchanged": changes.unchanged, "embedded": changes.embedded,
        "made_anew": built.mended, "unread": [{"place": u.place, "reason": u.reason} for u in changes.unread],
        "unread_count": changes.unread_count, "other_files": built.others,
    }  # fmt: skip


def _show_built(built: Built) -> None:
    changes, index = built.changes, built.index
    if built.mended:
        say("the index was damaged: it is made anew, from all documents")
    stdout.print(
        f"{len(index.chunks):,} chunks of {len(index.sources):,} files in {escape(str(built.path))}: "
        f"{len(changes.added):,} new, {len(changes.changed):,} changed, {len(changes.removed):,} gone, "
        f"{changes.unchanged:,} as before",
        soft_wrap=True,
    )
    for name in changes.removed[:_SHOWN]:
        _print(f"  gone: {name}")
    for unread in changes.unread[:_SHOWN]:
        _print(f"  not read: {unread.place}: {unread.reason}")
    if changes.unread_count > _SHOWN:
        stdout.print(f"  and {changes.unread_count - _SHOWN:,} more not read")
    if built.others:
        told = ", ".join(f"{count} {ending or 'without an ending'}" for ending, count in sorted(built.others.items()))
        _print(f"files of other kinds left out: {told}")


def _print(text: str) -> None:
    """Text of documents, which may hold characters that act on a terminal."""
    from ..data.excerpt import visible

    stdout.print("".join(map(visible, text)), markup=False, soft_wrap=True)


def _ask(path: Path, question: str, k: int, embedder: str | None, json: bool) -> None:
    from ..pipelines.index import ask

    hits, prompt = ask(path, question, k, embedder)
    if json:
        shown = [
            {"id": hit.chunk.id, "source": hit.chunk.source, "place": hit.chunk.place, "heading": hit.chunk.heading,
             "score": hit.score, "rank_by_words": hit.by_words, "rank_by_vectors": hit.by_vectors,
             "text": hit.chunk.text}
            for hit in hits
        ]  # fmt: skip
        print_json({"question": question, "hits": shown, "prompt": prompt})
        return
    if not hits:
        stdout.print("no chunk shares a word with the question")
    for number, hit in enumerate(hits, start=1):
        head = " ".join(part for part in (hit.chunk.place, hit.chunk.heading and f"({hit.chunk.heading})") if part)
        _print(f"{number}. [{hit.chunk.id}] {head}  {hit.score:.4g}")
        _print(hit.chunk.text + "\n")


def _delete(path: Path, source: str, json: bool) -> None:
    from ..pipelines.index import delete
    from ..retrieval.folder import summary

    left = delete(path, source)
    if json:
        print_json({"path": str(path), "deleted": source, **summary(left)})
        return
    _print(f"{source} is erased from {path}; {len(left.chunks):,} chunks are left")
    say("while its file is among the documents, bringing the index up to date reads it again")


def _measure(path: Path, questions: Path, k: int, embedder: str | None, json: bool) -> None:
    from ..pipelines.index import quality

    found = quality(path, questions, k, embedder)
    figures = {f"recall@{k}": found.recall, "mrr": found.mrr, f"ndcg@{k}": found.ndcg}
    if json:
        print_json(
            {"questions": found.questions, "k": k, "not_indexed": found.not_indexed, "each": found.each,
             "metrics": {name: {"value": one.value, "interval": one.pair} for name, one in figures.items()}}
        )  # fmt: skip
        return
    _show_measured(found, {name: f"{one.value:.3f} ({one.low:.3f} to {one.high:.3f})" for name, one in figures.items()})


def _show_measured(found: Quality, figures: dict[str, str]) -> None:
    stdout.print(f"{found.questions:,} questions; figures with their 95 % intervals")
    for name, told in figures.items():
        stdout.print(f"  {name:<10} {told}")
    if found.not_indexed:
        names = ", ".join(found.not_indexed[:_SHOWN]) + (" ..." if len(found.not_indexed) > _SHOWN else "")
        _print(f"not in the index, and so never found: {names}")
