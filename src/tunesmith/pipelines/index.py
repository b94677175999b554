"""Documents to an index, questions to it, and how well it answers them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import ConflictError, ContentError, MissingError, UsageError
from ..core.events import Sink, silent
from ..data.source import rows
from ..evaluation.stats import Interval, paired_bootstrap
from ..retrieval import folder as on_disk
from ..retrieval.chunks import WORDS
from ..retrieval.context import Context
from ..retrieval.embedding import EmbedderSpec, embedding
from ..retrieval.extract import Extractor
from ..retrieval.index import DEPTH, Hit, Index
from ..retrieval.quality import ndcg, recall, reciprocal_rank
from ..retrieval.update import Changes, Embedding, updated, without
from ..retrieval.vectors import Embedder
from ..retrieval.walk import Files, walk

_RESAMPLES = 1000


@dataclass(frozen=True)
class Built:
    """What an index holds now, and how it differs from before."""

    path: Path
    index: Index
    changes: Changes
    others: dict[str, int]
    """Files of other kinds, by the ending of their names."""
    mended: bool
    """Whether it was damaged, and made anew."""


@dataclass(frozen=True)
class Quality:
    """How well the documents of questions were found. Each question's figures, and their means with intervals."""

    questions: int
    k: int
    recall: Interval
    mrr: Interval
    ndcg: Interval
    not_indexed: tuple[str, ...]
    """Documents of the questions that are not in the index: each counts as not found."""
    each: tuple[dict[str, Any], ...]


def build(
    documents: Path, out: Path, *, words: int | None = None, embedder: str | None = None, links: bool = False,
    sink: Sink = silent,
) -> Built:  # fmt: skip
    """Make the index `out`, or bring it up to date: what is given nowhere stays as it is there.

    `words` is the most of a chunk, `embedder` as `retrieval.embedding` names it. MissingError, ContentError where there
    is no text at all, ConflictError where `out` is something else, OutputError.
    """
    files = walk(documents, links=links)
    _require_apart(documents, out)
    asked = embedding(embedder) if embedder is not None else None
    with on_disk.locked(out), Extractor() as extractor:
        old, mended = _before(out)
        _require_same(old, files, out, documents)
        if embedder is None and old.embedded:
            asked = embedding(old.embedded.asked)
        built = asked.build() if asked else None
        made, changes = updated(
            old, files, words=words or old.words or WORDS, extractor=extractor, sink=sink,
            embedding=Embedding(built, asked.asked) if built and asked else None,
        )  # fmt: skip
        if not made.chunks:
            raise _nothing(documents, changes)
        if made is old:
            on_disk.clean(out)
        else:
            on_disk.write(out, made)
    return Built(out, made, changes, files.others, mended)


def _require_apart(documents: Path, out: Path) -> None:
    if out.resolve().is_relative_to(documents.resolve()):
        raise UsageError(
            f"the index {out} would lie among its own documents", mend=f"name a folder outside of {documents}"
        )


def _before(out: Path) -> tuple[Index, bool]:
    """The index that is there, or an empty one; and whether one was there that is of no use."""
    if not on_disk.is_index(out):
        return Index.of(()), False
    try:
        return on_disk.load(out), False
    except on_disk.UnusableIndexError:
        return Index.of(()), True


def _require_same(old: Index, files: Files, out: Path, documents: Path) -> None:
    if old.sources and not set(old.sources) & set(files.paths):
        raise ConflictError(
            f"{out} is an index of other documents: none of its {len(old.sources)} is in {documents}",
            why=f"it has {min(old.sources)}, for one, and all of them would go",
            mend="name the folder it was made from, or another --out",
        )


def _nothing(documents: Path, changes: Changes) -> ContentError:
    where, why = (changes.unread[0].place, changes.unread[0].reason) if changes.unread else (None, None)
    return ContentError(
        f"there is no text to index in {documents}", where=where, why=why,
        mend="give Markdown, text, HTML or PDF files, or JSON Lines with a 'text' each",
    )  # fmt: skip


def ask(folder: Path, question: str, k: int, embedder: str | None = None) -> tuple[list[Hit], str]:
    """The chunks that answer best, and a prompt that asks a model to answer from them."""
    index = on_disk.load(folder)
    hits = index.ask(question, k, _embedder(index, folder, embedder))
    return hits, Context.of(hit.chunk for hit in hits).prompt(question)


def delete(folder: Path, source: str) -> Index:
    """Erase a source: nothing of its text is left in the folder. MissingError for one that is not there."""
    if not folder.is_dir():
        raise MissingError(f"no such folder: {folder}", mend="name the folder of an index")
    with on_disk.locked(folder):
        index = on_disk.load(folder)
        on_disk.clean(folder)  # an erasure that was killed may have left its text, though the source is gone
        left = without(index, source)
        on_disk.write(folder, left)
    return left


