"""An index on disk: whole or not at all, nothing pickled, damage told, nothing of a deleted source left."""

from __future__ import annotations

import io
import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

import documents
from tunesmith.core import files, fingerprints
from tunesmith.core.errors import ConflictError, ContentError, MissingError, OutputError, TunesmithError, UsageError
from tunesmith.pipelines.index import ask, build, delete
from tunesmith.retrieval import folder, update
from tunesmith.retrieval.bm25 import Arrays
from tunesmith.retrieval.folder import MANIFEST, UnusableIndexError, load, locked
from tunesmith.retrieval.index import Index
from tunesmith.retrieval.reading import read_or_tell

TEXTS = {
    "parcels": "# Parcels\n\nA parcel takes seven days.\n\nYes.", "letters": "# Letters\n\nA letter takes zwei days.",
    "hr__secret": "# Herr Mustermann\n\nThe salary of Mustermann is 98765 euros.",
}  # fmt: skip


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return documents.written(tmp_path / "docs", **TEXTS)


@pytest.fixture
def out(tmp_path: Path, docs: Path) -> Path:
    build(docs, tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of files that are read."""
    names: list[str] = []

    def noted(path: Path, name: str, extractor: Any) -> Any:
        names.append(name)
        return read_or_tell(path, name, extractor)

    monkeypatch.setattr(update, "read_or_tell", noted)
    return names


def state(index: Index) -> Any:
    arrays = index.bm25.arrays
    return (
        index.chunks, dict(index.sources), index.words, arrays.words, arrays.data_M.tolist(),
        arrays.indices_M.tolist(), arrays.indptr_W.tolist(),
    )  # fmt: skip


def snapshot(path: Path) -> dict[str, bytes]:
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def test_what_is_written_is_what_is_loaded(docs: Path, out: Path) -> None:
    built = build(docs, out.with_name("second")).index
    assert state(load(out)) == state(built)
    hits, prompt = ask(out, "How long does a letter take?", 1)
    assert [hit.chunk.source for hit in hits] == ["letters.md"]
    assert f"[{hits[0].chunk.id}] Letters\n" in prompt


def test_only_what_changed_is_read_again(docs: Path, out: Path, reads: list[str]) -> None:
    before = load(out)
    again = build(docs, out)
    assert (reads, again.changes.unchanged, again.changes.any) == ([], 3, False)
    (docs / "letters.md").write_text("# Letters\n\nA letter takes three days.")
    documents.written(docs, new="# New\n\nHello.")
    (docs / "parcels.md").unlink()
    done = build(docs, out)
    assert reads == ["letters.md", "new.md"]
    assert (done.changes.added, done.changes.changed, done.changes.removed, done.changes.unchanged) == (
        ("new.md",), ("letters.md",), ("parcels.md",), 1,
    )  # fmt: skip
    assert {c.id for c in before.chunks} & {c.id for c in done.index.chunks} == {
        c.id for c in before.chunks if c.source == "hr/secret.md"
    }
    assert state(load(out)) == state(build(docs, out.with_name("anew")).index), "as if it were made anew"
    assert documents.holding(out, ["zwei", "parcel"]) == []


def test_what_stays_of_a_changed_file_keeps_its_ids(docs: Path, out: Path) -> None:
    [before] = [chunk.id for chunk in load(out).chunks if chunk.source == "letters.md"]
    (docs / "letters.md").write_text(TEXTS["letters"] + "\n\n# More\n\nAnd more.")
    build(docs, out)
    assert next(chunk.id for chunk in load(out).chunks if chunk.source == "letters.md") == before


def test_another_size_of_chunks_reads_all_again_and_then_stays(docs: Path, out: Path, reads: list[str]) -> None:
    assert len(build(docs, out, words=5).changes.changed) == 3
    assert len(reads) == 3
    assert build(docs, out).index.words == 5
    assert len(reads) == 3
    assert max(len(chunk.text.split()) for chunk in load(out).chunks) <= 5


def test_nothing_of_a_deleted_source_is_left(out: Path) -> None:
    words = ["Mustermann", "mustermann", "98765", "salary", "hr/secret", "secret"]
    assert documents.holding(out, words), "they are there before"
    (out / "data-0123abcd").mkdir()
    (out / "data-0123abcd" / "chunks.jsonl").write_text("Mustermann, of a process that was killed")
    (out / ".index.json.0123abcd.tmp").write_text("Mustermann")
    left = delete(out, "hr/secret.md")
    assert documents.holding(out, words) == []
    assert {chunk.source for chunk in left.chunks} == {"letters.md", "parcels.md"}
    assert [hit.chunk.source for hit in ask(out, "A parcel takes days", 5)[0]] == ["parcels.md", "letters.md"]
    assert ask(out, "salary", 5)[0] == []
    with pytest.raises(MissingError, match=r"letters\.md"):
        delete(out, "hr/secret.md")
    for source in ("letters.md", "parcels.md"):
        delete(out, source)
    assert ask(out, "A parcel takes days", 5)[0] == []
    assert load(out).chunks == ()


def test_a_deletion_that_leaves_something_says_so(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "discard", lambda path: None)
    with pytest.raises(OutputError, match="remove it by hand"):
        delete(out, "hr/secret.md")


@pytest.mark.parametrize("last", ["chunks.jsonl", "words.json", "bm25-indptr.npy", MANIFEST])
def test_a_write_that_fails_leaves_the_index_as_it_was(
    docs: Path, out: Path, monkeypatch: pytest.MonkeyPatch, last: str
) -> None:
    before, write = snapshot(out), files.write_bytes

    def failing(path: Path, content: bytes) -> None:
        if path.name == last:
            raise OutputError(f"cannot write {path}")
        write(path, content)

    documents.written(docs, new="hello")
    monkeypatch.setattr(files, "write_bytes", failing)
    with pytest.raises(OutputError):
        build(docs, out)
    assert snapshot(out) == before
    with pytest.raises(OutputError):
        build(docs, out.with_name("fresh"))
    assert not out.with_name("fresh").exists()


def test_nothing_is_pickled(docs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any, **__: Any) -> None:
        raise AssertionError("pickled")

    for name in ("dump", "dumps", "load", "loads", "Pickler", "Unpickler"):
        monkeypatch.setattr(pickle, name, never)
    build(docs, tmp_path / "index", words=20)
    ask(tmp_path / "index", "letter", 3)
    delete(tmp_path / "index", "letters.md")
    for path in (tmp_path / "index").rglob("*.npy"):
        assert np.load(path, allow_pickle=False).dtype.hasobject is False


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, place: Path):
        self.place = place

    def __reduce__(self) -> Any:
        return Path.touch, (self.place,)


def forge(out: Path, name: str, content: bytes) -> None:
    """Put a file into the index with a manifest that says it belongs there."""
    manifest = json.loads((out / MANIFEST).read_bytes())
    (out / manifest["data"] / name).write_bytes(content)
    manifest["files"][name] = {"bytes": len(content), "sha256": fingerprints.of_bytes(content)}
    (out / MANIFEST).write_text(json.dumps(manifest))


def npy(array: Any) -> bytes:
    made = io.BytesIO()
    np.save(made, array, allow_pickle=True)
    return made.getvalue()


def test_what_is_pickled_is_not_loaded(out: Path, tmp_path: Path) -> None:
    forge(out, "bm25-data.npy", npy(np.array([Payload(tmp_path / "run")], dtype=object)))
    with pytest.raises(UnusableIndexError, match="no plain array"):
        load(out)
    forge(out, "bm25-data.npy", pickle.dumps(Payload(tmp_path / "run")))
    with pytest.raises(UnusableIndexError, match="no plain array"):
        load(out)
    assert not (tmp_path / "run").exists()


FORGED: list[tuple[str, Callable[[Any], Any], str]] = [
    ("bm25-indices.npy", lambda a: a + 1000, "a chunk that is not there"),
    ("bm25-indices.npy", lambda a: a - 1000, "a chunk that is not there"),
    ("bm25-indices.npy", lambda a: a[:-1], "do not fit each other"),
    ("bm25-indptr.npy", lambda a: a[:-1], "do not fit each other"),
    ("bm25-indptr.npy", lambda a: a[::-1].copy(), "out of order"),
    ("bm25-data.npy", lambda a: a.astype(np.float64), "other types"),
    ("bm25-data.npy", lambda a: a[None], "other shapes"),
]


@pytest.mark.parametrize(("name", "change", "why"), FORGED)
def test_arrays_that_are_no_index_are_refused(out: Path, name: str, change: Callable[[Any], Any], why: str) -> None:
    old = np.load(out / json.loads((out / MANIFEST).read_bytes())["data"] / name)
    forge(out, name, npy(change(old)))
    with pytest.raises(UnusableIndexError) as told:
        load(out)
    assert why in str(told.value.why)


def test_every_byte_of_damage_is_told_and_mended_from_the_documents(docs: Path, out: Path, tmp_path: Path) -> None:
    good, wanted = tmp_path / "good", state(load(out))
    shutil.copytree(out, good)
    names = [path.relative_to(out) for path in out.rglob("*") if path.is_file() and path.name != MANIFEST]
    assert len(names) == 5
    for name in names:
        content = (good / name).read_bytes()
        for damaged in (content[:-1], content[:10] + bytes([content[10] ^ 1]) + content[11:], b"", None):
            shutil.rmtree(out)
            shutil.copytree(good, out)
            (out / name).unlink() if damaged is None else (out / name).write_bytes(damaged)
            with pytest.raises(UnusableIndexError) as told:
                ask(out, "letter", 1)
            assert f"tunesmith index DOCS --out {out}" in str(told.value.mend)
            built = build(docs, out)
            assert built.mended
            assert state(load(out)) == wanted


def _changed(out: Path, **values: Any) -> None:
    told = json.loads((out / MANIFEST).read_bytes()) | values
    (out / MANIFEST).write_bytes(orjson.dumps(told))


def test_an_index_of_another_version_and_a_broken_manifest_are_told(docs: Path, out: Path, tmp_path: Path) -> None:
    _changed(out, tunesmith_index=99, made_by="7.0")
    for act in (lambda: load(out), lambda: build(docs, out), lambda: delete(out, "letters.md")):
        with pytest.raises(ContentError, match="format 99") as told:
            act()
        assert "7.0" in str(told.value.why)
        assert "index the documents again" in str(told.value.mend)
    _changed(out, tunesmith_index=1, chunks="many")
    with pytest.raises(UnusableIndexError, match="damaged"):
        load(out)
    _changed(out, chunks=4, data="../../docs")
    with pytest.raises(UnusableIndexError):
        load(out)
    (out / MANIFEST).write_text("{")
    with pytest.raises(ContentError, match="damaged, or not of an index"):
        load(out)
    (tmp_path / "empty").mkdir()
    for place in (tmp_path / "empty", tmp_path / "absent"):
        with pytest.raises(MissingError):
            load(place)


def test_a_reader_is_not_disturbed_by_a_change(docs: Path, out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The manifest is read, then the index is replaced, then the rest is read."""
    documents.written(docs, new="unicorn")
    checked, turns = folder._checked, iter([True])

    def disturbed(*args: Any) -> bytes:
        if next(turns, False):
            build(docs, out)
        return checked(*args)

    monkeypatch.setattr(folder, "_checked", disturbed)
    assert [chunk.source for chunk in load(out).chunks if chunk.text == "unicorn"] == ["new.md"]


def test_two_processes_cannot_change_one_index(docs: Path, out: Path) -> None:
    with locked(out):
        for act in (lambda: build(docs, out), lambda: delete(out, "letters.md")):
            with pytest.raises(ConflictError, match="another process is changing"):
                act()
        assert ask(out, "letter", 1)[0], "it can be read"
    build(docs, out)


def test_folders_that_are_something_else_are_left_alone(docs: Path, out: Path, tmp_path: Path) -> None:
    other = documents.written(tmp_path / "other", note="mine")
    cases: list[tuple[Path, Path, type[TunesmithError]]] = [
        (docs, other, ConflictError), (docs, docs, UsageError), (docs, docs / "index", UsageError),
        (docs, docs / "letters.md", UsageError), (other, out, ConflictError), (docs, other / "note.md", OutputError),
        (tmp_path / "absent", out, MissingError),
    ]  # fmt: skip
    for given, place, error in cases:
        before = snapshot(tmp_path)
        with pytest.raises(error):
            build(given, place)
        assert snapshot(tmp_path) == before
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "x.md").write_text("  \n")
    with pytest.raises(ContentError, match="no text to index"):
        build(tmp_path / "empty", tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_a_folder_of_documents_may_move(docs: Path, out: Path, reads: list[str]) -> None:
    docs.rename(docs.with_name("elsewhere"))
    assert build(docs.with_name("elsewhere"), out).changes.unchanged == 3
    assert reads == []


def test_arrays_of_nothing() -> None:
    nothing = Arrays([], np.zeros(0, np.float32), np.zeros(0, np.int32), np.zeros(1, np.int64))
    assert nothing.problem(0) is None