def _embedder(index: Index, folder: Path, asked: str | None) -> Embedder | None:
    """That of the index; None where it has none, or `none` is asked for."""
    if asked is not None and embedding(asked) is None:
        return None
    wanted = asked or (index.embedded.asked if index.embedded else None)
    if wanted is None:
        return None
    if not index.embedded:
        raise UsageError(
            f"{folder} has no vectors", mend=f"make them: tunesmith index DOCS --out {folder} --embedder {wanted}"
        )
    spec: EmbedderSpec | None = embedding(wanted)
    found = spec.build() if spec else None
    if found and found.name != index.embedded.name:
        raise ConflictError(
            f"{wanted} is not what the vectors of {folder} were made with ({index.embedded.asked})",
            why="its weights are others", mend=f"make them anew: tunesmith index DOCS --out {folder} --embedder "
            f"{wanted}; or ask by words alone: --embedder none",
        )  # fmt: skip
    return found


def quality(folder: Path, questions: Path, k: int, embedder: str | None = None) -> Quality:
    """recall@k, MRR and nDCG@k of the index on rows {"question": ..., "document": name, or several}.

    A name is a source, or another that its document has: the file's without folder or ending; of a row its `id`,
    `title`, `name`, `path` or `source:line`. Ranked are the documents of the first DEPTH chunks, or k if that is more.
    ContentError for rows that do not fit.
    """
    index = on_disk.load(folder)
    opened = _embedder(index, folder, embedder)
    pairs = list(_pairs(questions))
    named = _named(index)
    each = [_judged(index, opened, question, wanted, named, k) for question, wanted in pairs]
    absent = dict.fromkeys(name for _, wanted in pairs for name in wanted if name not in named)
    if all(name in absent for _, wanted in pairs for name in wanted):
        raise ContentError(
            f"no document of {questions} is in {folder}", why=f"'{next(iter(absent))}', for one",
            mend=f"name documents as the index does: '{min(named, default='')}', for one",
        )  # fmt: skip
    figures = {name: _mean([row[name] for row in each]) for name in ("recall", "reciprocal_rank", "ndcg")}
    return Quality(
        len(each), k, figures["recall"], figures["reciprocal_rank"], figures["ndcg"], tuple(absent), tuple(each)
    )


def _judged(
    index: Index, embedder: Embedder | None, question: str, wanted: Sequence[str], named: dict[str, set[str]], k: int
) -> dict[str, Any]:
    """One question's figures. A name of several documents is found where one of them is."""
    hits = index.ask(question, max(k, DEPTH), embedder)
    ranked = list(dict.fromkeys(hit.chunk.document for hit in hits))
    groups = {name: named.get(name, set()) for name in dict.fromkeys(wanted)}
    seen: list[str] = []
    for document in ranked:
        name = next((name for name, held in groups.items() if document in held and name not in seen), None)
        seen.append(name or f"\0{document}")
    return {
        "question": question, "documents": list(groups), "recall": recall(seen, groups, k),
        "reciprocal_rank": reciprocal_rank(seen, groups), "ndcg": ndcg(seen, dict.fromkeys(groups, 1.0), k),
        "found": ranked[:k],
    }  # fmt: skip


def _named(index: Index) -> dict[str, set[str]]:
    """The documents that each name stands for."""
    found: dict[str, set[str]] = {}
    for chunk in index.chunks:
        for name in (chunk.document, chunk.source, *chunk.names):
            found.setdefault(name, set()).add(chunk.document)
    return found


def _pairs(path: Path) -> Iterator[tuple[str, list[str]]]:
    count = 0
    for raw in rows(path, asked=None, known=lambda names: "question" in names):
        reason = raw.reason or _fault(raw.value)
        if reason:
            raise ContentError(
                f"a row of {path} is no question with its document", where=f"{path.name}:{raw.line}", why=reason,
                mend='write rows like {"question": "...", "document": "guide.md"}, or "documents" with a list',
            )  # fmt: skip
        count += 1
        wanted = raw.value.get("documents") or [raw.value["document"]]
        yield raw.value["question"], [str(name) for name in wanted]
    if not count:
        raise ContentError(f"{path} holds no question")


def _fault(row: Any) -> str | None:
    if not isinstance(row, dict) or not isinstance(row.get("question"), str) or not row["question"].strip():
        return "there is no 'question'"
    several = row.get("documents")
    listed = several if several is not None else [row["document"]] if row.get("document") is not None else []
    if not isinstance(listed, list) or not listed or not all(isinstance(name, str | int) for name in listed):
        return "there is no 'document', and no list of 'documents'"
    return None


def _mean(values: list[float]) -> Interval:
    array = np.array(values, dtype=np.float64)
    return paired_bootstrap(array, array, resamples=_RESAMPLES, seed=0).tuned
